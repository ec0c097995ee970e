"""What every index host promises: in a folder, in PostgreSQL with pgvector, in Milvus."""

import numpy as np
import pytest
import tagged

from gemb.checks import UserError
from gemb.identity import Space, SpaceError, Version
from gemb.store.hosts import Settings
from gemb.store.rows import rows_digest

DIM, ROWS = 8, 120
ODD = ["quote \" and ' \\ back", "line\nbreak\ttab", "\u2028 é 😀 İ", "x" * 1024, "%s {x} $1"]


def unit(rows, seed=0, dim=DIM):
    made = np.random.default_rng(seed).normal(size=(rows, dim))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def best(ids, vectors, query, k, cosine=False):
    """What a plain loop in float64 finds."""
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    if cosine:
        scores /= np.linalg.norm(vectors.astype(np.float64), axis=1) * np.linalg.norm(query)
    order = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))[:k]
    return [ids[i] for i in order], [scores[i] for i in order]


def loaded(host, space, seed=0, rows=ROWS, settings=None, attributes=None, recall=0.9):
    """A verified version; its ids and vectors."""
    ids, vectors = tagged.ids(rows), unit(rows, seed, space.dim)
    version = host.begin(space, settings=settings or Settings())
    half = rows // 2
    given = attributes or [{}] * rows
    host.load(version, ids[half:], vectors[half:], given[half:])
    host.load(version, ids[:half], vectors[:half], given[:half])
    expected = [best(ids, vectors, query, 5)[0] for query in vectors[:6]]
    digest = rows_digest(ids, vectors, "float32")
    host.verify(version, vectors[:6], expected, recall, rows=rows, digest=digest)
    return version, ids, vectors


def live(host, space, **options):
    version, ids, vectors = loaded(host, space, **options)
    host.publish(version)
    return version, ids, vectors


def test_it_finds_what_a_plain_loop_finds(host_opener):
    host = host_opener()
    space = tagged.space(0)
    version, ids, vectors = live(host, space)
    queries = unit(7, seed=5)
    hits = host.search(queries, 10, space=space, generation=1)
    assert hits.version == version == Version(1, 1)
    assert hits.scores.shape == (7, 10)
    assert hits.scores.dtype == np.float32
    for row, query in enumerate(queries):
        names, scores = best(ids, vectors, query, 10)
        assert hits.ids[row] == names
        np.testing.assert_allclose(hits.scores[row], scores, atol=1e-5)
    again = host_opener().search(queries, 10, space=space.id, generation=1)
    assert again.ids == hits.ids
    assert host.health().ok
    assert host.health().live == version
    assert host.check() == []


@pytest.mark.parametrize(
    ("similarity", "cosine"), [("dot", False), ("cosine", True)], ids=["dot", "cosine"]
)
def test_vectors_of_any_length(host_opener, similarity, cosine):
    host, space = host_opener(), Space("q", "d", DIM, False, similarity)
    ids, vectors = tagged.ids(40), unit(40) * np.linspace(0.5, 9, 40)[:, None].astype(np.float32)
    version = host.begin(space, settings=Settings())
    host.load(version, ids, vectors)
    queries = 3 * unit(4, seed=2)
    expected = [best(ids, vectors, query, 5, cosine) for query in queries]
    assert host.verify(version, queries, [names for names, _ in expected], 1.0, rows=40) == 1.0
    host.publish(version)
    hits = host.search(queries, 5, space=space, generation=1)
    assert hits.ids == [names for names, _ in expected]
    np.testing.assert_allclose(hits.scores, [scores for _, scores in expected], rtol=1e-4)


def test_k_beyond_the_documents_is_padded(host_opener):
    host, space = host_opener(), tagged.space(0)
    live(host, space, rows=12)
    hits = host.search(unit(2), 20, space=space, generation=1)
    assert [len(row) for row in hits.ids] == [12, 12]
    assert (hits.scores[:, 12:] == -np.inf).all()
    assert host.search(unit(2)[:0], 3, space=space, generation=1).ids == []


