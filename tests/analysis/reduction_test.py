"""PCA and random projections beside plain prefixes: the same cosines at full width."""

import numpy as np
import pytest
from stub_encoder import StubEncoder
from task_folders import house

from gemb.analysis.reduction import reduced
from gemb.checks import UserError
from gemb.evaluation import comparison, suite
from gemb.evaluation.tasks import read_tasks, sample_documents
from gemb.inference.encoded_once import with_prompts

pytestmark = pytest.mark.extra("eval")


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "_DRAWS", 100)
    monkeypatch.setattr(comparison, "_COSTLY_DRAWS", 100)
    return [t for t in read_tasks([house(tmp_path / "house")]) if t.name in ("beir", "en_test")]


TEXTS = ["document 0", "document 1", "document 2", "a b", "a c", "d", "e"]


def test_pca_is_scikit_learns_and_random_is_orthogonal(tasks):
    from sklearn.decomposition import PCA

    encoder = StubEncoder()
    made = reduced(encoder, sample_documents(tasks), ["pca", "random"])
    assert list(made) == ["", "pca", "random"]
    plain, pca, drawn = (one.encode(TEXTS, kind="document") for one in made.values())
    for turned in (pca, drawn):
        assert not np.allclose(turned, plain)
        np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, rtol=1e-4, atol=1e-4)
    directions = PCA(5, svd_solver="full").fit(np.float64(plain)).components_
    np.testing.assert_allclose(np.abs(pca[:, :5]), np.abs(plain @ directions.T), atol=1e-3)
    other = reduced(StubEncoder(), sample_documents(tasks), ["random"], seed=1)["random"]
    assert not np.allclose(other.encode(TEXTS, kind="document"), drawn)
    assert len({one.fingerprint for one in (*made.values(), other)}) == 4
    assert made[""].fingerprint == encoder.fingerprint


def test_each_text_is_encoded_once_for_all_and_full_width_agrees(tasks, tmp_path):
    encoder = StubEncoder()
    models = {
        name or "plain": suite.evaluate_model(one, tasks, cache=tmp_path, widths=[16, 4])
        for name, one in reduced(encoder, sample_documents(tasks), ["pca", "random"]).items()
    }
    assert len(encoder.encoded) == len(set(encoder.encoded))
    tree = suite.summary(tasks, models, tmp_path)
    for rows in tree["results"].values():
        for name in ("pca", "random"):
            assert rows[name]["16"] == pytest.approx(rows["plain"]["16"], abs=1e-4)


def test_prompts_reach_the_model_behind(tasks):
    encoder = StubEncoder()
    made = reduced(encoder, sample_documents(tasks), ["random"])
    one, other = (with_prompts(turned, {"document": "say "}) for turned in made.values())
    said = StubEncoder().encode(["say a"], kind="document")
    np.testing.assert_allclose(one.encode(["a"], kind="document"), said, rtol=1e-6)
    axes = made["random"]._axes
    np.testing.assert_allclose(other.encode(["a"], kind="document"), said @ axes, rtol=1e-5)
    assert with_prompts(made[""], {}) is made[""]


def test_an_unknown_method_is_named(tasks):
    with pytest.raises(UserError, match="--reductions: unknown 'mds'; known are pca, random"):
        reduced(StubEncoder(), sample_documents(tasks), ["mds"])
