"""A process killed after 120 batches and one that goes on give what 300 in one go give."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import hashlib, json, os, signal, sys
from gemb.data import forms
from gemb.data.mixing import Task
from gemb.data.pipeline import mixture
from gemb.data.sources.reading import files
from gemb.processors.text import of_bytes
from gemb.structs import Processors

folder, mode = sys.argv[1:]
processors = Processors(of_bytes(), of_bytes())
FORMS = {
    "pairs": (forms.Pairs(negatives=2), 3), "graded": (forms.Graded(high=5), 1),
    "classes": (forms.Classification(negatives=3), 2),
    "spans": (forms.SpanCorruption(replace="drop"), 4), "next": (forms.NextSentence(), 2),
    "cloze": (forms.InverseCloze(), 1), "title": (forms.TitleBody(), 1),
    "same": (forms.SameText(), 1),
}
sizes = {"query_length": 24, "document_length": 32}
tasks = {name: Task(files(f"{folder}/rows.jsonl"), form, **sizes)
         for name, (form, _) in FORMS.items()}
rates = {name: rate for name, (_, rate) in FORMS.items()}

def iterators():
    return {f"{kind} {host}/{hosts}": mixture(processors, 7, (host, hosts), tasks=tasks,
                batch_size=4, rates=rates, homogeneous=kind == "homogeneous", buckets=(16, 24))
            for kind in ("homogeneous", "mixed") for host, hosts in ((0, 1), (0, 2), (1, 2))}

def marks(batches, count):
    for _ in range(count):
        batch, mark = next(batches), hashlib.sha256()
        arrays = [*batch.query[:2], *batch.document[:2], *batch[2:7]]
        for array in arrays + [batch.fields[name] for name in sorted(batch.fields)]:
            mark.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        yield mark.hexdigest()

if mode == "whole":
    print(json.dumps({name: list(marks(each, 300)) for name, each in iterators().items()}))
elif mode == "first":
    shown, states = {}, {}
    for name, each in iterators().items():
        shown[name] = list(marks(each, 120))
        states[name] = each.get_state()
    with open(f"{folder}/states.json", "w") as file:
        json.dump(states, file)
    print(json.dumps(shown), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
else:
    states = json.load(open(f"{folder}/states.json"))
    for name, each in (made := iterators()).items():
        each.set_state(states[name])
    print(json.dumps({name: list(marks(each, 180)) for name, each in made.items()}))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    (folder / "script.py").write_text(SCRIPT)
    rows = [
        {
            "query": f"q{i}",
            "document": f"document {i}",
            "negatives": [f"wrong {i}.{j}" for j in range(i % 4)],
            "score": i % 6,
            "label": f"class {i % 7}",
            "title": f"title {i}",
            "text": " ".join(f"Sentence {j} of text {i}." for j in range(3 + i % 4)),
        }
        for i in range(97)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for mode in ("whole", "first", "rest"):
        result = subprocess.run(
            [sys.executable, str(folder / "script.py"), str(folder), mode],
            env=os.environ | {"PYTHONPATH": str(ROOT), "GEMB_CACHE": str(folder / "cache")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == (-9 if mode == "first" else 0), result.stderr[-2000:]
        found[mode] = json.loads(result.stdout)
    return found


def test_300_batches_are_120_a_kill_and_180(runs):
    assert len(runs["whole"]) == 6  # homogeneous and mixed; one host, and both of two
    for name, marks in runs["whole"].items():
        assert len(set(marks)) == len(marks) == 300, name
        assert runs["first"][name] + runs["rest"][name] == marks, name


def test_hosts_and_kinds_of_batches_differ(runs):
    """What is compared above is not one thing six times."""
    assert len({marks[0] for marks in runs["whole"].values()}) == 6
