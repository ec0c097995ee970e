"""`gemb push` to a hub that is made here and speaks the hub's API over HTTP."""

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest

from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.processors.text import of_bytes

ROOT = Path(__file__).parents[2]
TOKEN = "hf_write"


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub where `me` may write; its state is the class's."""

    repositories, objects, asked = {}, {}, []

    def do_GET(self):
        self._route("GET")

    def do_POST(self):
        self._route("POST")

    def do_PUT(self):
        self._route("PUT")

    def log_message(self, *_):
        pass

    def _route(self, method):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        self.asked.append((method, path))
        if path.startswith("/object/"):
            self.objects[path.removeprefix("/object/")] = body
            return self._answer({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "Invalid username or password."}, 401)
        for pattern, handler in ROUTES.items():
            if found := re.fullmatch(pattern, path):
                return self._answer(*handler(self, *found.groups(), body))
        return self._answer({"error": f"no {path}"}, 404)

    def _answer(self, tree, status=200, code=""):
        content = json.dumps(tree).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def about(self, name, body):
        if name not in self.repositories:
            return {"error": "Repository not found"}, 404, "RepoNotFound"
        one = self.repositories[name]
        return ({"id": name, "sha": one["commits"][-1], "private": one["private"]},)

    def create(self, body):
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            return {"error": "You don't have the rights to create a model there"}, 403
        private = asked.get("private") or asked.get("visibility") == "private"
        made = {"files": {}, "commits": ["0" * 40], "private": bool(private)}
        self.repositories[name] = made
        return ({"url": f"{self.server.url}/{name}"},)

    def preupload(self, name, body):
        files = self.repositories[name]["files"]
        return (
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                        "oid": files[file["path"]][0] if file["path"] in files else None,
                    }
                    for file in json.loads(body)["files"]
                ]
            },
        )

    def batch(self, name, body):
        def action(wanted):
            if wanted["oid"] in self.objects:
                return wanted
            upload = {"href": f"{self.server.url}/object/{wanted['oid']}"}
            return wanted | {"actions": {"upload": upload}}

        asked = json.loads(body)
        return ({"transfer": "basic", "objects": [action(one) for one in asked["objects"]]},)

    def commit(self, name, body):
        one = self.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "lfsFile":
                one["files"][value["path"]] = value["oid"], self.objects[value["oid"]]
            elif line["key"] == "file":
                content = base64.b64decode(value["content"])
                blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                one["files"][value["path"]] = blob, content
        one["commits"].append(f"{len(one['commits']):040x}")
        made = one["commits"][-1]
        return ({"commitUrl": f"{self.server.url}/{name}/commit/{made}", "commitOid": made},)


ROUTES = {
    "/api/models/([^/]+/[^/]+)": Hub.about,
    "/api/models/([^/]+/[^/]+)/revision/main": Hub.about,
    "/api/repos/create": Hub.create,
    "/api/validate-yaml": lambda hub, body: ({"warnings": [], "errors": []},),
    "/api/models/([^/]+/[^/]+)/preupload/main": Hub.preupload,
    r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": Hub.batch,
    "/api/models/([^/]+/[^/]+)/commit/main": Hub.commit,
}


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    Hub.repositories, Hub.objects, Hub.asked = {}, {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = from_scratch(of_bytes(), layers=1, width=8, heads=2, mlp=16)
    params = jax.jit(lambda: initial_params(made.spec, jax.random.key(0)))()
    place = tmp_path_factory.mktemp("push") / "model"
    saving.save(made.with_params(jax.device_get(params)), place)
    (place / ".git").mkdir()
    (place / ".git" / "config").write_text("mine alone")
    return place


def push(endpoint, *arguments, **more):
    home = {"HF_HOME": "/nonexistent", "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    variables = os.environ | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": endpoint} | home | more
    return subprocess.run(
        [sys.executable, "-m", "gemb.cli", "push", *map(str, arguments)],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


def contents(folder):
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    kept = {name: path for name, path in files.items() if path.is_file() and name[0] != "."}
    return {name: path.read_bytes() for name, path in kept.items()}


@pytest.mark.long
def test_what_is_pushed_is_the_folder_and_a_second_push_changes_nothing(hub, folder):
    done = push(hub.url, "--private", folder, "me/tiny")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/me/tiny"
    one = Hub.repositories["me/tiny"]
    assert one["private"]
    assert len(one["commits"]) == 2
    assert {name: content for name, (_, content) in one["files"].items()} == contents(folder)
    assert [path for method, path in Hub.asked if method == "PUT"]  # weights go by LFS
    again = push(hub.url, folder, "me/tiny")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == f"{hub.url}/me/tiny: nothing has changed"
    assert len(one["commits"]) == 2


@pytest.mark.long
def test_what_cannot_be_pushed_is_one_line(hub, folder, tmp_path):
    Hub.repositories["me/open"] = {"files": {}, "commits": ["0" * 40], "private": False}
    (tmp_path / "bare").mkdir()
    for name, content in contents(folder).items():
        if name != "README.md":
            (tmp_path / "bare" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "bare" / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    nowhere = {"endpoint": "http://127.0.0.1:9"}
    told = [
        ({"HF_TOKEN": ""}, (folder, "me/tiny"), "there is no Hugging Face token: run `hf auth log"),
        ({"HF_TOKEN": "hf_wrong"}, (folder, "me/tiny"), "the hub does not accept the token"),
        ({}, (folder, "them/tiny"), "no such namespace 'them' (status 403)"),
        (nowhere, (folder, "me/tiny"), "me/tiny cannot be pushed to http://127.0.0.1:9: "),
        ({"HF_HUB_OFFLINE": "1"}, (folder, "me/tiny"), "HF_HUB_OFFLINE forbids the network"),
        ({}, ("--private", folder, "me/open"), "me/open exists and is public"),
        ({}, (tmp_path / "bare", "me/tiny"), "has no model card README.md"),
        ({}, (tmp_path / "empty", "me/tiny"), "has no config.json"),
    ]
    for more, arguments, message in told:
        done = push(more.pop("endpoint", hub.url), *arguments, **more)
        assert done.returncode == 2, (message, done.stdout, done.stderr)
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(Hub.repositories) == ["me/open"]


@pytest.mark.long
def test_a_dry_run_lists_the_files_and_asks_nobody(hub, folder):
    done = push(hub.url, "--dry_run", folder, "me/tiny", HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    *rows, total = done.stdout.splitlines()
    listed = {row.split()[1]: int(row.split()[0].replace(",", "")) for row in rows}
    assert listed == {name: len(content) for name, content in contents(folder).items()}
    assert total.split()[0] == f"{sum(listed.values()):,}"
    assert Hub.asked == []
