"""The launch scripts with a stand-in for python: what they call, and what they do not repeat."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    "launch/quickstart.sh", "launch/test.sh", "launch/docs.sh", ".ci/run", "launch/setup_venv.sh",
]  # fmt: skip
WITHOUT_EXTRAS = (
    "tests/mains_test.py", "tests/extras_test.py", "tests/configs_test.py", "tests/imports_test.py",
    "tests/data", "tests/search", "tests/store", "tests/curation", "tests/evaluation",
)  # fmt: skip
PYTHON = """#!/bin/bash
case "$1 $2" in
  "-c "*) exit 0 ;;
  "--version "*) echo "Python 3.11.0"; exit 0 ;;
  "-m venv") mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; cp "$0" "$4/bin/ruff" ;;
  "-m pip") [[ -z $PIP_FAILS ]] || exit 1 ;;
esac
echo "$(basename "$0") $*" >>"$CALLS"
"""


@pytest.fixture
def launch(tmp_path):
    """Runs a script in a copy of the repository's front, where python only notes its calls."""
    for name in ("launch", ".ci"):
        shutil.copytree(ROOT / name, tmp_path / "gemb" / name)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "gemb")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    _program(bin_folder / "python3", PYTHON)
    _program(bin_folder / "nvidia-smi", "#!/bin/bash\nexit 9\n")
    calls = tmp_path / "calls"

    def run(script: str, *arguments: str, gpu: str = "", **environment: str):
        if gpu:
            _program(bin_folder / "nvidia-smi", f"#!/bin/bash\necho '| CUDA Version: {gpu} |'\n")
        calls.write_text("")
        done = subprocess.run(
            ["bash", str(tmp_path / "gemb" / script), *arguments],
            cwd=tmp_path,
            env={
                "PATH": f"{bin_folder}:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "CALLS": str(calls),
                **environment,
            },
            capture_output=True,
            text=True,
        )
        done.calls = calls.read_text().splitlines()
        return done

    run.bin = bin_folder
    return run


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _pip(done) -> list[str]:
    """What pip was asked to install, without options."""
    calls = [call for call in done.calls if " -m pip install " in call]
    return [call.split()[-1] for call in calls]


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_the_scripts(script):
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


@pytest.mark.parametrize("script", SCRIPTS[:3])
def test_help_says_every_option_and_installs_nothing(launch, script):
    done = launch(script, "--help")
    assert done.returncode == 0
    assert done.calls == []
    options = re.findall(
        r"^ +(?:-h \| )?(--(?!help)\w+)=?\*?\)", (ROOT / script).read_text(), re.MULTILINE
    )
    assert options
    for option in options:
        assert option in done.stdout


@pytest.mark.parametrize("script", SCRIPTS[:-1])
def test_scripts_are_executable(script):
    assert os.access(ROOT / script, os.X_OK)


def test_quickstart_runs_every_verb_in_order(launch):
    done = launch("launch/quickstart.sh")
    assert done.returncode == 0, done.stderr
    assert _pip(done) == [".[eval,scann,tensorboard]"]
    workdir = "--workdir=runs/quickstart"
    assert [call for call in done.calls if "gemb.cli" in call] == [
        "python -m gemb.cli fetch",
        "python -m gemb.cli harvest",
        f"python -m gemb.cli train --gin_file=configs/experiments/quickstart.gin {workdir}",
        f"python -m gemb.cli evaluate {workdir}",
        f"python -m gemb.cli search {workdir} read a file line by line without loading it all",
    ]
    assert "runs/quickstart/report.html" in done.stdout


def test_nothing_is_installed_twice_until_the_recipe_changes(launch, tmp_path):
    assert _pip(launch("launch/test.sh")) == [".[all,dev]"]
    again = launch("launch/quickstart.sh")
    assert _pip(again) == []
    assert "-m venv" not in "\n".join(again.calls)
    with open(tmp_path / "gemb" / "setup.py", "a") as file:
        file.write("# changed\n")
    assert _pip(launch("launch/quickstart.sh")) == [".[eval,scann,tensorboard]"]
    assert _pip(launch("launch/quickstart.sh")) == []
    assert _pip(launch("launch/test.sh")) == [".[all,dev]"]


def test_peers_take_a_cpu_torch_first_and_satisfy_quickstart(launch):
    done = launch("launch/test.sh", "--peers", "-k", "losses")
    assert _pip(done) == ["torch==2.13.0", ".[all,dev,peers,services]"]
    assert done.calls[-1] == "python -m pytest -m not slow -k losses"
    assert _pip(launch("launch/quickstart.sh")) == []


@pytest.mark.parametrize(
    ("cuda", "extra"), [("13.0", "cuda"), ("14.1", "cuda"), ("12.8", "cuda12")]
)
def test_driver_chooses_the_cuda_extra(launch, cuda, extra):
    assert _pip(launch("launch/quickstart.sh", gpu=cuda)) == [f".[eval,scann,tensorboard,{extra}]"]


def test_failed_installation_is_tried_again(launch):
    failed = launch("launch/test.sh", PIP_FAILS="1")
    assert failed.returncode == 2
    assert "test.sh: error: pip could not install gemb[all,dev]" in failed.stderr
    assert not any("pytest" in call for call in failed.calls)
    assert _pip(launch("launch/test.sh")) == [".[all,dev]"]


def test_other_interpreter_has_its_own_environment(launch, tmp_path):
    pyenv = tmp_path / ".pyenv" / "versions" / "3.12.9" / "bin"
    pyenv.mkdir(parents=True)
    _program(pyenv / "python3.12", PYTHON)
    _program(
        launch.bin / "python3.12", "#!/bin/bash\nexit 127\n"
    )  # pyenv's shim for another version
    done = launch("launch/test.sh", "--python", "python3.12")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gemb" / ".venv-python3.12" / "bin" / "python").exists()
    assert not (tmp_path / "gemb" / ".venv").exists()


def test_missing_interpreter_and_unknown_option_are_one_line(launch):
    missing = launch("launch/test.sh", "--python", "python3.99")
    unknown = launch("launch/quickstart.sh", "--workdirs=x")
    for done, word in ((missing, "python3.99"), (unknown, "--workdirs")):
        assert done.returncode == 2
        assert word in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.calls == []


def test_force_and_workdir_reach_the_verbs(launch, tmp_path):
    calls = launch("launch/quickstart.sh", "--force", "--workdir=mine").calls
    verbs = [call for call in calls if "gemb.cli" in call]
    assert all(call.endswith("--force") for call in verbs[:4])
    assert f"--workdir={tmp_path}/mine" in verbs[2]
    calls = launch("launch/quickstart.sh", "--workdir", f"{tmp_path}/other").calls
    assert f"--workdir={tmp_path}/other" in calls[-1]


def test_ci_lints_before_it_tests(launch):
    assert all((ROOT / path).exists() for path in WITHOUT_EXTRAS)
    done = launch(".ci/run")
    assert done.returncode == 0, done.stderr
    assert _pip(done) == ["torch==2.13.0", ".[all,dev,peers,services]", ".[eval,scann,docs]"]
    assert [call for call in done.calls if "pip" not in call][-8:] == [
        "ruff check .",
        "ruff format --check .",
        "python -m mypy",
        "python -m pytest -n 0 -m peers and not slow --hide-peers tests",
        "python -m pytest -m not slow --hide-extras " + " ".join(WITHOUT_EXTRAS),
        "python -m gemb.cli fetch",
        "python -m pytest -m not slow",
        "python -m sphinx -b html -W --keep-going -n docs docs/_build/html",
    ]
