"""Near-duplicates planted in texts are found, and texts that are merely alike stay apart."""

import json
import string
from pathlib import Path

import numpy as np
import pytest
from word_encoder import WordEncoder

from gemb.checks import UserError
from gemb.curation import Likeness, deduplicate, inputs
from gemb.curation.duplicates.near_duplicates import slot_of
from gemb.curation.duplicates.texts import words
from gemb.curation.duplicates.union import groups

PLAIN = Path(__file__).parents[3] / "shared" / "data" / "text" / "plain" / "wiki_sents.txt.gz"
WORDS = ["".join(np.random.default_rng(i).choice(list(string.ascii_lowercase), 6))
         for i in range(400)]  # fmt: skip


def planted(rng, texts, count):
    """(source, kind, copy): letters in another case, punctuation added, one word changed."""
    made = []
    for number, source in enumerate(rng.choice(len(texts), count, replace=False)):
        words = texts[source].split()
        place, kind = int(rng.integers(len(words))), ("case", "punctuation", "word")[number % 3]
        if kind == "case":
            words = [word.upper() if rng.random() < 0.5 else word.title() for word in words]
        elif kind == "punctuation":
            words[place] += str(rng.choice(list(",;:!?")))
            words[-1] += "..."
        else:
            words[place] = str(rng.choice([word for word in WORDS if word != words[place]]))
        made.append((int(source), kind, " ".join(words)))
    return made


def run(tmp_path, texts, encoder=None, keep="first", search="auto", **likeness):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": t, "row": i}) + "\n" for i, t in enumerate(texts)))
    records = inputs.read_texts(path, ["text"])
    results = deduplicate(
        records, ["text"], encoder or WordEncoder(), tmp_path / "out", progress=False,
        keep=keep, search=search, likeness=Likeness(**likeness),
    )  # fmt: skip
    names = ("kept.jsonl", "clusters.jsonl")
    return results, *([json.loads(line) for line in (tmp_path / "out" / n).open()] for n in names)


def judge(texts, copies, clusters):
    """Share of copies in their source's cluster, and of sources that joined another source."""
    number = {text: i for i, text in enumerate(texts)}
    cluster = {}
    for place, row in enumerate(clusters):
        for member in [row["kept"], *(other["text"] for other in row["removed"])]:
            cluster[member] = place
    found = [
        texts[i] in cluster and cluster.get(copy) == cluster[texts[i]] for i, _, copy in copies
    ]
    sources = [[t for t in [row["kept"], *(o["text"] for o in row["removed"])] if t in number]
               for row in clusters]  # fmt: skip
    return np.mean(found), sum(max(len(own) - 1, 0) for own in sources) / len(texts)


def test_planted_near_duplicates_are_found(tmp_path):
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, rng.integers(7, 20))) for _ in range(700)]
    copies = planted(rng, texts, 210)
    results, kept, clusters = run(tmp_path, texts + [copy for *_, copy in copies])
    found, wrong = judge(texts, copies, clusters)
    assert found >= 0.98
    assert wrong == 0
    assert [row["row"] for row in kept[:700]] == list(range(700))  # the first stays
    assert results["counts"]["kept"] == len(kept)
    assert len(kept) + sum(len(row["removed"]) for row in clusters) == 910
    assert results["counts"]["removed_as_copies"] == 140


def test_planted_in_real_sentences(tmp_path):
    """Sentences of three words or more: in prose one of three may be another."""
    if not PLAIN.exists():
        pytest.skip(f"{PLAIN} is not there")
    import gzip

    with gzip.open(PLAIN, "rt", encoding="utf-8") as lines:
        read = [line.strip() for line in lines]
    texts = list(dict.fromkeys(line for line in read if len(line.split()) >= 3))[:1_500]
    copies = planted(np.random.default_rng(2), texts, 300)
    _, _, clusters = run(tmp_path, texts + [c for *_, c in copies], WordEncoder(dim=64))
    found, wrong = judge(texts, copies, clusters)
    assert found >= 0.98
    assert wrong < 0.01


