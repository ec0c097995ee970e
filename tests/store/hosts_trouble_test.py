"""Index hosts that are down, slow, full, read-only or something else: one line, nothing lost."""

import contextlib
import os
import time

import numpy as np
import pytest
import tagged
from hosts_contract_test import ROWS, best, live, loaded, unit
from hosts_down_test import listening

from gemb.checks import UserError
from gemb.identity import SpaceError
from gemb.store import open_store
from gemb.store.disk import layout, writer
from gemb.store.hosts import LocalHost, Settings, open_host
from gemb.store.hosts.local_files import Changes, Loading
from gemb.store.keyed import HostError
from gemb.store.rows import rows_digest

SERVERS = [
    pytest.param("pgvector://gemb:secret@127.0.0.1:{port}/db", marks=pytest.mark.extra("postgres")),
    pytest.param("milvus://127.0.0.1:{port}", marks=pytest.mark.extra("milvus")),
]


@pytest.mark.parametrize("address", SERVERS)
@pytest.mark.parametrize("answer", ["down", None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_is_down_or_slow_or_something_else(address, answer):
    started = time.monotonic()
    with listening(None if answer == "down" else answer) as port:
        port = 1 if answer == "down" else port
        with pytest.raises(HostError) as caught:
            open_host(address.format(port=port), timeout=1)
    assert "\n" not in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 30


def test_addresses_and_names_that_are_none(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        open_host(str(tmp_path / "none"))
    for name in ("", "a-b", "A", "a__b", "x" * 40):
        with pytest.raises(UserError, match="name: use lower-case letters"):
            open_host(str(tmp_path), name=name)
    pytest.importorskip("pymilvus")
    with pytest.raises(UserError, match="does not exist"):
        open_host(f"milvus:{tmp_path}/none/x.db")


@pytest.mark.extra("services", "postgres")
def test_keys_and_index_are_published_in_one_transaction(postgres_address):
    host = open_host(postgres_address, name="together", seconds=0.0)
    keyed = host.keys("together")
    other = open_host(postgres_address, name="together", seconds=0.0)
    version, ids, vectors = loaded(host, tagged.space(0))
    users = keyed.begin(tagged.space(0), of="users")
    keyed.put(users, ids, vectors)
    digest = rows_digest(ids, vectors, "float32")
    with pytest.raises(UserError, match="holds other vectors"):
        _publish_both(host, version, keyed, users, "0" * 32)
    assert [e.state for e in other.versions()] == ["ready"]
    assert [e.state for e in keyed.versions()] == ["loading"]
    with host.together():
        host.publish(version)
        keyed.publish(users, rows=len(ids), digest=digest)
        assert [e.state for e in other.versions()] == ["ready"]
    assert [e.state for e in other.versions()] == ["live"]
    assert keyed.get(ids[:1], [1]).generations.tolist() == [1]
    other.close(), keyed.close()


def _publish_both(host, version, keyed, users, digest):
    with host.together():
        host.publish(version)
        keyed.publish(users, rows=ROWS, digest=digest)


@pytest.mark.extra("services", "postgres")
def test_a_table_of_another_space_under_the_same_name_is_refused(postgres_address):
    """What is stored next to the vectors decides, not the list of versions."""
    host = open_host(postgres_address, name="swapped", seconds=0.0)
    live(host, tagged.space(0))
    with host.collections.database.answers() as connection:
        table = "gemb__swapped_g0001_r0001"
        connection.execute(f"COMMENT ON TABLE {table} IS '{tagged.space(1).id}'")
    with pytest.raises(SpaceError, match="holds documents of space"):
        host.search(unit(1), 1, space=tagged.space(0), generation=1)
    assert not host.health().ok
    host.close()


@pytest.mark.extra("services", "milvus")
def test_a_collection_of_another_space_under_the_same_name_is_refused(milvus_address):
    host = open_host(milvus_address, name="swapped", seconds=0.0)
    version, *_ = live(host, tagged.space(0))
    host.collections.drop(version)
    host.collections.create(version, tagged.space(1))
    host.collections.write(version, ["a"], unit(1), [{}])
    host.collections.build(version, tagged.space(1), Settings())
    with pytest.raises(SpaceError, match="holds documents of space"):
        host.search(unit(1), 1, space=tagged.space(0), generation=1)
    host.collections.drop(version)
    with pytest.raises(HostError, match="are not there"):
        host.search(unit(1), 1, space=tagged.space(0), generation=1)
    host.close()


@pytest.mark.extra("services", "milvus")
def test_a_lock_of_a_killed_writer_is_removed(milvus_address, monkeypatch):
    from gemb.store.hosts import milvus

    monkeypatch.setattr(milvus, "_LEASE", 0.2)
    host = open_host(milvus_address, name="locked", seconds=0.0)
    host.collections._make("locked__lock", dim=2, properties={"gemb.owner": "killed"})
    version, *_ = live(host, tagged.space(0))
    assert host.versions()[0].version == version
    assert not host.collections._client.has_collection("locked__lock")
    host.close()


@pytest.mark.long
@pytest.mark.extra("services", "milvus")
def test_milvus_lite_killed_with_sigkill_keeps_what_was_published(tmp_path):
    import services

    with services.milvus(tmp_path) as address:
        host = open_host(address, seconds=0.0, timeout=3)
        version, ids, vectors = live(host, tagged.space(0))
        loading = host.begin(tagged.space(1), settings=Settings())
        host.load(loading, ids[:9], vectors[:9])
        port = address.rpartition(":")[2]
        services.kill_listener(int(port))
        with pytest.raises(HostError):
            host.search(vectors[:1], 1, space=tagged.space(0), generation=1)
        assert not host.health().ok
        host.close()
    with services.milvus(tmp_path) as address:
        host = open_host(address, seconds=0.0)
        host.collections.build(version, tagged.space(0), Settings())  # loaded into memory again
        hits = host.search(vectors[:5], 1, space=tagged.space(0), generation=1)
        assert hits.ids == [[each] for each in ids[:5]]
        expected = [[each] for each in ids[:2]]
        assert host.verify(loading, vectors[:2], expected, 1.0, rows=9) == 1.0
        host.close()


def test_a_full_disk_while_loading(tmp_path, monkeypatch):
    host = LocalHost(tmp_path / "host", create=True)
    _, ids, vectors = live(host, tagged.space(0))
    version = host.begin(tagged.space(1), settings=Settings())
    host.load(version, ids[:5], vectors[:5])
    names, many = tagged.ids(3000, 100), unit(3000)
    with monkeypatch.context() as patched:
        patched.setattr(Loading, "_open", _limited(Loading._open))
        with pytest.raises(HostError, match="full; nothing of this was stored") as caught:
            host.load(version, names, many)
    assert "\n" not in str(caught.value)
    assert Loading(host.folder, version).count() == 5
    hits = host.search(vectors[:1], 1, space=tagged.space(0), generation=1)
    assert hits.ids == [[ids[0]]]


def _limited(opened):
    @contextlib.contextmanager
    def limited(self):
        with opened(self) as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count={pages + 1}")
            yield connection

    return limited


def test_a_full_disk_while_verifying_and_changing(tmp_path, monkeypatch):
    host = LocalHost(tmp_path / "host", create=True)
    old, ids, vectors = live(host, tagged.space(0))
    version = host.begin(tagged.space(1), settings=Settings())
    host.load(version, ids, vectors)
    full = OSError(28, "No space left on device")

    def fail(*args, **kwargs):
        raise full

    for place in ("gemb.store.hosts.local.save_index", "gemb.store.disk.draft.sync_path"):
        with monkeypatch.context() as patched:
            patched.setattr(place, fail)
            with pytest.raises(UserError, match="No space left on device"):
                host.verify(version, vectors[:2], [[i] for i in ids[:2]], 1.0, rows=len(ids))
        assert [e.state for e in host.versions()] == ["loading", "live"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match="No space left on device"):
            host.put(old, ["new"], vectors[:1])
    assert Changes(host.folder, old).size() == 0
    host.put(old, ["new"], unit(1, seed=77))
    hits = host.search(unit(1, seed=77), 1, space=tagged.space(0), generation=1)
    assert hits.ids == [["new"]]
    host.verify(version, vectors[:2], [[i] for i in ids[:2]], 1.0, rows=len(ids))
    host.publish(version)


def test_a_torn_line_of_a_killed_writer_is_dropped(tmp_path):
    host = LocalHost(tmp_path / "host", create=True)
    version, ids, vectors = live(host, tagged.space(0))
    host.delete(ids[:1])
    with open(Changes(host.folder, version).path, "ab") as file:
        file.write(b'{"put": "torn", "vec')
    for opened in (host, LocalHost(host.folder)):
        hits = opened.search(vectors[:2], 1, space=tagged.space(0), generation=1)
        assert hits.ids == [[best(ids[1:], vectors[1:], vectors[0], 1)[0][0]], [ids[1]]]
    host.put(version, ["new"], vectors[:1])
    for opened in (host, LocalHost(host.folder)):
        assert opened.search(vectors[:1], 1, space=tagged.space(0), generation=1).ids == [["new"]]


def test_too_many_changes_ask_for_a_refresh(tmp_path, monkeypatch):
    from gemb.store.hosts import local

    monkeypatch.setattr(local, "MOST_CHANGES", 3)
    host = LocalHost(tmp_path / "host", create=True)
    version, ids, vectors = live(host, tagged.space(0))
    host.put(version, ids[:3], vectors[:3])
    host.put(version, ids[:3], vectors[:3])
    with pytest.raises(UserError, match="3 changed documents; make a refresh"):
        host.put(version, ["new"], vectors[:1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_searched_and_not_changed(tmp_path):
    _read_only(tmp_path)


def _read_only(tmp_path):
    host = LocalHost(tmp_path / "host", create=True)
    version, ids, vectors = live(host, tagged.space(0))
    host.folder.chmod(0o555)
    try:
        again = LocalHost(host.folder)
        assert again.search(vectors[:1], 1, space=tagged.space(0), generation=1).ids == [[ids[0]]]
        for change in (
            lambda: again.begin(tagged.space(1)),
            lambda: again.put(version, ["new"], vectors[:1]),
        ):
            with pytest.raises(UserError, match=r"Permission denied|read-only"):
                change()
    finally:
        host.folder.chmod(0o755)


def test_another_writer_is_one_line(tmp_path):
    host = LocalHost(tmp_path / "host", create=True)
    version, ids, vectors = live(host, tagged.space(0))
    loading = host.begin(tagged.space(1), settings=Settings())
    host.load(loading, ids, vectors)
    with writer.writing(host.folder):
        for change in (
            lambda: host.begin(tagged.space(2)),
            lambda: host.verify(loading, vectors[:1], [ids[:1]], 1.0, rows=len(ids)),
            lambda: host.publish(version),
        ):
            with pytest.raises(UserError, match="is being written by process"):
                change()
        host.put(version, ["new"], vectors[:1])  # single documents need no lock of the store
    host.verify(loading, vectors[:1], [ids[:1]], 1.0, rows=len(ids))


def test_damaged_files_are_one_line(tmp_path):
    for name, damage in {
        "ids": lambda f: (f / "items" / "ids.jsonl").write_text('"id 0"\n'),
        "index": lambda f: (f / "index" / "index.json").write_text("{"),
        "vectors": lambda f: (f / "index" / "vectors.npy").write_bytes(b"x"),
        "manifest": lambda f: (f / "manifest.json").write_text('{"format": "else"}'),
    }.items():
        host = LocalHost(tmp_path / name, create=True)
        version, _, vectors = live(host, tagged.space(0))
        folder = layout.folder_of(host.folder, version)
        writer.set_writable(folder, True)
        damage(folder)
        again = LocalHost(host.folder)
        with pytest.raises(UserError) as caught:
            again.search(vectors[:1], 1, space=tagged.space(0), generation=1)
        assert "\n" not in str(caught.value), name
        assert not again.health().ok
    (tmp_path / "format").mkdir()
    (tmp_path / "format" / "store.json").write_text('{"format": "gemb store", "version": 9}')
    with pytest.raises(UserError, match="of format version 9"):
        open_host(str(tmp_path / "format"))


@pytest.mark.extra("services", "milvus", "postgres")
def test_stores_are_listed_by_their_address(milvus_address, postgres_address):
    for address in (
        milvus_address.replace("http", "milvus"),
        postgres_address.replace("postgresql", "pgvector"),
    ):
        host = open_host(address, name="listed")
        live(host, tagged.space(0), rows=12)
        store = open_store(address, "listed")
        assert [str(each.version) for each in store.versions()] == ["1.1"]
        assert store.check() == []
        np.testing.assert_equal(store.retire(dry_run=True), [])
        store.close(), host.close()
