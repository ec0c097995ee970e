"""Two versions side by side: measures against scipy and plain loops, and the verbs."""

import json

import numpy as np
import pytest
import scipy.spatial

from gemb.analysis import atlas, neighbours, versions
from gemb.analysis.pairs import read_pairs
from gemb.checks import UserError
from gemb.store.embeddings import write_embeddings

RNG = np.random.default_rng(0)
OLD = RNG.normal(size=(300, 8)).astype(np.float32)
NEW = OLD @ np.linalg.qr(RNG.normal(size=(8, 8)))[0] + 0.3 * RNG.normal(size=(300, 8))
WORDS = ("red", "green", "blue", "black", "white")
TEXTS = [f"{WORDS[i % 5]} thing{i}" for i in range(300)]


def cosines(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def test_nearest_neighbours_by_a_plain_sort(monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 64)
    chosen = np.array([3, 70, 299])
    scores = cosines(OLD)[chosen]
    scores[np.arange(3), chosen] = -2
    rows, found = neighbours.nearest(OLD, OLD[chosen], 10, chosen)
    np.testing.assert_array_equal(rows, np.argsort(-scores, axis=1)[:, :10])
    np.testing.assert_allclose(found, -np.sort(-scores, axis=1)[:, :10], atol=1e-6)


def test_rank_biased_overlap_from_the_formula():
    left, right = np.array([[1, 2, 3]]), np.array([[2, 1, 4]])
    shares, weights = np.array([0, 1, 2 / 3]), 0.9 ** np.arange(3)
    expected = shares @ weights / weights.sum()
    assert neighbours.rank_biased_overlap(left, right)[0] == pytest.approx(expected)
    assert neighbours.rank_biased_overlap(left, left)[0] == pytest.approx(1)


def test_procrustes_equals_scipys_and_cka_the_kernel_form():
    expected = scipy.spatial.procrustes(OLD, NEW)[2]
    assert versions.procrustes(np.float64(OLD), NEW) == pytest.approx(expected)
    centre = np.eye(300) - 1 / 300
    left, right = (centre @ rows @ rows.T @ centre for rows in (np.float64(OLD), NEW))
    hsic = [np.sum(a * b) for a, b in ((left, right), (left, left), (right, right))]
    expected = hsic[0] / np.sqrt(hsic[1] * hsic[2])
    assert versions.linear_cka(np.float64(OLD), NEW) == pytest.approx(expected)


def test_the_tree_has_what_a_loop_finds():
    tree = versions.compare_vectors(OLD, NEW, texts=TEXTS, sample=300)
    lists = [np.argsort(-(cosines(rows) - 9 * np.eye(300)), axis=1)[:, :10] for rows in (OLD, NEW)]
    expected = [len(set(a) & set(b)) / 10 for a, b in zip(*lists, strict=True)]
    value, low, high = tree["neighbours"]["overlap"]
    assert value == pytest.approx(np.mean(expected))
    assert low < value < high
    mover = tree["movers"][0]
    assert mover["overlap"] == pytest.approx(min(expected))
    assert set(mover["lost"][0]["words"]) <= {*WORDS, "thing"}
    assert tree["distances"]["mean shift"][0] > 0
    json.dumps(tree)


def test_judged_versions_have_paired_tests_and_wins():
    corpus = OLD[:60]
    qrels = [{i: 1} for i in range(60)]
    asked = corpus, corpus[::-1].copy()
    names = [f"q{i}" for i in range(60)]
    tree = versions.compare_vectors(
        corpus, corpus, k=5, queries=asked, qrels=qrels, query_texts=names
    )
    one = tree["metrics"]["recall@10"]
    assert one["old"] == 1
    assert one["difference"] < 0
    assert one["p"] < 0.05
    assert tree["wins"]["counts"][0] == 0
    assert tree["wins"]["worse"][0]["query"] in names


def test_bad_versions_are_one_line(tmp_path):
    with pytest.raises(UserError, match="old has 300 items and new 299"):
        versions.compare_vectors(OLD, NEW[:299])
    with pytest.raises(UserError, match="new: expected finite"):
        versions.compare_vectors(OLD, np.where(NEW[0, 0] == NEW, np.nan, NEW))
    with pytest.raises(UserError, match="too few for 10 neighbours"):
        versions.compare_vectors(OLD[:11], NEW[:11])
    about = {"texts": "t", "kind": "document"}
    write_embeddings(tmp_path / "a", OLD[:3], model="a", ids=["x", "y", "z"], **about)
    write_embeddings(tmp_path / "b", OLD[:3], model="b", ids=["z", "x", "w"], **about)
    with pytest.raises(UserError, match="2 ids are in one of them only"):
        read_pairs(tmp_path / "a", tmp_path / "b")
    found = read_pairs(tmp_path / "a", tmp_path / "b", all_ids=False)
    assert found.ids == ["x", "z"]
    np.testing.assert_array_equal(found.new, OLD[[1, 0]])


def test_maps_are_turned_onto_each_other():
    before = RNG.normal(size=(40, 2))
    before -= before.mean(axis=0)
    turn = np.array([[np.cos(1), np.sin(1)], [np.sin(1), -np.cos(1)]])
    np.testing.assert_allclose(versions.aligned(before, 3 * before @ turn), before, atol=1e-9)


def call(capsys, verb, *arguments):
    from gemb.cli.__main__ import run

    with pytest.raises(SystemExit) as left:
        run(verb, [str(argument) for argument in arguments])
    return left.value.code, *capsys.readouterr()


@pytest.fixture
def folder(tmp_path):
    ids = [f"d{i}" for i in range(300)]
    about = {"texts": "t", "kind": "document"}
    write_embeddings(tmp_path / "old", OLD, model="a", ids=ids, **about)
    write_embeddings(tmp_path / "new", np.float32(NEW), model="b", ids=ids, **about)
    data = tmp_path / "data"
    (data / "qrels").mkdir(parents=True)
    rows = [{"_id": each, "text": text} for each, text in zip(ids, TEXTS, strict=True)]
    (data / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    queries = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(20)]
    (data / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = [f"q{i}\td{i}\t1" for i in range(20)]
    (data / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    names, about = [f"q{i}" for i in range(20)], about | {"kind": "query"}
    write_embeddings(tmp_path / "q1", OLD[:20], model="a", ids=names, **about)
    write_embeddings(tmp_path / "q2", np.float32(NEW[:20]), model="b", ids=names, **about)
    return tmp_path


def test_gemb_compare_vectors(folder, capsys):
    place = folder / "out"
    status, out, err = call(
        capsys, "compare-vectors", folder / "old", folder / "new", f"--corpus={folder / 'data'}",
        f"--old_queries={folder / 'q1'}", f"--new_queries={folder / 'q2'}", f"--output={place}",
    )  # fmt: skip
    assert status == 0, err
    assert "overlap@10 of neighbours 0." in out
    assert "ndcg@10 1.0000 -> 1.0000" in out
    assert "thing" in (place / "report.html").read_text()
    assert json.loads((place / "results.json").read_text())["sample"] == 300
    status, _, err = call(capsys, "compare-vectors", folder / "old")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.extra("data")
def test_gemb_atlas(folder, capsys):
    import pyarrow.parquet

    place = folder / "map.parquet"
    status, _, err = call(
        capsys, "atlas", folder / "old", f"--other={folder / 'new'}", f"--output={place}",
        f"--corpus={folder / 'data'}", "--count=4",
    )  # fmt: skip
    assert status == 0, err
    table = pyarrow.parquet.read_table(place).to_pydict()
    assert table["text"] == TEXTS
    for name in ("x", "y", "x_other", "y_other"):
        assert 0 <= min(table[name]) <= max(table[name]) <= 1
    assert max(max(table["x"]), max(table["y"])) == 1
    scores = cosines(OLD) - 9 * np.eye(300)
    assert table["neighbors"][7]["ids"] == np.argsort(-scores[7])[:4].tolist()
    assert table["neighbors"][7]["distances"][0] == pytest.approx(1 - scores[7].max(), abs=1e-5)
    with pytest.raises(UserError, match="too few for a map"):
        atlas.write_atlas(place, OLD[:2])
