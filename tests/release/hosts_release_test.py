"""Releases and refreshes that write to an index host: loaded first, published together."""

import numpy as np
import pytest
from words import WordEncoding

from gemb.checks import UserError
from gemb.identity import SpaceError, Version
from gemb.release import together
from gemb.release.loading import exact_sample
from gemb.release.refresh import Settings, refresh
from gemb.store.hosts import LocalHost
from gemb.store.keyed import HostError, open_keyed


@pytest.fixture
def refreshed(store, encoding, corpus_of):
    """Refreshes the store with {id: text}; gives the version."""

    def done(texts, model=None, **options):
        options.setdefault("say", lambda line: None)
        return refresh(store, model or encoding, {"documents": corpus_of(texts)}, **options)

    return done


def check_answers(host, texts, encoding, generation):
    """Compares searches with scores computed here."""
    ids, queries = list(texts), [f"w{n} w{n + 1}" for n in range(6)]
    vectors = np.stack([encoding.vector(text) for text in texts.values()]).astype(np.float64)
    asked = np.stack([encoding.vector(text, "query") for text in queries])
    hits = host.search(asked, 3, space=encoding.space, generation=generation)
    scores = asked.astype(np.float64) @ vectors.T
    np.testing.assert_allclose(hits.scores, -np.sort(-scores, axis=1)[:, :3], atol=1e-5)
    for row, names in enumerate(hits.ids):
        found = [scores[row, ids.index(name)] for name in names]
        np.testing.assert_allclose(found, hits.scores[row], atol=1e-5)


def sent(host, monkeypatch):
    """Ids that are sent to a host from here on."""
    ids, load = [], host.load

    def counted(version, some, vectors, *more):
        ids.extend(some)
        return load(version, some, vectors, *more)

    monkeypatch.setattr(host, "load", counted)
    return ids


def test_a_refresh_sends_what_changed(refreshed, texts, encoding, host_opener, monkeypatch):
    host = host_opener()
    refreshed(texts, hosts=[host])
    check_answers(host, texts, encoding, 1)
    changed = dict(texts) | {"d0": "brand new", "e": "added text"}
    del changed["d50"]
    ids, said = sent(host, monkeypatch), []
    version = refreshed(changed, hosts=[host], say=said.append)
    assert sorted(ids) == ["d0", "e"]
    assert f"{host}: 2 rows put, 1 removed" in said
    assert version == Version(1, 2)
    assert host.health().live == version
    check_answers(host, changed, encoding, 1)
    assert host.roll_back(why="a test") == Version(1, 1)
    check_answers(host, texts, encoding, 1)  # the version before is as it was
    assert host.check() == []


def test_a_new_generation_and_back(
    refreshed, store, texts, encoding, host_opener, corpus_of, tmp_path
):
    host, keyed = host_opener(), open_keyed(f"sqlite:{tmp_path}/keys.db")
    options = {"hosts": [host], "keys": [keyed]}
    refreshed(texts, **options)
    other = WordEncoding(seed=1)
    assert refreshed(texts, other, **options) == Version(2, 1)
    check_answers(host, texts, other, 2)
    with pytest.raises(SpaceError):
        check_answers(host, texts, encoding, 2)
    assert together.roll_back(store, None, why="worse", **options) == Version(1, 1)
    for each in (host, keyed, store):
        assert [e.version for e in each.versions() if e.state == "live"] == [Version(1, 1)]
    check_answers(host, texts, encoding, 1)
    with pytest.raises(UserError, match=r"no version 3\.1"):
        together.roll_back(store, Version(3, 1), why="a mistake", **options)
    # the store was rolled back from 2.1: the same release does not publish it again by itself
    refresh(store, other, {"documents": corpus_of(texts)}, say=lambda line: None, **options)
    assert store.open().version == host.health().live == Version(1, 1)
    keyed.close()


