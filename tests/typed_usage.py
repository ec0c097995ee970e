"""A user's program with the types that it expects; mypy checks it, nothing runs it."""

from collections.abc import Sequence
from typing import Any, assert_type

import numpy as np

import gemb


def program() -> None:
    model = gemb.load("all-MiniLM-L6-v2", max_length=128)
    assert_type(model, gemb.Embedder)
    pairs: Sequence[tuple[str, str]] = [("a", "b"), ("c", "d")]
    tuned = gemb.train(model, pairs, workdir="runs/a", widths=(384, 96), columns={"query": "q"})
    assert_type(tuned, gemb.Embedder)
    assert_type(tuned.encode_query("a"), np.ndarray)
    assert_type(tuned.encode_document(["a", "b"], dim=96), np.ndarray)
    assert_type(tuned.similarity(tuned.encode("a"), tuned.encode(["b"])), np.ndarray)
    assert_type(tuned.save("my-model"), str)
    assert_type(tuned.fingerprint, str)
    assert_type(gemb.evaluate({"mine": tuned, "base": "all-MiniLM-L6-v2"}, "tasks"), dict[str, Any])
    index = gemb.search.ExactSearcher(tuned.encode(["a", "b"]))
    assert_type(index.search(tuned.encode(["a"]), 1), gemb.search.Hits)
