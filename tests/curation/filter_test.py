"""The consistency filter against a plain loop over ranks."""

import json

import numpy as np
import pytest
from word_encoder import WordEncoder

from gemb.checks import UserError
from gemb.curation import filter_pairs, prepare

WORDS = [f"w{i}" for i in range(40)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Documents and queries that share from none to all of their words."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("filter") / "pairs.jsonl"
    rows = []
    for i in range(60):
        document = rng.choice(WORDS, 8)
        query = np.concatenate([document[: i % 5], rng.choice(WORDS, 2)])
        rows.append({"query": " ".join(query), "document": " ".join(document), "row": i})
    rows[8]["query"] = rows[7]["query"]
    rows[9]["document"] = [rows[9]["document"], "w1 w2 w3"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(path, output, k, **options):
    table, documents = prepare.read(path)
    encoder = WordEncoder()
    ready = prepare.encode(table, documents, encoder, output, progress=False)
    results = filter_pairs(
        *ready, output, model=encoder.fingerprint, k=k, progress=False, **options
    )
    names = ("pairs.jsonl", "rejected.jsonl")
    return results, *([json.loads(line) for line in (output / n).open()] for n in names)


def listed(row):
    return row["document"] if isinstance(row["document"], list) else [row["document"]]


def ranks(path):
    """{(row, document): rank}; other answers of the query do not count."""
    rows, encoder = [json.loads(line) for line in path.open()], WordEncoder()
    texts = list(dict.fromkeys(d for row in rows for d in listed(row)))
    vectors = encoder.encode(texts, kind="document").astype(float)
    found = {}
    for row in rows:
        scores = vectors @ encoder.encode([row["query"]], kind="query")[0]
        answers = {d for r in rows if r["query"] == row["query"] for d in listed(r)}
        for own in listed(row):
            above = [t for t, s in zip(texts, scores, strict=True) if s > scores[texts.index(own)]]
            found[row["row"], own] = 1 + len([t for t in above if t not in answers])
    return found


@pytest.mark.parametrize("k", [1, 3])
def test_keeps_what_is_within_the_first_k(pairs, tmp_path, k):
    results, kept, rejected = run(pairs, tmp_path, k, chunk=13)
    expected = ranks(pairs)
    good = {row for (row, _), rank in expected.items() if rank <= k}
    assert [row["row"] for row in kept] == sorted(good)
    assert 5 < len(kept) < 55
    for row in kept:
        assert all(expected[row["row"], own] <= k for own in listed(row))
    for row in rejected:
        assert row["rank"] == min(r for (n, _), r in expected.items() if n == row["row"])
    assert results["counts"]["kept"] + results["counts"]["rejected"] == 60
    assert results["rates"]["pairs rejected"] == round(len(rejected) / 60, 6)


def test_a_k_of_all_keeps_all_and_a_k_of_none_is_refused(pairs, tmp_path):
    results, kept, rejected = run(pairs, tmp_path, 100)
    assert (len(kept), rejected, results["warnings"]) == (60, [], [])
    assert kept == [json.loads(line) for line in pairs.open()]
    with pytest.raises(UserError, match="k: expected 1 or more, got 0"):
        run(pairs, tmp_path, 0)
