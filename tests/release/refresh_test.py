"""Refresh: what changed is encoded, and the result is that of encoding everything."""

import json

import numpy as np
import pytest
from words import LIMIT, WordEncoding

from gemb.checks import UserError
from gemb.identity import Version
from gemb.release import indexes
from gemb.release.content import compare
from gemb.release.corpus import Corpus
from gemb.release.encoding import content_keys
from gemb.release.refresh import Settings, make_plan, refresh
from gemb.search import load_index
from gemb.store import VersionStore
from gemb.store.keyed import open_keyed


@pytest.fixture
def refreshed(store, encoding, corpus_of):
    """Refreshes the store with {id: text}; gives the version, opened, and the texts encoded."""

    def done(texts, model=None, **options):
        model = model or encoding
        model.encoded.clear()
        options.setdefault("say", lambda line: None)
        version = refresh(store, model, {"documents": corpus_of(texts)}, **options)
        return store.open(version), list(model.encoded)

    return done


def expected(opened, texts, encoding):
    """Checks all of a version against vectors and scores computed here."""
    ids, vectors, _ = opened.sets["documents"]
    wanted = np.stack([encoding.vector(text) for text in texts.values()])
    assert list(ids) == list(texts)
    np.testing.assert_array_equal(vectors, wanted)
    index = load_index(opened.folder / "index", model=encoding.fingerprint)
    queries = np.stack([encoding.vector(f"w{n} w{n + 1}", "query") for n in range(20)])
    scores = (queries.astype(np.float64) @ wanted.T.astype(np.float64)).round(6)
    order = np.lexsort((np.arange(len(wanted))[None].repeat(20, 0), -scores), axis=1)[:, :10]
    np.testing.assert_array_equal(index.search(queries, 10).indices, order)
    assert Corpus.read(str(opened.folder / "corpus")).texts == list(texts.values())


def test_the_first_run_encodes_each_distinct_text_once(refreshed, texts, encoding):
    opened, encoded = refreshed(texts)
    assert opened.version == Version(1, 1)
    assert sorted(encoded) == sorted(set(texts.values()))
    assert opened.about["counts"] == {"same": 0, "changed": 0, "new": 100, "gone": 0}
    expected(opened, texts, encoding)


def test_only_what_changed_is_encoded_once(refreshed, texts, encoding, store):
    refreshed(texts)
    changed = dict(texts)
    del changed["d50"], changed["d51"]
    changed |= {"d0": "brand new", "d1": "brand new", "e": "added text", "d2": texts["d9"]}
    opened, encoded = refreshed(changed)
    assert opened.version == Version(1, 2)
    assert opened.about["counts"] == {"same": 95, "changed": 3, "new": 1, "gone": 2}
    again = encoded[:96]  # up to a hundred unchanged texts are checked first
    assert set(again) <= set(texts.values())
    assert encoded[96:] == ["brand new", "added text"]  # the text of d9 has its vector
    assert opened.about["index"]["deltas"] == 1
    expected(opened, changed, encoding)
    assert [each.state for each in store.versions()] == ["live", "ready"]


def test_renamed_records_are_not_encoded_again(refreshed, texts, encoding):
    """As where ids are numbers of rows, and a record is added in front."""
    refreshed(texts)
    names = [*texts, "d100"]
    shifted = dict(zip(names, ["in front", *texts.values()], strict=True))
    opened, encoded = refreshed(shifted)
    assert opened.about["counts"]["changed"] > 90
    assert encoded[100:] == ["in front"]
    assert opened.about["index"]["deltas"] == 1
    expected(opened, shifted, encoding)


def test_what_the_model_does_not_read_is_no_change(refreshed, encoding):
    before = {str(n): f"a{n} " * LIMIT + "tail" for n in range(20)}
    refreshed(before)
    after = {each: text.replace("tail", "other end") for each, text in before.items()}
    opened, _ = refreshed(after)
    assert opened.about["counts"]["same"] == 20
    assert opened.about["encoded"] == 0
    expected(opened, after, encoding)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_a_chain_of_refreshes_is_as_one_full_run(refreshed, encoding, texts, seed):
    """Any order, any changes; the index is built again when much has changed."""
    rng, deltas = np.random.default_rng(seed), []
    refreshed(texts)
    for step in range(5):
        rows = list(texts.items())
        rng.shuffle(rows)
        texts = dict(rows[int(rng.integers(0, 4)) :])
        for each in rng.choice(list(texts), int(rng.integers(0, 4)), replace=False):
            texts[each] = f"w{rng.integers(60)} changed {step}"
        texts |= {f"new{step}.{n}": f"w{n} fresh {step}" for n in range(int(rng.integers(0, 4)))}
        opened, _ = refreshed(texts)
        deltas.append(opened.about["index"]["deltas"])
        expected(opened, texts, encoding)
    assert 0 in deltas
    assert max(deltas) > 1


def test_twenty_deltas_at_most(refreshed, texts, encoding, monkeypatch):
    monkeypatch.setattr(indexes, "MOST_DELTAS", 2)
    refreshed(texts)
    found = [refreshed(texts | {"d0": f"text {n}"})[0].about["index"]["deltas"] for n in range(4)]
    assert found == [1, 2, 0, 1]


def test_nothing_changed_makes_no_version(refreshed, texts, store):
    refreshed(texts)
    said = []
    opened, encoded = refreshed(texts, say=said.append)
    assert (opened.version, encoded, len(store.versions())) == (Version(1, 1), [], 1)
    assert said == [f"{store}: version 1.1 was published before; nothing changed"]


