"""The examples of launch/schedule: their commands are gemb's, with flags that it has."""

import contextlib
import itertools
import re
import runpy
import shlex
import sys
import types
from pathlib import Path

import pytest
from absl import flags

from gemb.cli.__main__ import VERBS, run
from gemb.release.stages import NAMES

FOLDER = Path(__file__).parents[2] / "launch" / "schedule"


@pytest.fixture
def parsed(monkeypatch):
    """Checks a command by the verb's own flags, without running it; gives its flags."""

    def check(command):
        words = shlex.split(command.partition(">>")[0])
        verb = words[1]
        assert words[0].endswith("gemb") or words[0] == "$GEMB"
        assert verb in VERBS
        with pytest.raises(SystemExit) as left, contextlib.redirect_stdout(None):
            run(verb, ["--help"])  # defines the flags
        assert left.value.code == 0
        flags.FLAGS([verb, *words[2:]])
        found = {name: flags.FLAGS[name].value for name in flags.FLAGS if flags.FLAGS[name].present}
        return verb, found

    return check


def test_crontab(parsed):
    lines = (FOLDER / "crontab").read_text().splitlines()
    entries = [line for line in lines if line and not re.match(r"#|[A-Z]+=", line)]
    verbs = []
    for line in entries:
        fields = line.split(maxsplit=5)
        for field, most in zip(fields[:5], (59, 23, 31, 12, 7), strict=True):
            assert field == "*" or 0 <= int(field) <= most
        command = fields[5].replace(r"$(date +\%F)", "2026-01-01")
        verbs.append(parsed(command)[0])
    assert verbs == ["refresh", "release", "retire"]


def test_airflow_dag(parsed, monkeypatch):
    """With stand-ins for Airflow's two classes."""
    dags, edges = {}, []

    class Dag:
        def __init__(self, name, **options):
            assert re.fullmatch(r"[\d* ]+", options["schedule"])
            self.tasks = dags.setdefault(name, [])

        def __enter__(self):
            Dag.current = self

        def __exit__(self, *_):
            Dag.current = None

    class Bash:
        def __init__(self, *, task_id, bash_command):
            self.name, self.command = task_id, bash_command
            Dag.current.tasks.append(self)

        def __rshift__(self, other):
            edges.append((self.name, other.name))
            return other

    for name, content in {
        "airflow": {"DAG": Dag},
        "airflow.operators": {},
        "airflow.operators.bash": {"BashOperator": Bash},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    runpy.run_path(str(FOLDER / "airflow_dag.py"))
    assert edges == list(itertools.pairwise(NAMES))
    found = [parsed(task.command.replace("{{ ds }}", "today")) for task in dags["gemb_release"]]
    assert [each["stages"] for _, each in found] == [[name] for name in NAMES]
    assert [parsed(task.command)[0] for task in dags["gemb_refresh"]] == ["refresh"]
