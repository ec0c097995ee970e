"""Models by their id on a hub that is made here and speaks its protocol over HTTP."""

import hashlib
import http.server
import json
import shutil
import threading

import jax
import numpy as np
import pytest

from gemb.checks import UserError
from gemb.inference.embedder import Embedder
from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.pretrained import fetch as fetching
from gemb.pretrained import hub, saving
from gemb.pretrained.adapt import load
from gemb.processors.text import of_bytes

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Of one model, `someone/tiny`, whose files are in `folder`."""

    folder, asked = None, None

    def do_GET(self):
        self._answer(True)

    def do_HEAD(self):
        self._answer(False)

    def _answer(self, body):
        path = self.path.split("?")[0]
        self.asked.append(path)
        files = {str(f.relative_to(self.folder)): f for f in self.folder.rglob("*") if f.is_file()}
        start = f"/someone/tiny/resolve/{COMMIT}/"
        if path in (f"/api/models/someone/tiny/revision/{r}" for r in ("main", "v1", COMMIT)):
            siblings = [{"rfilename": name} for name in files]
            about = {"id": "someone/tiny", "sha": COMMIT, "siblings": siblings}
            content = json.dumps(about).encode()
        elif path.startswith("/api/models/someone/tiny/tree/"):
            rows = [
                {"type": "file", "path": name, "size": f.stat().st_size, "oid": "0" * 40}
                for name, f in files.items()
            ]
            content = json.dumps(rows).encode()
        elif path.startswith(start) and path.removeprefix(start) in files:
            content = files[path.removeprefix(start)].read_bytes()
        else:
            self.send_response(404)
            known = path.startswith(("/api/models/someone/tiny", "/someone/tiny"))
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(monkeypatch, tmp_path):
    """A hub with a tiny model on it, nothing in the caches."""
    from huggingface_hub import constants

    model = from_scratch(of_bytes(16), layers=1, width=8, heads=2, mlp=16, positions=16)
    params = jax.jit(lambda key: initial_params(model.spec, key))(jax.random.key(0))
    model = model.with_params(jax.device_get(params))
    saving.save(model, tmp_path / "published")
    (tmp_path / "published" / "pytorch_model.bin").write_bytes(b"a pickle")
    Hub.folder, Hub.asked = tmp_path / "published", []
    server = http.server.ThreadingHTTPServer(("localhost", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://localhost:{server.server_address[1]}")
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # whatever this machine says
    yield tmp_path / "published"
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_used_by_its_id(served):
    with pytest.raises(UserError, match="run `gemb fetch someone/tiny` first"):
        load("someone/tiny")
    assert Hub.asked == []  # nothing but `gemb fetch` asks the network
    said = []
    folder = fetching.fetch("someone/tiny", say=said.append)
    assert said == [f"someone/tiny from the Hugging Face hub: {folder}"]
    assert not (folder / "pytorch_model.bin").exists()
    Hub.asked.clear()
    texts = ["one", "two words"]
    expected = Embedder.load(served).encode(texts)
    shutil.rmtree(served)
    np.testing.assert_array_equal(Embedder.load("someone/tiny").encode(texts), expected)
    assert Hub.asked == []


def test_a_revision_is_part_of_the_id(served):
    folder = fetching.fetch(f"someone/tiny@{COMMIT}", say=lambda line: None)
    assert fetching.model_folder(f"someone/tiny@{COMMIT}") == folder
    with pytest.raises(UserError, match="run `gemb fetch someone/tiny@v1` first"):
        fetching.model_folder("someone/tiny@v1")
    with pytest.raises(UserError, match=r"someone/tiny@v2 cannot be had from the Hugging Face hub"):
        fetching.fetch("someone/tiny@v2")


def test_what_the_hub_has_not_is_one_line(served, monkeypatch):
    with pytest.raises(
        UserError, match=r"^someone/other cannot be had from .*Check the id.*TOKEN$"
    ):
        fetching.fetch("someone/other")
    (served / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no safetensors, and pickles are not read"):
        fetching.fetch("someone/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    with pytest.raises(UserError, match="someone/third cannot be had"):
        fetching.fetch("someone/third")


def test_a_folder_comes_before_an_id(served, monkeypatch):
    monkeypatch.chdir(served.parent)
    (served.parent / "someone").mkdir()
    served.rename("someone/tiny")
    assert fetching.model_folder("someone/tiny").samefile("someone/tiny")
    assert not any(map(hub.is_hub_id, ("/someone/tiny", "a/b/c", "tiny")))
