"""gemb: embedding models in JAX, from raw text to versioned vectors.

Public names are imported on first use, so that `import gemb` loads neither JAX nor TensorFlow.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Embedder", "__version__"]

_LAZY = {"Embedder": "gemb.inference.embedder"}


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'gemb' has no attribute {name!r}")