def test_hnsw(host_opener):
    if host_opener.kind == "local":
        pytest.importorskip("usearch")
    host, space = host_opener(), Space("q", "d", 16, True)
    version, ids, vectors = live(host, space, rows=1500, settings=Settings(kind="hnsw", target=0.9))
    queries = unit(20, seed=9, dim=16)
    hits = host.search(queries, 10, space=space, generation=1)
    expected = [best(ids, vectors, query, 10)[0] for query in queries]
    found = [len({*a} & {*b}) for a, b in zip(hits.ids, expected, strict=True)]
    assert np.mean(found) > 8  # the folder's graph is tuned on six of its own documents
    host.put(version, ["new"], queries[:1])
    assert host.search(queries[:1], 1, space=space, generation=1).ids == [["new"]]


def test_another_space_is_refused(host_opener):
    host, mine, other = host_opener(), tagged.space(0), tagged.space(1)
    live(host, mine)
    version, *_ = live(host, other, seed=1)
    assert version == Version(2, 1)
    queries = unit(2)
    assert host.search(queries, 3, space=mine, generation=1).version == Version(1, 1)
    for space, generation in ((other, 1), (mine, 2), ("f" * 32, 2)):
        with pytest.raises(SpaceError, match="cannot be compared") as caught:
            host.search(queries, 3, space=space, generation=generation)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="nothing of generation 3 is published"):
        host.search(queries, 3, space=mine, generation=3)
    with pytest.raises(SpaceError, match="generation 1 is of space"):
        host.begin(other, version=Version(1, 7))


def test_generations_and_refreshes(host_opener):
    host, space = host_opener(), tagged.space(0)
    live(host, space)
    newer, ids, vectors = loaded(host, space, seed=3)
    assert newer == Version(1, 2)
    assert host.search(vectors[:1], 1, space=space, generation=1).version == Version(1, 1)
    host.publish(newer)
    hits = _until(host, vectors[:1], space, newer)
    assert hits.ids == [[ids[0]]]
    assert [str(e.version) for e in host.versions()] == ["1.2", "1.1"]
    assert [e.state for e in host.versions()] == ["live", "ready"]
    assert host.roll_back(why="a test") == Version(1, 1)
    assert host.search(vectors[:1], 1, space=space, generation=1).version == Version(1, 1)
    host.mark_bad(newer, why="a test")
    with pytest.raises(UserError, match="marked bad"):
        host.publish(newer)
    third, *_ = live(host, space, seed=4)
    assert third == Version(1, 3)


def _until(host, queries, space, version):
    """A search, when the version is open: until then the refresh before it answers."""
    for _ in range(500):
        hits = host.search(queries, 1, space=space, generation=version.generation)
        if hits.version == version:
            return hits
    raise AssertionError("the new refresh never answered")


def test_a_version_half_loaded_is_never_read(host_opener):
    host, space = host_opener(), tagged.space(0)
    live(host, space)
    version = host.begin(tagged.space(1), settings=Settings())
    ids, vectors = tagged.ids(10), unit(10, seed=1)
    host.load(version, ids[:6], vectors[:6])
    host = host_opener()  # the loader was killed
    assert host.begin(tagged.space(1), settings=Settings()) == version
    with pytest.raises(UserError, match="not verified yet"):
        host.publish(version)
    expected = [[name] for name in ids]
    with pytest.raises(UserError, match="holds 6 documents, not 10"):
        host.verify(version, vectors, expected, 0.9, rows=10)
    with pytest.raises(UserError, match="nothing of generation 2"):
        host.search(vectors, 1, space=tagged.space(1), generation=2)
    host.load(version, ids[4:], vectors[4:])
    with pytest.raises(UserError, match="holds other vectors"):
        host.verify(version, vectors, expected, 0.9, rows=10, digest="0" * 32)
    with pytest.raises(UserError, match=r"finds 0.0000 of what exact search finds"):
        host.verify(version, vectors, [[ids[i - 1]] for i in range(10)], 0.9, rows=10)
    assert host.versions()[0].state == "loading"
    assert host.versions()[1].state == "live"
    digest = rows_digest(ids, vectors, "float32")
    assert host.verify(version, vectors, expected, 0.9, rows=10, digest=digest) == 1.0
    with pytest.raises(UserError, match="not being loaded"):
        host.load(version, ["more"], vectors[:1])
    host.publish(version)
    assert host.search(vectors[:2], 1, space=tagged.space(1), generation=2).ids == [
        [ids[0]], [ids[1]]
    ]  # fmt: skip


