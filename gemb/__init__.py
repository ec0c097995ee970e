"""gemb: embedding models in JAX, from raw text to versioned vectors.

    model = gemb.load("all-MiniLM-L6-v2")
    tuned = gemb.train(model, pairs, widths=(384, 96), workdir="runs/mine")
    tuned.encode_query("..."), tuned.encode_document(["..."], dim=96), tuned.save("my-model")
    gemb.evaluate(tuned, "DIR")
    gemb.documents("docs", "runs/corpus", model="all-MiniLM-L6-v2")  # then `gemb index`
    model.encode([gemb.Image("a.jpg"), "a dog"])  # a model of pictures and texts
    print(gemb.ask("how is it installed?", "runs/index"))

Public names are imported on first use, so that `import gemb` loads neither JAX nor TensorFlow.
"""

import importlib

__version__ = "0.1.0"

# name -> where it is; a module's own name stands for the module
_LAZY = {
    "Embedder": "gemb.inference.embedder",
    "Image": "gemb.structs",
    "Video": "gemb.structs",
    "Recommender": "gemb.recommendation.recommender",
    "ask": "gemb.answers.ask",
    "documents": "gemb.answers.corpus",
    "evaluate": "gemb.door",
    "load": "gemb.door",
    "train": "gemb.door",
}
_MODULES = {name: f"gemb.{name}" for name in ("losses", "metrics", "search")}
_MODULES["drift"] = "gemb.analysis.drift"
__all__ = [
    "Embedder",
    "Image",
    "Recommender",
    "Video",
    "__version__",
    "ask",
    "documents",
    "drift",
    "evaluate",
    "load",
    "losses",
    "metrics",
    "search",
    "train",
]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'gemb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
