"""`gemb serve` as a process: keys, logs, and the drain."""

import concurrent.futures
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import served

pytestmark = pytest.mark.extra("serve")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def process(places, tmp_path):
    """A server of its own, and its port."""
    keys = tmp_path / "keys.txt"
    keys.write_text("users-key-0123456\n")
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    made = subprocess.Popen(
        [
            sys.executable, "-m", "gemb.cli", "serve", f"--model={places['model']}", "--port=0",
            "--drain_delay=0.5", f"--keys={keys}", "--batch_tokens=64", "--deadline=30",
        ],
        env=environment | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = made.stdout.readline()
    assert "http://127.0.0.1:" in line, made.stderr.read()
    yield made, int(line.rsplit(":", 1)[1])
    made.kill()
    made.wait()
    made.stdout.close()
    made.stderr.close()


def post(port, text, key="users-key-0123456"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"input": text})
    connection.request("POST", "/v1/embeddings", body, {"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    read = json.loads(answer.read())
    connection.close()
    return answer.status, read


def test_a_drain_answers_what_is_in_flight_and_logs_no_texts(process):
    made, port = process
    assert post(port, "the secret text", key="another-key-01234")[0] == 401
    # 32 requests that wait for their body: in flight when the signal comes
    waiting = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(32)]
    body = json.dumps({"input": "the secret text"}).encode()
    for connection in waiting:
        connection.putrequest("POST", "/v1/embeddings")
        connection.putheader("Authorization", "Bearer users-key-0123456")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:5])
    assert post(port, "the secret text")[0] == 200
    made.send_signal(signal.SIGTERM)

    def ready():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/ready")
        status = connection.getresponse().status
        connection.close()
        return status

    served.until(lambda: ready() == 503)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:

        def finish(connection):
            connection.send(body[5:])
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())["object"]

        answers = list(pool.map(finish, waiting))
    assert answers == [(200, "list")] * 32
    assert made.wait(timeout=40) == 0
    log = made.stderr.read()
    lines = [json.loads(line) for line in log.splitlines()]
    assert sum(line.get("code") == 200 for line in lines) == 33
    assert {"request_id", "route", "ms", "tokens"} <= set(lines[1])
    assert "secret" not in log
    with pytest.raises(OSError):
        post(port, "too late")


def test_mistakes_of_the_command_are_one_line(places, tmp_path, capsys):
    from gemb.cli.__main__ import run

    short = tmp_path / "short.txt"
    short.write_text("short\n")
    for given, said in (
        ([], "give something to serve"),
        (["--model=nowhere"], "nowhere"),
        ([f"--model={places['model']}", f"--keys={short}"], "at least 16 characters"),
        ([f"--index={places['corpus']}"], "index.json"),
        ([f"--release={places['corpus']}"], "store.json"),
    ):
        with pytest.raises(SystemExit) as left:
            run("serve", given)
        errors = capsys.readouterr().err
        assert left.value.code == 2
        assert errors.count("\n") == 1, errors
        assert said in errors
