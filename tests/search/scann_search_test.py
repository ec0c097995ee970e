"""ScaNN: near exact search at the default settings, silent, and without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest

from gemb import checks, search
from gemb.search import scann

needs_scann = pytest.mark.skipif(
    not scann.available(), reason="scann is not installed: it ships for Linux only"
)


def _clustered(count, dim, seed=0):
    """Unit vectors around 200 centres, so that neighbours mean something, as in real text."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(200, dim))
    vectors = centres[rng.integers(0, 200, count)] + 0.6 * rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@needs_scann
@pytest.mark.parametrize("dim", [24, 96])
def test_agrees_with_exact_search_at_default_settings(dim):
    vectors = _clustered(4_100, dim)
    documents, queries = vectors[:4_000], vectors[4_000:]
    exact = search.ExactSearcher(documents).search(queries, 10)
    near = search.ScannSearcher(documents).search(queries, 10)
    shared = [
        len(set(a) & set(b)) / 10
        for a, b in zip(exact.indices.tolist(), near.indices.tolist(), strict=True)
    ]
    assert np.mean(shared) > 0.97
    true = np.take_along_axis(queries @ documents.T, near.indices, axis=1)
    np.testing.assert_allclose(near.scores, true, atol=1e-5)  # re-ordered in float32


@needs_scann
def test_builds_and_searches_in_silence():
    code = (
        "import numpy as np; from gemb import search\n"
        "v = np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32)\n"
        "search.ScannSearcher(v).search(v[:3], 5); import sys\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] == 'tensorflow']\n"
        "print('loaded', loaded); print('still heard', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "loaded []\n"
    assert done.stderr == "still heard\n"


def test_without_scann_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    scann._pybind.cache_clear()
    try:
        assert not scann.available()
        with pytest.raises(checks.UserError, match=r"needs scann: pip install 'gemb\[scann\]'"):
            search.ScannSearcher(np.eye(3, dtype=np.float32))
    finally:
        scann._pybind.cache_clear()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="leaves_to_search: expected 1 or more, got 0"):
        search.ScannSearcher(np.eye(3), leaves_to_search=0)
    with pytest.raises(ValueError, match="reorder: expected 1 or more, got 0"):
        search.ScannSearcher(np.eye(3), reorder=0)
