"""What may meet what: spaces, declared spaces, numbers of versions."""

import dataclasses

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
    fingerprint,
    model_space,
)
from gemb.models.model import Model

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
        with pytest.raises(UserError, match="expected generation.refresh such as 7.3"):
            Version.parse(text)


@pytest.mark.parametrize(
    "change",
    [{"way": "hope"}, {"cosine": float("nan")}, {"cosine": 2}, {"cosine": None}, {"rows": 0}],
)
def test_an_alignment_has_to_be_measured(change):
    with pytest.raises(UserError, match="space: "):
        Alignment(**ALIGNMENT | change)


class _Processor:
    def __init__(self, text):
        self.text = text

    def identity(self):
        return self.text, {}

    def check_encoder(self, encoder):
        pass


def model(monkeypatch, texts=("same", "same"), normalize=True):
    """A stand-in whose towers differ in their processors alone."""
    from gemb.models.spec import TextSpec, TowerSpec

    del monkeypatch
    towers = []
    for text in texts:
        spec = TowerSpec(TextSpec(vocab=9), pooling="mean", normalize=normalize)
        towers.append((spec, {"w": np.ones(2, np.float32)}, _Processor(text)))
    return towers
