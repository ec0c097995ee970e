"""The wheel, installed without the checkout: what README and tutorials run."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from tutorial_cells import program

from gemb import __version__

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
PAGES = [ROOT / "README.md", *(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("gemb", "configs")


def run(*command, **options) -> str:
    options = {"capture_output": True, "text": True, "check": False, "env": environment()} | options
    done = subprocess.run([str(part) for part in command], **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(**more):
    """Without the checkout, and with one device."""
    dropped = ("PYTHONPATH", "JAX_NUM_CPU_DEVICES")
    return {name: value for name, value in os.environ.items() if name not in dropped} | more


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing of an earlier build is packed; no index is asked."""
    pytest.importorskip("setuptools", minversion="77")
    place = tmp_path_factory.mktemp("build")
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / "source" / name, ignore=ignored)
    for name in SOURCES:
        shutil.copy(ROOT / name, place / "source")
    build = ("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, "-m", *build, "-w", place / "dist", place / "source")
    (path,) = (place / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def gemb(wheel, tmp_path_factory):
    """Runs a program of an environment that holds the wheel, in an empty folder.

    The environment lends the libraries of this one, but nothing that this one finds by .pth files,
    such as an editable gemb.
    """
    place = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv")
    python, work = place / "venv" / "bin" / "python", place / "work"
    work.mkdir()
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    lent = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (Path(own) / "lent.pth").write_text("".join(f"{path}\n" for path in sorted(lent)))

    def call(program, *arguments, folder=work):
        bin_folder = place / "venv" / "bin"
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        own = environment(PATH=path, GEMB_CACHE=str(place / "cache"))
        return run(bin_folder / program, *arguments, cwd=folder, env=own)

    call.work, call.packages = work, Path(own)
    return call


def test_the_wheel_holds_the_package_and_its_configs(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        str(path.relative_to(ROOT))
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == {re.sub("^configs/", "gemb/configs/", name) for name in source}
    assert {"gemb/py.typed", "gemb/configs/experiments/quickstart.gin"} <= packed


def test_commands_work_without_the_checkout(gemb):
    code = "import gemb; print(gemb.__file__)"
    assert run_python(gemb, code).strip() == str(gemb.packages / "gemb" / "__init__.py")
    assert gemb("gemb", "--version") == f"gemb {__version__}\n"
    assert re.search(r"^ +configs ", gemb("gemb", "--help"), re.MULTILINE)
    listed = gemb("gemb", "configs")
    assert listed.startswith(str(gemb.packages / "gemb" / "configs"))
    text = (ROOT / "configs" / "experiments" / "quickstart.gin").read_text()
    assert gemb("gemb", "configs", "configs/experiments/quickstart.gin") == text
    assert not list(gemb.work.iterdir())


def test_every_config_that_pages_name_is_found_and_read(gemb):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = sorted(set(re.findall(r"--gin_file=(configs/experiments/\S+\.gin)", pages)))
    assert "configs/experiments/quickstart.gin" in named
    code = f"""
import gin
from gemb import config
for name in {named!r}:
    config.load([name])
    print(len(gin.config_str()) > 500)
"""
    assert run_python(gemb, code).split() == ["True"] * len(named)


@pytest.mark.slow
def test_readmes_job_runs_to_its_end(gemb):
    gemb("gemb", "harvest", "--output=mine", Path(os.__file__).parent / "json")
    done = gemb(
        "gemb", "train", "--gin_file=experiments/quickstart.gin", "--gin_file=debug.gin",
        "--gin_param=pipeline.pairs.folder = 'mine'",
        "--gin_param=pipeline.pairs.rates = {'train_stdlib': 1}", "--workdir=runs/mine",
    )  # fmt: skip
    assert "runs/mine/model" in done
    code = "import gemb; e = gemb.Embedder.load('runs/mine/model'); print(e.encode(['a']).shape)"
    assert run_python(gemb, code).strip() == "(1, 32)"
    found = gemb("gemb", "search", "--workdir=runs/mine", "--corpus=mine", "--count=2", "decode")
    assert len(found.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", sorted({*TUTORIALS.glob("*.md")} - {TUTORIALS / "index.md"}), ids=lambda page: page.stem
)
def test_tutorials_run_to_their_end(gemb, page, tmp_path):
    shutil.copy(TUTORIALS / "small_model.py", tmp_path)
    (tmp_path / "run.py").write_text(program(page))
    assert gemb("python", "run.py", folder=tmp_path)


def run_python(gemb, code: str) -> str:
    return gemb("python", "-c", code)