def test_rows_of_a_table_and_fillers_of_a_template_stay_apart(tmp_path):
    texts = [f"the population of the town was {n} at the census" for n in (271, 3594, 1630)]
    texts += [f"of or relating to the people of {name}" for name in ("Peru", "Chile", "Cuba")]
    texts += ["an old house by the sea in the north", "an old house by the sea in the south"]
    _, kept, clusters = run(tmp_path, texts, similarity=-1.0)
    assert [row["row"] for row in kept] == [0, 1, 2, 3, 4, 5, 6]
    assert [row["kept"] for row in clusters] == [texts[6]]
    _, kept, _ = run(tmp_path, texts, similarity=-1.0, surface=0.0)
    assert len(kept) == 1


def test_the_corpus_decides_whether_a_short_text_is_a_copy(tmp_path):
    """One word of four differs: a copy in prose, another text among definitions."""
    prose = ["the cat sat down", "the dog sat down", "rain fell all night", "we left at dawn"]
    templates = [f"relating to the {name}" for name in ("sun", "moon", "sea", "wind")]
    for name, texts, settings, merged in (
        ("prose", prose, {}, 1),
        ("kept", prose, {"short": "keep"}, 0),
        ("definitions", prose + templates, {}, 0),
        ("merged", prose + templates, {"short": "merge"}, 1),
    ):
        (tmp_path / name).mkdir()
        results, *_ = run(tmp_path / name, texts, similarity=-1.0, **settings)
        assert results["counts"]["removed"] == merged, name
        assert results["counts"]["short"] == merged


def test_the_first_or_the_longest_stays(tmp_path):
    texts = [
        "one two three four five six",
        "One, two, three... four five six!",
        "another text here",
    ]
    _, kept, clusters = run(tmp_path, texts)
    assert [row["row"] for row in kept] == [0, 2]
    assert clusters[0]["removed"][0]["where"].endswith("texts.jsonl:2")
    assert clusters[0]["removed"][0]["score"] is None
    _, kept, _ = run(tmp_path, texts, keep="longest")
    assert [row["row"] for row in kept] == [1, 2]


def test_where_two_texts_differ():
    def slot(one, other, surface, score=0.7):
        return slot_of(words(one), words(other), surface, score)

    first, second = "a city in Ohio on the lake", "a city in Iowa on the lake"
    around, fillers, short = slot(first, second, 0.8)
    assert fillers == ["ohio", "iowa"]
    assert not short
    assert slot(first, "a city in Utah on the lake", 0.8) == (around, ["ohio", "utah"], False)
    assert slot(first, second, 0.9) == (around, fillers, True)
    assert slot("two words", "two hats", 0.9) is None
    assert slot("one two three four", "one two five six", 0.9) is None
    assert slot("in 12 days we go", "in 13 days we go", 0.5) is None
    assert slot("in 12 days we go", "in days we go", 0.5)[1] == ["12", ""]
    assert slot("this is not a good hat", "this is a good hat", 0.5) is None
    apart = "one two three four five six seven eight", "ten two three four five six seven nine"
    assert slot(*apart, 0.7) is None
    assert slot(*apart, 0.7, score=0.96)[1] == list(apart)


def test_groups_are_connected_components():
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 60, (35, 2))
    expected = np.arange(60)
    for _ in range(60):  # the lowest number spreads along the edges
        for a, b in edges:
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert groups(60, edges).tolist() == expected.tolist()
    assert groups(3, []).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "last"}, "keep: expected one of first, longest"),
        ({"similarity": 2.0}, "expected a similarity of -1 to 1"),
        ({"neighbours": 0}, "neighbours: expected 1 or more"),
        ({"short": "maybe"}, "short: expected one of auto, merge, keep"),
        ({"search": "best"}, "search: expected one of auto, exact, scann"),
    ],
)
def test_bad_settings_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, ["one text", "two texts"], **options)
