"""What may meet what: spaces, declared spaces, numbers of versions."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from gemb import search, store
from gemb.checks import UserError
from gemb.identity import (
    Alignment,
    Space,
    SpaceError,
    Version,
    check_same_space,
    declare_space,
    model_fingerprint,
    model_space,
    tower_fingerprint,
)
from gemb.models.functional import initial_params
from gemb.models.model import two_towers
from gemb.models.scratch import from_scratch
from gemb.processors.text import of_bytes

SPACE = Space("q" * 32, "d" * 32, 96, True)
ALIGNMENT = {"model": "m", "way": "frozen_tower", "cosine": 0.98, "rows": 1000}


@pytest.mark.parametrize(
    "change",
    [
        {"query": "x"}, {"document": "x"}, {"dim": 48}, {"normalized": False},
        {"similarity": "dot"},
    ],
)  # fmt: skip
def test_everything_that_moves_a_score_is_another_space(change):
    other = dataclasses.replace(SPACE, **change)
    assert other.id != SPACE.id
    with pytest.raises(SpaceError) as caught:
        check_same_space(SPACE, other, "index")
    assert str(SPACE) in str(caught.value)
    assert str(other) in str(caught.value)
    check_same_space(SPACE.id, dataclasses.replace(SPACE), "index")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": "96"}, "space: dim: expected int"),
        ({"dim": True}, "space: dim: expected int"),
        ({"dim": 0}, "positive dim"),
        ({"query": ""}, "two fingerprints"),
        ({"normalized": 1}, "normalized: expected bool"),
        ({"similarity": "hamming"}, "similarity: expected one of"),
    ],
)
def test_a_space_that_says_nonsense_is_refused(fields, message):
    tree = dataclasses.asdict(SPACE) | fields
    with pytest.raises(UserError, match=message):
        Space.read(tree, "file: key")
    with pytest.raises(UserError, match="file: key: expected a space with"):
        Space.read({"dim": 3}, "file: key")


def test_versions_are_ordered_and_parsed():
    assert max(Version.parse("7.10"), Version.parse("7.9")) == Version(7, 10)
    assert Version.parse("0007.0003") == Version(7, 3)
    for text in ("7", "7.0", "0.1", "v7.3", "7.3.1", "-7.3", "", "7.x", "٧.٣"):
        with pytest.raises(UserError, match=r"expected generation\.refresh such as 7\.3"):
            Version.parse(text)


@pytest.mark.parametrize(
    "change",
    [{"way": "hope"}, {"cosine": float("nan")}, {"cosine": 2}, {"cosine": None}, {"rows": 0}],
)
def test_an_alignment_has_to_be_measured(change):
    with pytest.raises(UserError, match="space: "):
        Alignment(**ALIGNMENT | change)


def tower(seed):
    made = from_scratch(of_bytes(), layers=1, width=8, heads=2, mlp=16)
    shapes = initial_params(made.spec, jax.random.key(0))
    rng = np.random.default_rng(seed)
    params = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in shapes.items()}
    return made.trained(made.spec, params)


@pytest.fixture(scope="module")
def old():
    return two_towers(tower(0), tower(1))


def test_a_models_space_has_both_towers_and_the_width(old):
    space, alignment = model_space(old)
    assert alignment is None
    assert (space.query, space.document) == tuple(
        tower_fingerprint(side) for side in (old.query, old.document)
    )
    assert (space.dim, space.normalized) == (8, True)
    assert model_space(old, dim=4)[0].id != space.id
    retrained = dataclasses.replace(old, query=tower(2).document)  # the items' tower is the same
    with pytest.raises(SpaceError):
        check_same_space(space, model_space(retrained)[0], "search")
    shared, _ = model_space(tower(0))
    assert shared.query == shared.document


def test_a_model_may_declare_an_earlier_space(old):
    space, _ = model_space(old)
    later = dataclasses.replace(old, query=tower(2).document)
    alignment = Alignment(model_fingerprint(later), "frozen_tower", 0.97, 500)
    manifest = json.loads(json.dumps(declare_space({"widths": [8]}, space, alignment)))
    assert manifest["widths"] == [8]
    declared = dataclasses.replace(later, manifest=manifest)
    assert model_space(declared) == (space, alignment)
    other = dataclasses.replace(declared, query=tower(3).document)  # trained further
    with pytest.raises(UserError, match=r"gemb.json: space: declared for the model with finger"):
        model_space(other)
    with pytest.raises(SpaceError, match="the model declares space"):
        model_space(declared, dim=4)
    for broken in ({}, "x", {"space": {}}, manifest["space"] | {"way": "hope"}):
        with pytest.raises(UserError, match=r"^gemb.json: space: "):
            model_space(dataclasses.replace(later, manifest={"space": broken}))


def test_folders_and_indexes_of_another_model_are_a_space_error(tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    store.write_embeddings(tmp_path / "v", vectors, model="m", texts="t", kind="document")
    with pytest.raises(SpaceError, match="fingerprint m, not of n"):
        store.read_embeddings(tmp_path / "v", model="n")
    search.save_index(tmp_path / "i", search.ExactSearcher(vectors), model="m")
    with pytest.raises(SpaceError, match="fingerprint m, but the queries are of n"):
        search.load_index(tmp_path / "i", model="n")