def test_another_model_is_another_generation(refreshed, texts):
    refreshed(texts)
    other = WordEncoding(seed=1)
    opened, encoded = refreshed(texts, other)
    assert opened.version == Version(2, 1)
    assert sorted(encoded) == sorted(set(texts.values()))
    expected(opened, texts, other)


def test_other_vectors_for_unchanged_texts_are_refused(refreshed, texts, store):
    refreshed(texts)
    with pytest.raises(UserError, match=r"another vector for the unchanged text .*cosine 0\.99"):
        refreshed(texts | {"d0": "new"}, WordEncoding(drift=0.2))
    assert [str(each.version) for each in store.versions()] == ["1.1"]


@pytest.mark.parametrize("left", [79, 45])
def test_shrinkage_has_to_be_meant(refreshed, texts, store, left):
    refreshed(texts)
    fewer = dict(list(texts.items())[:left])
    with pytest.raises(UserError, match="records are gone"):
        refreshed(fewer)
    assert len(store.versions()) == 1
    opened, _ = refreshed(fewer, allow_shrink=True)
    assert opened.about["counts"]["gone"] == 100 - left


def test_a_fifth_may_go(refreshed, texts):
    refreshed(texts)
    assert refreshed(dict(list(texts.items())[:80]))[0].version == Version(1, 2)


def test_users_are_refreshed_and_kept(store, encoding, corpus_of, texts, tmp_path):
    users = {f"u{n}": f"w{n} user" for n in range(30)}
    keyed = open_keyed(f"sqlite:{tmp_path}/users.db")
    options = {"keys": [keyed], "say": lambda line: None}
    both = {"documents": corpus_of(texts), "queries": corpus_of(users)}
    refresh(store, encoding, both, **options)
    # documents alone: the users stay, also in the key store
    refresh(store, encoding, {"documents": corpus_of(texts | {"d0": "new"})}, **options)
    opened = store.open()
    assert opened.version == Version(1, 2)
    assert list(opened.sets["queries"].ids) == list(users)
    changed = users | {"u3": "w9 changed", "u99": "w1 new"}
    del changed["u4"]
    said, options["say"] = [], lambda line: said.append(line)
    both = {"documents": corpus_of(texts), "queries": corpus_of(changed)}
    refresh(store, encoding, both, **options)
    assert any("2 rows put, 1 removed" in line for line in said)
    found = keyed.get([*changed, "u4"], [1])
    wanted = np.stack([encoding.vector(text, "query") for text in changed.values()])
    np.testing.assert_array_equal(np.stack(found.vectors[:-1]), wanted)
    assert found.vectors[-1] is None
    keyed.close()


def test_a_key_store_with_other_rows_is_put_right(refreshed, texts, encoding, tmp_path):
    keyed = open_keyed(f"sqlite:{tmp_path}/keys.db")
    first, _ = refreshed(texts, keys=[keyed])
    stranger = encoding.vector("of a killed load")[None]
    keyed.put(first.version, ["stranger"], stranger)
    keyed.put(first.version, ["d5"], stranger)
    opened, _ = refreshed(texts | {"d0": "new"}, keys=[keyed])
    found = keyed.get([*texts, "stranger"], [1])
    np.testing.assert_array_equal(np.stack(found.vectors[:-1]), opened.sets["documents"].vectors)
    assert found.vectors[-1] is None
    keyed.close()


def test_a_plan_counts_before_anything_is_done(store, encoding, corpus_of, refreshed, texts):
    refreshed(texts)
    encoding.encoded.clear()
    plan = make_plan(store, encoding, {"documents": corpus_of(texts | {"d0": "x", "n": "x"})})
    assert str(plan.counts) == "99 same, 1 changed, 1 new, 0 gone"
    assert (plan.distinct, encoding.encoded) == (1, [])


def test_bad_records_are_refused_in_one_line(refreshed, store, corpus_of, encoding):
    twice = Corpus(["a", "a"], ["x", "y"], [{}, {}], "c.jsonl")
    with pytest.raises(UserError, match=r"c\.jsonl: the id 'a' comes twice"):
        refresh(store, encoding, {"documents": twice})
    with pytest.raises(UserError, match="10,240 bytes"):
        refreshed({"i" * 10_240: "text"})
    assert store.versions() == []


def test_zero_vectors_are_refused(refreshed, texts, store):
    class Zero(WordEncoding):
        def vector(self, text, kind="document"):
            return super().vector(text, kind) * (text != texts["d8"])

    with pytest.raises(UserError, match="'d8' has length 0"):
        refreshed(texts, Zero())
    assert store.versions() == []


def test_keys_depend_on_space_and_side(encoding):
    texts = ["a b"]
    keys = {content_keys(encoding, texts, kind).tobytes() for kind in ("query", "document")}
    keys.add(content_keys(WordEncoding(seed=1), texts, "document").tobytes())
    assert len(keys) == 3


def test_ids_that_are_numbers_are_the_same_as_their_digits():
    keys = np.arange(2, dtype=np.uint8)[:, None].repeat(16, axis=1)
    assert compare(["1", "2"], keys, [2, 1], keys[::-1]).counts.same == 2


def test_the_manifest_says_what_was_done(refreshed, texts, store):
    refreshed(texts, settings=Settings(dtype="float16"))
    opened, _ = refreshed(texts | {"d0": "new"}, settings=Settings(dtype="float16"))
    about = json.loads((opened.folder / "manifest.json").read_text())["about"]
    assert (about["parent"], about["kind"], about["encoded"]) == ("1.1", "refresh", 1)
    assert about["settings"] == {"kind": "exact", "target": 0.99, "dtype": "float16"}
    assert about["lowest_cosine"] > 0.9999
    assert about["index"]["recall"] == 1.0
    assert VersionStore(store.folder).check() == []