@pytest.mark.long
def test_a_failure_half_way_leaves_everything_live_as_it_was(
    refreshed, store, texts, encoding, host_opener, monkeypatch, tmp_path
):
    host, keyed = host_opener(), open_keyed(f"sqlite:{tmp_path}/keys.db")
    options = {"hosts": [host], "keys": [keyed]}
    refreshed(texts, **options)
    other = WordEncoding(seed=1)

    def down(*_, **__):
        raise HostError("it does not answer")

    for each, name in (
        (host, "load"), (host, "verify"), (keyed, "verify"), (host, "publish"),
        (keyed, "publish"), (store, "publish"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(each, name, down)
            with pytest.raises(HostError, match="does not answer"):
                refreshed(texts, other, **options)
        live = [
            [e.version for e in one.versions() if e.state == "live"] for one in (host, keyed, store)
        ]
        assert live == [[Version(1, 1)]] * 3, (each, name)
        check_answers(host, texts, encoding, 1)
    assert refreshed(texts, other, **options) == Version(2, 1)
    check_answers(host, texts, other, 2)
    assert keyed.get(["d0"], [2]).generations == [2]
    keyed.close()


def test_a_host_with_other_documents_is_put_right(
    refreshed, texts, encoding, host_opener, monkeypatch
):
    host = host_opener()
    version = refreshed(texts, hosts=[host])
    host.put(version, ["stranger"], encoding.vector("put by hand")[None])
    ids = sent(host, monkeypatch)
    refreshed(texts | {"d0": "new"}, hosts=[host])
    assert len(ids) == 1 + len(texts)  # what changed, and then all
    check_answers(host, texts | {"d0": "new"}, encoding, 1)


def test_a_host_that_joins_later(refreshed, store, texts, encoding, tmp_path):
    refreshed(texts)
    host = LocalHost(tmp_path / "host", create=True)
    refreshed(texts, hosts=[host])
    assert host.health().live == store.open().version
    check_answers(host, texts, encoding, 1)


def test_what_is_not_accepted(refreshed, store, texts, encoding, tmp_path, corpus_of):
    host = LocalHost(tmp_path / "host", create=True)
    with pytest.raises(UserError, match="is the store itself"):
        refreshed(texts, hosts=[LocalHost(store.folder)])
    with pytest.raises(UserError, match="not an index of kind bm25"):
        refreshed(texts, hosts=[host], settings=Settings(kind="bm25"))
    assert host.versions() == store.versions() == []
    refreshed(texts, hosts=[host])
    second = type(store)(tmp_path / "second", create=True)
    fewer = {"documents": corpus_of(dict(list(texts.items())[:50]))}
    with pytest.raises(UserError, match=r"version 1\.1 is there with other rows"):
        refresh(second, encoding, fewer, hosts=[host], say=lambda line: None)
    with pytest.raises(SpaceError, match="cannot be compared"):
        refresh(
            type(store)(tmp_path / "third", create=True), WordEncoding(seed=1), fewer,
            hosts=[host], say=lambda line: None,
        )  # fmt: skip
    check_answers(host, texts, encoding, 1)


def test_a_sample_has_no_ties():
    documents = np.repeat(np.eye(4, dtype=np.float32), 6, axis=0)
    queries = np.array([[1, 0.5, 0, 0], [1, 0.5, 0.4, 0]], np.float32)
    asked, expected = exact_sample([f"d{row}" for row in range(24)], documents, queries)
    # the seventh to twelfth best of both queries are equal
    np.testing.assert_array_equal(asked, queries)
    assert [sorted(names) for names in expected] == [[f"d{n}" for n in range(6)]] * 2


def test_fields_of_records_are_what_a_host_filters_by(
    store, texts, encoding, host_opener, corpus_of, monkeypatch
):
    host, corpus = host_opener(), corpus_of(texts)
    numbers = range(len(corpus.ids))
    rows = [{"language": "de" if n % 2 else "en", "year": 2000 + n, "tags": ["a"]} for n in numbers]
    options = {"hosts": [host], "say": lambda line: None}
    refresh(store, encoding, {"documents": corpus._replace(rows=rows)}, **options)

    def found(wanted):
        asked = np.stack([encoding.vector("w0 w1", "query")])
        answer = host.search(asked, 10, space=encoding.space, generation=1, filter=wanted)
        return set(answer.ids[0]) - {""}

    wanted = {"language": "de", "year": {"<": 2012}}
    assert found(wanted) == {corpus.ids[n] for n in (1, 3, 5, 7, 9, 11)}
    rows[3] = rows[3] | {"language": "fr"}  # the texts stay
    ids = sent(host, monkeypatch)
    version = refresh(store, encoding, {"documents": corpus._replace(rows=rows)}, **options)
    assert (version, ids) == (Version(1, 2), [corpus.ids[3]])
    assert found(wanted) == {corpus.ids[n] for n in (1, 5, 7, 9, 11)}