def test_documents_are_added_changed_and_removed(host_opener):
    host, space = host_opener(), tagged.space(0)
    live(host, space)
    version, ids, vectors = live(host, tagged.space(1), seed=1)
    space = tagged.space(1)
    fresh = unit(3, seed=8)
    host.put(version, [ids[0], "new", 7], fresh, [{}, {"tag": "x"}, {}])
    vectors = np.concatenate([fresh[:1], vectors[1:], fresh[1:]])
    ids = [*ids, "new", "7"]
    assert host.delete([ids[3], "new", "none"]) == 2
    kept = [i for i in range(len(ids)) if i not in (3, len(ids) - 2)]
    ids, vectors = [ids[i] for i in kept], vectors[kept]
    for opened in (host, host_opener()):
        hits = opened.search(fresh, 6, space=space, generation=2)
        assert hits.ids == [best(ids, vectors, query, 6)[0] for query in fresh]
    hits = host.search(unit(1), ROWS, space=tagged.space(0), generation=1)
    assert len(hits.ids[0]) == ROWS - 1
    assert "id 3" not in hits.ids[0]
    host.put(version, ["new"], fresh[1:2])
    assert host.search(fresh[1:2], 1, space=space, generation=2).ids == [["new"]]
    loading = host.begin(space, settings=Settings())
    with pytest.raises(UserError, match="is loading; choose a finished one"):
        host.put(loading, ["new"], fresh[:1])


def test_filters(host_opener):
    host, space = host_opener(), tagged.space(0)
    attributes = [
        {"n": i, "half": i / 2, "language": ["en", "de", "fr"][i % 3], "even": i % 2 == 0,
         "odd": ODD[i % len(ODD)]} if i % 10 else {"other": 1, "n": str(i), "even": i}
        for i in range(ROWS)
    ]  # fmt: skip
    _, ids, vectors = live(host, space, attributes=attributes)
    filters = {
        "text": ({"language": "de"}, lambda a: a.get("language") == "de"),
        "several": ({"language": ["de", "fr"]}, lambda a: a.get("language") in ("de", "fr")),
        "true": ({"even": True}, lambda a: a.get("even") is True),
        "one": ({"n": 1}, lambda a: a.get("n") == 1),
        "float": ({"half": [0.5, 2]}, lambda a: a.get("half") in (0.5, 2)),
        "range": ({"n": {">=": 10, "<": 22}}, lambda a: type(a["n"]) is int and 10 <= a["n"] < 22),
        "all": (
            {"n": {">": 50.5}, "even": False},
            lambda a: type(a["n"]) is int and a["n"] > 50.5 and a.get("even") is False,
        ),
        "none": ({"language": "it"}, lambda a: False),
        "absent": ({"nothing": 1}, lambda a: False),
        "mixed": ({"n": ["20", 21]}, lambda a: a["n"] in ("20", 21)),
        **{f"odd {i}": ({"odd": o}, lambda a, o=o: a.get("odd") == o) for i, o in enumerate(ODD)},
    }
    query = unit(1, seed=6)
    for name, (given, holds) in filters.items():
        rows = [i for i in range(ROWS) if holds(attributes[i])]
        expected, _ = best([ids[i] for i in rows], vectors[rows], query[0], 8)
        hits = host.search(query, 8, space=space, generation=1, filter=given)
        assert hits.ids == [expected], name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a b": 1}, "use letters, digits"),
        ({"a": []}, "list of values is empty"),
        ({"a": {"!=": 1}}, "expected comparisons of"),
        ({"a": {">": "x"}}, "expected comparisons of"),
        ({"a": None}, "expected a text, a number"),
        ({"a": float("nan")}, "is not finite"),
        ("a == 1", "expected conditions by attribute"),
    ],
)
def test_filters_that_are_none(host_opener, given, message):
    host = host_opener()
    live(host, tagged.space(0), rows=3)
    with pytest.raises(UserError, match=message) as caught:
        host.search(unit(1), 3, space=tagged.space(0), generation=1, filter=given)
    assert "\n" not in str(caught.value)


