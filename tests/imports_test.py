"""The house's rules: imports go down, single importers, rooms that need no TensorFlow."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {
    "structs": 0, "checks": 0, "files": 0, "bindings": 0,
    "losses": 1, "metrics": 1, "reports": 1, "tokenizers": 1, "processors": 1, "parallel": 1,
    "identity": 1,
    "models": 2,
    "pretrained": 3, "data": 3, "datasets": 3, "search": 3,
    "inference": 4, "store": 4, "runs": 4, "recommendation": 4,
    "training": 5, "evaluation": 5, "curation": 5, "analysis": 5, "export": 5, "serving": 5,
    "answers": 5,
    "config": 6, "door": 6, "release": 6,
    "cli": 7,
}  # fmt: skip
# Rooms of one layer that may import each other, in this direction only.
ALLOWED_SIBLINGS = {
    ("files", "checks"),
    ("processors", "tokenizers"),
    ("data", "datasets"),
    ("datasets", "pretrained"),  # download_wheel
    ("recommendation", "inference"),  # the towers of a recommender
    ("serving", "analysis"),  # classifiers
    ("door", "config"),
}
FORBIDDEN = {("models", "losses"), ("data", "models"), ("data", "losses")}
SINGLE_IMPORTERS = {
    "gin": {"gemb/config.py"},
    "opentelemetry": {"gemb/serving/tracing.py"},
    "orbax": {"gemb/training/checkpoints/storage.py"},
    "mteb": {
        "gemb/evaluation/mteb/encoder.py",
        "gemb/evaluation/mteb/local_tasks.py",
        "gemb/evaluation/mteb/run.py",
    },
    "scann": {"gemb/search/scann.py"},
    "bm25s": {"gemb/search/lexical.py"},
    "PIL": {
        "gemb/processors/decoding.py",
        "gemb/data/captioned.py",
        "gemb/curation/duplicates/alignment.py",
    },
    "av": {"gemb/processors/video.py"},
    "array_record": {"gemb/data/sources/tfrecord.py"},
    "pyarrow": {"gemb/data/sources/columnar.py", "gemb/datasets/movielens.py"},
    "sentencepiece": {
        "gemb/tokenizers/sentencepiece_encoder.py",
        "gemb/tokenizers/sentencepiece_model.py",
    },
    "pypdf": {"gemb/datasets/documents/pdf.py"},
    "seqio": {"gemb/data/seqio_tasks.py", "gemb/data/offline.py", "gemb/cli/cache.py"},
    "apache_beam": {"gemb/data/offline.py", "gemb/release/bulk_beam.py"},
    "gguf": {"gemb/pretrained/convert/gguf_llama.py", "gemb/export/gguf_file.py"},
    "psycopg": {"gemb/store/keyed/database.py"},
    "pymilvus": {"gemb/store/hosts/milvus.py"},
    "redis": {"gemb/store/keyed/redis.py"},
    "matplotlib": {"gemb/reports/svg.py"},
    "onnx": {
        "gemb/export/onnx_file.py",
        "gemb/export/onnx_graph.py",
        "gemb/pretrained/convert/onnx_graph.py",
    },
    "onnxruntime": {"gemb/export/consumers.py", "gemb/export/onnx_file.py"},
    "sentence_transformers": {"gemb/export/consumers.py"},
    "tensorboard": {"gemb/runs/records.py"},
    "torch": {"gemb/export/consumers.py", "gemb/inference/cross_encoder.py"},
    "usearch": {"gemb/search/hnsw.py"},
    "transformers": {"gemb/export/consumers.py", "gemb/inference/cross_encoder.py"},
    "mlflow": {"gemb/runs/trackers.py"},
    "trackio": {"gemb/runs/trackers.py"},
    "wandb": {"gemb/runs/trackers.py"},
    "tensorflow": {"gemb/data/seqio_tasks.py"},
    "msgspec": {
        "gemb/serving/experiments/arms.py",
        "gemb/serving/http/openapi.py",
        "gemb/serving/http/wire.py",
    },
    "orjson": {
        "gemb/serving/experiments/exposures.py",
        "gemb/serving/http/app.py",
        "gemb/serving/http/web.py",
    },
    "prometheus_client": {"gemb/serving/metrics.py"},
    "starlette": {"gemb/serving/http/app.py", "gemb/serving/http/web.py"},
    "uvicorn": {"gemb/serving/server.py"},
}
MODULES = sorted((ROOT / "gemb").rglob("*.py"))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "gemb":
            names |= {f"gemb.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return frozenset(names)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_files(path: Path, files: dict[str, Path]) -> set[str]:
    """The project's files that a file imports, by module name; a package counts as its file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in files else node.module)
    return found & set(files)


def room(path: Path) -> str:
    return path.relative_to(ROOT / "gemb").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    here = room(path)
    if here == "__init__":
        return
    for name in imports(path):
        there = name.split(".")[1] if name.startswith("gemb.") else None
        if there in (None, here, "__version__", "Embedder"):
            continue
        pair = (here, there)
        assert pair not in FORBIDDEN, f"{here} must not import {name}"
        below = LAYERS[there] < LAYERS[here]
        assert below or pair in ALLOWED_SIBLINGS, f"{here} must not import {name}"


def test_no_file_imports_in_a_circle():
    files = {module_name(path): path for path in MODULES}
    graph = {name: imported_files(path, files) - {name} for name, path in files.items()}
    while leaves := {name for name, below in graph.items() if not below}:
        graph = {name: below - leaves for name, below in graph.items() if name not in leaves}
    assert not graph, f"these files import each other in a circle: {sorted(graph)}"


@pytest.mark.parametrize("library", SINGLE_IMPORTERS)
def test_single_importers(library):
    found = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert found <= SINGLE_IMPORTERS[library]


def test_functions_have_at_most_12_parameters():
    """Losses are the exception: their options are their documentation."""
    wide = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and room(path) != "losses":
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
                if count > 12:
                    wide.append(f"{path.relative_to(ROOT)}: {node.name} has {count}")
    assert not wide


def test_folders_hold_at_most_15_files():
    """One file for each verb is the exception."""
    folders = {path.parent for path in MODULES} - {ROOT / "gemb" / "cli"}
    files = {folder: set(folder.glob("*.py")) - {folder / "__init__.py"} for folder in folders}
    assert not {str(folder) for folder, found in files.items() if len(found) > 15}


def test_only_tokenizers_and_the_text_processor_know_the_tokenizers_format():
    named = {
        str(path.relative_to(ROOT / "gemb"))
        for path in MODULES
        if "tokenizer_json" in path.read_text(encoding="utf-8")
    }
    assert {name for name in named if not name.startswith("tokenizers/")} == {"processors/text.py"}


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_rooms_that_need_no_tensorflow():
    blocked = "".join(
        f"sys.modules[{name!r}] = None\n"
        for name in ("tensorflow", "seqio", "scann", "tensorflow_datasets", "apache_beam")
    )
    rooms = (
        "losses",
        "models",
        "training.loop",
        "inference.embedder",
        "pretrained.saving",
        "evaluation",
    )
    rooms += (
        "search",
        "curation",
        "data.pipeline",
        "data.sources.cached",
        "training.planning.dry_run",
        "evaluation.workdir",
        "analysis",
        "reports",
    )
    result = python(f"import sys\n{blocked}" + "".join(f"import gemb.{r}\n" for r in rooms))
    assert result.returncode == 0, result.stderr


def test_import_gemb_is_light():
    heavy = ("jax", "tensorflow", "numpy", "flax", "gin")
    result = python(f"import gemb, sys; print([m for m in {heavy} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
