"""Mined negatives against brute force in float64; resumed against unbroken runs."""

import json

import numpy as np
import pytest
from word_encoder import WordEncoder

from gemb.checks import UserError
from gemb.curation import Choice, Margin, mine, prepare, retrieval
from gemb.curation.rescoring import VectorScores
from gemb.data.forms import Pairs
from gemb.data.selection import Selection
from gemb.data.sources.reading import files
from gemb.store import encoded

WORDS = [f"w{i}" for i in range(60)]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def text(rng, length):
    return " ".join(rng.choice(WORDS, length))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs with shared queries, lists of documents, and a corpus with copies of answers."""
    rng = np.random.default_rng(3)
    home = tmp_path_factory.mktemp("mining")
    documents = [text(rng, 8) for _ in range(300)]
    pairs = []
    for i in range(70):
        shared = documents[i].split()[:4]
        pairs.append({"query": " ".join(shared), "document": documents[i], "row": i})
    pairs[5]["document"] = [documents[5], documents[105]]
    pairs[6] = {"query": pairs[5]["query"].upper(), "document": documents[206], "row": 6}
    pairs[7]["document_id"] = "d250"
    corpus = [{"_id": f"d{i}", "text": document} for i, document in enumerate(documents)]
    corpus.append({"_id": "copy", "text": documents[3].upper() + "!"})
    corpus.append({"_id": "query", "text": pairs[4]["query"] + "."})
    corpus.append({"_id": "twice", "text": documents[299].title()})
    write(home / "corpus.jsonl", corpus)
    write(home / "pairs.jsonl", pairs)
    return home


def run(folder, output, choice, encoder=None, rescorer=None, **options):
    pairs, documents = prepare.read(folder / "pairs.jsonl", folder / "corpus.jsonl")
    encoder = encoder or WordEncoder()
    ready = prepare.encode(pairs, documents, encoder, output, progress=False)
    results = mine(
        *ready, output, model=encoder.fingerprint, choice=choice, progress=False,
        rescorer=rescorer and rescorer(pairs, documents), **options,
    )  # fmt: skip
    return results, read(output / "pairs.jsonl")


def flat(text):
    return "".join(c for c in text.casefold() if c.isalnum())


def brute_force(folder, choice, encoder, second=None):
    """The negatives of each pair, by a plain loop over all documents in float64."""
    pairs, corpus = read(folder / "pairs.jsonl"), read(folder / "corpus.jsonl")
    texts, ids = [row["text"] for row in corpus], {row["_id"]: row["text"] for row in corpus}
    texts += [d for p in pairs for d in listed(p) if d not in texts]
    scoring = second or encoder
    near, far = (e.encode(texts, kind="document").astype(float) for e in (encoder, scoring))
    known = {}
    for pair in pairs:
        own = known.setdefault(flat(pair["query"]), {flat(pair["query"])})
        own |= {flat(d) for d in listed(pair)}
        own |= {flat(ids[pair["document_id"]])} if "document_id" in pair else set()
    found = []
    for pair in pairs:
        query = encoder.encode([pair["query"]], kind="query")[0].astype(float)
        again = scoring.encode([pair["query"]], kind="query")[0].astype(float)
        seen, candidates = set(known[flat(pair["query"])]), []
        for row in np.argsort(-(near @ query), kind="stable"):
            if flat(texts[row]) not in seen:
                seen.add(flat(texts[row]))
                candidates.append(row)
        window = candidates[choice.first_rank - 1 : choice.last_rank]
        positive = min(far[texts.index(d)] @ again for d in listed(pair))
        limit = positive - choice.margin.relative * abs(positive)
        allowed = [row for row in window if far[row] @ again <= limit]
        allowed.sort(key=lambda row: -(far[row] @ again))
        found.append([texts[row] for row in allowed[: choice.count]])
    return found


def listed(pair):
    return pair["document"] if isinstance(pair["document"], list) else [pair["document"]]


@pytest.mark.parametrize("window", [(1, 100), (5, 40)])
def test_equals_brute_force(folder, tmp_path, window):
    choice = Choice(4, *window, Margin(relative=0.3))
    results, rows = run(folder, tmp_path, choice, chunk=16)
    expected = brute_force(folder, choice, WordEncoder())
    assert [row["negatives"] for row in rows] == expected
    assert [row["row"] for row in rows] == list(range(70))
    assert any(len(negatives) < 4 for negatives in expected)
    assert results["counts"]["rejected_by_margin"] > 0
    assert results["counts"]["negatives"] == sum(map(len, expected))


def test_scann_finds_the_same_and_its_index_is_kept(folder, tmp_path):
    pytest.importorskip("scann", exc_type=ImportError)
    choice = Choice(4, margin=Margin(relative=0.3))
    expected = run(folder, tmp_path / "exact", choice)[1]
    found = run(folder, tmp_path / "scann", choice, search="scann")[1]
    assert [row["negatives"] for row in found] == [row["negatives"] for row in expected]
    [index] = (tmp_path / "scann" / "work").glob("scann-*")
    built = (index / "index.json").stat().st_mtime_ns
    assert run(folder, tmp_path / "scann", choice, search="scann")[1] == found
    assert (index / "index.json").stat().st_mtime_ns == built


def test_known_answers_are_no_negatives_of_any_pair_of_the_query(folder, tmp_path):
    choice = Choice(50, 1, 100, Margin(relative=0.0))
    _, rows = run(folder, tmp_path, choice)
    texts = {row["row"]: set(map(flat, row["negatives"])) for row in rows}
    for row in rows:
        assert not texts[row["row"]] & {flat(row["query"]), *map(flat, listed(row))}
        assert len(texts[row["row"]]) == len(row["negatives"])  # no text twice
    both = set(map(flat, [*listed(rows[5]), *listed(rows[6])]))
    assert not (texts[5] | texts[6]) & both
    assert all("d250" not in row["negative_ids"] for row in rows if row["row"] == 7)


def test_training_reads_what_was_mined(folder, tmp_path):
    run(folder, tmp_path, Choice(3))
    selection = Selection(files(tmp_path / "pairs.jsonl"), Pairs(negatives=3))
    assert len(selection) == 70
    assert {len(selection[i]["negatives"]) for i in range(70)} >= {3}


def test_ids_of_other_negatives_do_not_stay(folder, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert any("negative_ids" in row for row in run(folder, first, Choice(3))[1])
    pairs, documents = prepare.read(first / "pairs.jsonl")  # without the corpus, which has ids
    ready = prepare.encode(pairs, documents, WordEncoder(), second, progress=False)
    mine(*ready, second, model="again", choice=Choice(3), progress=False)
    assert not any("negative_ids" in row for row in read(second / "pairs.jsonl"))


def test_a_second_model_decides_within_the_window(folder, tmp_path):
    second = WordEncoder(seed=9)

    def rescorer(pairs, documents):
        queries = second.encode([pairs.queries[i] for i in range(len(pairs.queries))], kind="query")
        found = second.encode([documents[i] for i in range(len(documents))], kind="document")
        return VectorScores(queries, found, second.fingerprint)

    choice = Choice(3, 1, 30, Margin(relative=0.3))
    _, rows = run(folder, tmp_path, choice, rescorer=rescorer)
    expected = brute_force(folder, choice, WordEncoder(), second)
    assert expected != brute_force(folder, choice, WordEncoder())
    assert [row["negatives"] for row in rows] == expected


def test_sampling_is_seeded_even_and_within_what_is_allowed(folder, tmp_path):
    settings = {"count": 3, "last_rank": 40, "margin": Margin(relative=0.2), "choose": "sampled"}
    first = run(folder, tmp_path / "a", Choice(**settings, seed=1), chunk=7)[1]
    again = run(folder, tmp_path / "b", Choice(**settings, seed=1), chunk=64)[1]
    other = run(folder, tmp_path / "c", Choice(**settings, seed=2))[1]
    assert first == again
    assert first != other
    top = run(folder, tmp_path / "d", Choice(**(settings | {"count": 40, "choose": "top"})))[1]
    places = []
    for drawn, row in zip(first, top, strict=True):
        allowed = row["negatives"]
        assert set(drawn["negatives"]) <= set(allowed)
        assert drawn["negative_scores"] == sorted(drawn["negative_scores"], reverse=True)
        if len(allowed) >= 10:
            places += [allowed.index(n) / (len(allowed) - 1) for n in drawn["negatives"]]
    assert abs(np.mean(places) - 0.5) < 4 / np.sqrt(12 * len(places))


def test_a_killed_run_ends_with_the_same_file(folder, tmp_path):
    choice = Choice(4, margin=Margin(relative=0.3), choose="sampled")
    whole, _ = run(folder, tmp_path / "whole", choice, chunk=16)

    # The vectors: the second step of encoding is killed.
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "killed", choice, WordEncoder(fail_after=1), chunk=16)
    calls, search = [], retrieval.search_queries

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return search(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "search_queries", dying)
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "killed", choice, chunk=16)
        assert not (tmp_path / "killed" / "pairs.jsonl").exists()
        resumed, _ = run(folder, tmp_path / "killed", choice, chunk=16)
    assert len(calls) == 3 + 3  # of five chunks two were there
    for name in ("pairs.jsonl", "report.html"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert resumed["counts"] == whole["counts"]


def test_vectors_resume_where_they_stopped(tmp_path):
    texts = [f"w{i} w{i + 1}" for i in range(25)]
    whole = WordEncoder()
    options = {"kind": "document", "content": "x", "step": 10, "progress": False}
    expected = np.array(encoded(whole, texts, tmp_path / "whole", **options))
    np.testing.assert_array_equal(expected, WordEncoder().encode(texts, kind="document"))
    with pytest.raises(KeyboardInterrupt):
        encoded(WordEncoder(fail_after=2), texts, tmp_path / "killed", **options)
    rest = WordEncoder()
    np.testing.assert_array_equal(encoded(rest, texts, tmp_path / "killed", **options), expected)
    assert sum(map(len, rest.encoded)) == 5
    kept = WordEncoder(fail_after=0)
    np.testing.assert_array_equal(encoded(kept, texts, tmp_path / "killed", **options), expected)


def test_the_report_tells_and_warns(folder, tmp_path):
    results, _ = run(folder, tmp_path, Choice(3, margin=Margin(absolute=3.0)))
    assert results["rates"]["candidates rejected by the margin"] == 1
    assert any("100.0%" in warning for warning in results["warnings"])
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["counts"]["pairs_without"] == 70
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count('class="example"') == 20
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert not list((tmp_path / "work").glob("mine-*"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count: expected 1 or more"),
        ({"first_rank": 9, "last_rank": 3}, "ranks: expected 1 <= first_rank"),
        ({"choose": "best"}, "choose: expected one of top, sampled"),
    ],
)
def test_bad_choices_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Choice(**values)