def test_unusual_ids(host_opener):
    host, space = host_opener(), tagged.space(0)
    ids = [*ODD, "0", " ", "a" * 1000, "\u0000nul", "'; DROP TABLE x; --"]
    vectors = unit(len(ids))
    version = host.begin(space, settings=Settings())
    host.load(version, ids, vectors)
    host.load(version, ids[:3], vectors[:3])  # again
    host.verify(
        version, vectors, [[i] for i in ids], 1.0, rows=len(ids),
        digest=rows_digest(ids, vectors, "float32"),
    )  # fmt: skip
    host.publish(version)
    assert host.search(vectors, 1, space=space, generation=1).ids == [[each] for each in ids]
    assert host.delete(ids[:-1]) == len(ids) - 1
    assert host.search(vectors[:1], 9, space=space, generation=1).ids == [ids[-1:]]


BAD = {
    "twice": (lambda i, v: (["a", "a"], v[:2], None), "comes twice"),
    "long": (lambda i, v: (["x" * 10_000], v[:1], None), "has 10,000 bytes"),
    "surrogate": (lambda i, v: (["\ud800"], v[:1], None), "not valid Unicode"),
    "empty id": (lambda i, v: ([""], v[:1], None), "not empty"),
    "no id": (lambda i, v: ([None], v[:1], None), "texts or integers"),
    "nan": (lambda i, v: (["a"], v[:1] * np.nan, None), "has length nan"),
    "zero": (lambda i, v: (["a"], v[:1] * 0, None), "has length 0"),
    "length": (lambda i, v: (["a"], v[:1] * 2, None), "unit vectors are expected"),
    "dim": (lambda i, v: (["a"], v[:1, :5], None), "vectors of dim 5 are not of space"),
    "dtype": (lambda i, v: (["a"], v[:1].astype(int), None), "float32 or float16"),
    "rows": (lambda i, v: (["a", "b"], v[:1], None), "one row per id"),
    "attributes": (lambda i, v: (["a"], v[:1], [{}, {}]), "attributes of 1 documents, got 2"),
    "nul": (lambda i, v: (["a"], v[:1], [{"t": "\0"}]), "contains a NUL"),
    "list": (lambda i, v: (["a"], v[:1], [{"t": [1]}]), "expected a text, a number"),
    "huge": (lambda i, v: (["a"], v[:1], [{"t": "x" * 40_000}]), "more than 32 kB"),
}


def test_bad_documents_are_refused_and_nothing_is_lost(host_opener):
    host, space = host_opener(), tagged.space(0)
    version, ids, vectors = live(host, space)
    loading = host.begin(tagged.space(1), settings=Settings())
    for name, (make, message) in BAD.items():
        for write, target in ((host.load, loading), (host.put, version)):
            with pytest.raises(UserError, match=message) as caught:
                write(target, *make(ids, vectors))
            assert "\n" not in str(caught.value), name
    hits = host.search(vectors[:3], 2, space=space, generation=1)
    assert hits.ids == [best(ids, vectors, query, 2)[0] for query in vectors[:3]]
    with pytest.raises(UserError, match="holds 0 documents, not 1"):
        host.verify(loading, vectors[:1], [["a"]], 0.9, rows=1)


@pytest.mark.parametrize(
    ("make", "k", "message"),
    [
        (lambda v: v[:1, :5], 3, "queries of dim 5 are not of space"),
        (lambda v: v[:1] * np.nan, 3, "query 0 has length nan"),
        (lambda v: v[:2] * [[1], [0]], 3, "query 1 has length 0"),
        (lambda v: v[0], 3, r"expected queries of \[queries, 8\]"),
        (lambda v: v[:1], 0, "k: expected 1 to 1,000"),
        (lambda v: v[:1], 5000, "k: expected 1 to 1,000"),
    ],
)
def test_bad_queries_are_refused(host_opener, make, k, message):
    host = host_opener()
    live(host, tagged.space(0), rows=5)
    with pytest.raises(UserError, match=message):
        host.search(make(unit(3)), k, space=tagged.space(0), generation=1)


