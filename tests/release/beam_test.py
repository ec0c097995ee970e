"""Embedding by Apache Beam: the same folder as by one process, also after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gemb.identity import model_space
from gemb.pretrained.adapt import load
from gemb.store.embeddings import read_embeddings

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.extra("beam"), pytest.mark.slow]


def embed(model, corpus, output, *arguments, **options):
    command = [sys.executable, "-m", "gemb.cli", "embed", f"--model={model}", f"--input={corpus}"]
    return subprocess.Popen(
        [*command, f"--output={output}", *arguments], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.fixture
def corpus(write_corpus):
    return write_corpus({f"d{row}": f"text number {row} of {row % 7}" for row in range(5000)})


@pytest.fixture
def alone(tiny_models, corpus, tmp_path):
    process = embed(tiny_models[0], corpus, tmp_path / "alone")
    assert process.wait() == 0, process.stderr.read()
    return read_embeddings(tmp_path / "alone", model=None)


def check_same(alone, folder):
    found = read_embeddings(folder, model=None)
    np.testing.assert_allclose(found.vectors, alone.vectors, atol=1e-6)
    assert (found.ids, found.about) == (alone.ids, alone.about)
    assert not (folder / "parts").exists()


@pytest.mark.parametrize("more", ["", "multi_processing"])
def test_the_same_as_one_process(alone, tiny_models, corpus, tmp_path, more):
    options = ["--runner=FnApiRunner"]
    if more:
        options += [f"--runner_options=--direct_running_mode={more},--direct_num_workers=2"]
    process = embed(tiny_models[0], corpus, tmp_path / "beam", *options)
    _, error = process.communicate()
    assert process.returncode == 0, error
    check_same(alone, tmp_path / "beam")


def test_a_killed_pipeline_continues(alone, tiny_models, corpus, tmp_path):
    output, runner = tmp_path / "beam", "--runner=FnApiRunner"
    process = embed(tiny_models[0], corpus, output, runner, start_new_session=True)
    while not (parts := list(tmp_path.glob(".beam.*/parts/*.npy"))):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in parts if path.exists()}
    process = embed(tiny_models[0], corpus, output, runner)
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert kept or output.exists()
    check_same(alone, output)


@pytest.mark.parametrize("more", ["", "multi_processing"])
def test_workers_load_an_index_host(alone, tiny_models, corpus, tmp_path, host_opener, more):
    """Also where the host was half loaded, by a call that was killed."""
    options = ["--runner=FnApiRunner", f"--host={host_opener.address}"]
    options += [f"--name={host_opener.name}"]
    if more:
        options += [f"--runner_options=--direct_running_mode={more},--direct_num_workers=2"]
    host = host_opener()
    space = model_space(load(str(tiny_models[0])), 16)[0]
    version = host.begin(space)
    host.load(version, ["stranger", *alone.ids[:20]], np.array(alone.vectors[:21]))
    process = embed(tiny_models[0], corpus, tmp_path / "beam", *options)
    said, error = process.communicate()
    assert process.returncode == 0, error
    assert "version 1.1 is live: 5,000 documents" in said
    asked = np.array(alone.vectors[:5])
    hits = host.search(asked, 10, space=space, generation=1)
    scores = -np.sort(-asked @ np.asarray(alone.vectors).T, axis=1)[:, :10]
    np.testing.assert_allclose(hits.scores, scores, atol=1e-3)


def test_mistakes_are_one_line(tiny_models, corpus, tmp_path):
    process = embed(tiny_models[0], corpus, tmp_path / "b", "--runner=NoSuchRunner")
    _, error = process.communicate()
    assert process.returncode == 2
    assert "--runner=NoSuchRunner" in error.splitlines()[-1]


def test_a_bad_text_is_one_line(tiny_models, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"_id": "a"}) + "\n")
    process = embed(tiny_models[0], path, tmp_path / "b", "--runner=FnApiRunner")
    _, error = process.communicate()
    assert process.returncode == 2
    assert "c.jsonl" in error.splitlines()[-1]
