"""Splits without leaks: no group, text or near-duplicate stands on both sides."""

import json

import numpy as np
import pytest
from word_encoder import WordEncoder

from gemb.checks import UserError
from gemb.curation import inputs, split_records

PARTS = {"train": 0.8, "dev": 0.1, "test": 0.1}


def rows_of(rng, count=600):
    """Pairs of which some share a query, some a document, some a path."""
    return [
        {
            "query": f"q {rng.integers(400)} of these",
            "document": f"text {rng.integers(500)} of those",
            "path": f"file-{rng.integers(60)}.py",
            "tags": [f"tag {n}" for n in rng.integers(0, 2000, 2)],
        }
        for _ in range(count)
    ]


def run(tmp_path, rows, columns, parts=PARTS, **options):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = inputs.read_values(path, columns)
    results = split_records(records, columns, tmp_path, parts=parts, progress=False, **options)
    return results, {n: [json.loads(x) for x in (tmp_path / f"{n}.jsonl").open()] for n in parts}


def values(rows, column):
    return {
        v for row in rows for v in (row[column] if isinstance(row[column], list) else [row[column]])
    }


@pytest.mark.parametrize("columns", [["path"], ["query"], ["tags"], ["query", "document"]])
def test_nothing_is_on_two_sides(tmp_path, columns):
    rows = rows_of(np.random.default_rng(0))
    if columns == ["query", "document"]:  # few shared texts, or all pairs hang together
        rows = [{**r, "document": f"{r['document']} {i // 2}"} for i, r in enumerate(rows)]
        rows = [{**r, "query": f"{r['query']} {i // 3}"} for i, r in enumerate(rows)]
        rows[7]["query"], rows[500]["query"] = "The SAME, text", "the same text!"
    results, parts = run(tmp_path, rows, columns)
    names = list(parts)
    for column in columns:
        sides = [set(map(str.casefold, values(parts[name], column))) for name in names]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
    together = [row for name in names for row in parts[name]]
    assert sorted(map(json.dumps, together)) == sorted(map(json.dumps, rows))
    largest = results["counts"]["largest_group"]
    for name, share in PARTS.items():
        assert abs(len(parts[name]) - share * len(rows)) <= largest
    if columns == ["query", "document"]:
        same = [name for name in names if {rows[7]["query"], rows[500]["query"]}
                & values(parts[name], "query")]  # fmt: skip
        assert len(same) == 1


def test_the_seed_and_the_content_decide_not_the_order(tmp_path):
    rows = rows_of(np.random.default_rng(1))
    _, first = run(tmp_path, rows, ["path"], seed=3)
    _, again = run(tmp_path, rows[::-1], ["path"], seed=3)
    _, other = run(tmp_path, rows, ["path"], seed=4)
    assert values(first["test"], "path") == values(again["test"], "path")
    assert values(first["test"], "path") != values(other["test"], "path")


def test_near_duplicates_go_to_one_side(tmp_path):
    rng = np.random.default_rng(2)
    texts = [
        " ".join("".join("bcdfghjklm"[int(d)] for d in f"{n:03}") for n in rng.integers(0, 500, 12))
        for _ in range(200)
    ]
    copies = [" ".join([*text.split()[:-1], "other"]) for text in texts]
    rows = [{"text": text} for text in texts + copies]
    alone, parts = run(tmp_path, rows, ["text"])
    side = {row["text"]: name for name, part in parts.items() for row in part}
    assert any(side[t] != side[c] for t, c in zip(texts, copies, strict=True))
    joined, parts = run(tmp_path, rows, ["text"], encoder=WordEncoder(dim=64))
    side = {row["text"]: name for name, part in parts.items() for row in part}
    assert all(side[t] == side[c] for t, c in zip(texts, copies, strict=True))
    assert (alone["counts"]["groups"], joined["counts"]["groups"]) == (400, 200)


def test_groups_too_large_are_told(tmp_path):
    rows = [{"path": "one"}] * 96 + [{"path": f"other {i}"} for i in range(4)]
    results, _ = run(tmp_path, rows, ["path"], {"train": 0.5, "test": 0.5})
    assert any("where 50.0% was asked" in warning for warning in results["warnings"])
    with pytest.raises(UserError, match="is empty: 1 groups, the largest of 5 of 5 records"):
        run(tmp_path, [{"path": "one"}] * 5, ["path"])


@pytest.mark.parametrize(
    "parts", [{"train": 1.0}, {"train": 0.9, "test": 0.2}, {"train": 1.1, "test": -0.1}]
)
def test_bad_parts_are_refused(tmp_path, parts):
    with pytest.raises(UserError, match="parts: expected two or more shares above 0 that make 1"):
        run(tmp_path, [{"path": "a"}, {"path": "b"}], ["path"], parts)