def test_spaces_and_settings_that_are_refused(host_opener):
    host = host_opener()
    with pytest.raises(UserError, match="ranks by cosine or dot"):
        host.begin(Space("q", "d", DIM, False, "euclidean"))
    with pytest.raises(UserError, match="kind: expected one of"):
        host.begin(tagged.space(0), settings=Settings(kind="bm25"))
    with pytest.raises(UserError, match="m: expected a number"):
        Settings(m=1)
    with pytest.raises(UserError, match="nothing of generation 1"):
        host.search(unit(1), 1, space=tagged.space(0), generation=1)
    with pytest.raises(UserError, match=r"no version 1\.1"):
        host.publish(Version(1, 1))
    assert not host.health().ok
    assert host.versions() == []


def test_two_writers_of_one_number(host_opener):
    first, second = host_opener(), host_opener()
    version = first.begin(tagged.space(0), settings=Settings())
    assert second.begin(tagged.space(0), settings=Settings()) == version
    other = second.begin(tagged.space(1), settings=Settings())
    assert other == Version(2, 1)
    ids, vectors = tagged.ids(10), unit(10)
    first.load(version, ids[:7], vectors[:7])
    second.load(version, ids[5:], vectors[5:])
    first.verify(version, vectors, [[i] for i in ids], 1.0, rows=10)
    second.publish(version)
    assert first.search(vectors[:1], 1, space=tagged.space(0), generation=1).ids == [[ids[0]]]


@pytest.mark.long
def test_retire(host_opener):
    host = host_opener()
    for number in range(4):
        live(host, tagged.space(number), seed=number, rows=5)
    pinned = Version(1, 1)
    host.pin(pinned, why="a test")
    assert host.retire(keep=2, dry_run=True) == [Version(2, 1)]
    assert host.retire(keep=2) == [Version(2, 1)]
    assert [str(e.version) for e in host.versions()] == ["4.1", "3.1", "1.1"]
    with pytest.raises(UserError, match="nothing of generation 2"):
        host.search(unit(1), 1, space=tagged.space(1), generation=2)
    assert host.search(unit(1), 1, space=tagged.space(0), generation=1).version == pinned
    assert host.begin(tagged.space(9)).generation == 5
    assert host.check() == []


def test_a_version_is_copied(host_opener):
    """With attributes and single changes; only what is loaded or deleted after it differs."""
    host, space = host_opener(), tagged.space(0)
    attributes = [{"part": row % 3, "even": row % 2 == 0} for row in range(ROWS)]
    version, ids, vectors = live(host, space, attributes=attributes)
    host.put(version, ["by hand"], unit(1, seed=9), [{"part": 7}])
    other = host.begin(tagged.space(1), settings=Settings())
    with pytest.raises(SpaceError):
        host.copy(other, version)
    with pytest.raises(UserError, match="choose a finished one"):
        host.copy(other, other)
    with pytest.raises(UserError, match="not being loaded"):
        host.copy(version, version)
    refresh = host.begin(space, settings=Settings())
    host.load(refresh, ["of a killed call"], unit(1, seed=3))
    host.clear(refresh)
    host.copy(refresh, version)
    host.delete(ids[:1], version=refresh)
    changed = unit(1, seed=4)
    host.load(refresh, ids[1:2], changed, [{"part": 8}])
    wanted = np.concatenate([changed, vectors[2:], unit(1, seed=9)])
    names = [*ids[1:], "by hand"]
    digest = rows_digest(names, wanted, "float32")
    host.verify(refresh, changed, [ids[1:2]], 1.0, rows=ROWS, digest=digest)
    host.publish(refresh)
    for part, expected in ((7, ["by hand"]), (8, ids[1:2]), (2, ids[2::3])):
        hits = host.search(changed, ROWS, space=space, generation=1, filter={"part": part})
        assert sorted(hits.ids[0]) == sorted(expected)
    assert host.roll_back(why="a test") == version
    hits = host.search(vectors[:2], 1, space=space, generation=1)
    assert hits.ids == [ids[:1], ids[1:2]]
