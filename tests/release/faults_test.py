"""What can go wrong on the way: one line, the live version stays, and the same call continues."""

import contextlib
import errno
import os
import shutil
import time

import numpy as np
import pytest
from words import WordEncoding

from gemb.checks import UserError
from gemb.release import making
from gemb.release import refresh as refreshing
from gemb.release.refresh import refresh
from gemb.runs.interruption import RESUMABLE, Stopped, resumable, sole_run
from gemb.search import index as index_folders
from gemb.store import bulk
from gemb.store.disk import layout, writer
from gemb.store.keyed import HostError, open_keyed


@pytest.fixture
def changed(texts):
    return texts | {"d0": "new words", "d1": "other words"}


@pytest.fixture
def once(store, encoding, corpus_of, texts):
    """Refreshes; the first version is there already."""

    def call(records, **options):
        options.setdefault("say", lambda line: None)
        return refresh(store, encoding, {"documents": corpus_of(records)}, **options)

    call(texts)
    return call


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


STEPS = {
    "work folder": (refreshing, "work_folder", None),
    "room for vectors": (os, "posix_fallocate", None),
    "encoded vectors": (bulk, "atomic_file", None),
    "all vectors": (np.lib.format, "write_array_header_1_0", None),
    "index": (index_folders, "atomic_folder", None),
    "set": (np, "save", "numpy"),
    "corpus": (refreshing.Corpus, "write", None),
    "model": (shutil, "copytree", "model"),
    "move of the index": (refreshing.os, "replace", "index"),
    "digests": (layout, "digests", None),
    "manifest": (layout, "write_json", None),
    "log": (writer, "append", None),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_in_each_step(step, once, store, changed, encoding, monkeypatch, tmp_path):
    place, name, special = STEPS[step]
    if special == "model":
        (tmp_path / "model").mkdir()
        encoding.folder = tmp_path / "model"
    failing = contextlib.contextmanager(full) if name.startswith("atomic_") else full
    if special == "index":
        real = os.replace

        def failing(source, target):
            return full() if str(source).endswith("index") else real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing)
        with pytest.raises((UserError, OSError), match="No space left"):
            once(changed)
    assert [str(each.version) for each in store.versions() if each.state == "live"] == ["1.1"]
    assert store.open().version == (1, 1)
    assert store.check() == []
    once(changed)
    live = store.open()
    wanted = np.stack([encoding.vector(text) for text in changed.values()])
    np.testing.assert_array_equal(live.sets["documents"].vectors, wanted)
    assert store.check() == []


def test_two_writers(once, store, changed):
    with sole_run(store.folder / refreshing.WORK), pytest.raises(UserError, match="in use by"):
        once(changed)
    with writer.writing(store.folder), pytest.raises(UserError, match="is being written by"):
        once(changed)
    assert store.open().version == (1, 1)
    assert once(changed) == (1, 2)


def test_a_roll_back_is_possible_while_texts_are_encoded(once, store, texts, corpus_of):
    once(texts | {"d0": "new"})
    states = []

    class Busy(WordEncoding):
        def encode(self, some, *, kind):
            if some == ["newer"]:
                states.append(store.roll_back(why="meanwhile"))
            return super().encode(some, kind=kind)

    corpora = {"documents": corpus_of(texts | {"d0": "newer"})}
    refresh(store, Busy(), corpora, say=lambda line: None)
    assert states == [(1, 1)]


def test_a_folder_that_cannot_be_written(once, store, changed, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(making.Path, "mkdir", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        once(changed)
    assert store.open().version == (1, 1)


def test_a_key_store_that_is_down_leaves_the_live_version(once, store, changed, tmp_path):
    keyed = open_keyed(f"sqlite:{tmp_path}/keys.db")

    def down(*_, **__):
        raise HostError("keys: does not answer")

    keyed.put, real = down, keyed.put
    with pytest.raises(HostError, match="does not answer"):
        once(changed, keys=[keyed])
    assert store.open().version == (1, 1)
    keyed.put = real
    assert once(changed, keys=[keyed]) == (1, 2)  # the version that was made before
    assert keyed.versions()[0].rows == len(changed)
    keyed.close()


def test_a_version_that_was_made_and_not_published(once, store, changed, monkeypatch, encoding):
    with monkeypatch.context() as patch:
        patch.setattr(refreshing, "publish", full)
        with pytest.raises(OSError, match="No space"):
            once(changed)
    encoding.encoded.clear()
    assert once(changed) == (1, 2)
    assert encoding.encoded == []
    assert store.open().version == (1, 2)


def test_a_killed_refresh_encodes_the_rest(once, store, encoding, texts, monkeypatch):
    """The texts of finished steps are not encoded again."""
    monkeypatch.setattr(bulk, "_STEP", 4)
    monkeypatch.setattr(
        bulk.encode_into, "__kwdefaults__", bulk.encode_into.__kwdefaults__ | {"step": 4}
    )
    changed = texts | {f"d{n}": f"changed {n}" for n in range(10)}
    real, calls = encoding.encode, []

    def killed(some, *, kind):
        if some[0].startswith("changed"):
            calls.append(len(some))
            if len(calls) == 3:
                raise KeyboardInterrupt
        return real(some, kind=kind)

    encoding.encode = killed
    with pytest.raises(KeyboardInterrupt):
        once(changed)
    encoding.encoded.clear()
    calls.append(None)
    once(changed)
    assert [text for text in encoding.encoded if text.startswith("changed")] == [
        "changed 8", "changed 9",
    ]  # fmt: skip


def test_what_was_left_for_a_week_is_removed(once, store, changed):
    work = store.folder / refreshing.WORK
    for name, age in (("old", 8), ("new", 6)):
        (work / name).mkdir()
        then = time.time() - age * 24 * 3600
        os.utime(work / name, (then, then))
    once(changed)
    assert [each.name for each in work.iterdir() if each.is_dir()] == ["new"]


def test_sigterm_ends_with_the_status_of_again():
    with pytest.raises(Stopped) as stopped, resumable("gemb refresh"):
        os.kill(os.getpid(), 15)
    assert stopped.value.status == RESUMABLE == 75
    assert "the same command continues" in str(stopped.value)


def test_damaged_hashes_are_one_line(once, store, changed):
    path = store.open().folder / "documents" / making.HASHES
    writer.set_writable(path.parent, True)
    path.write_bytes(b"garbage")
    with pytest.raises(UserError, match=r"hashes\.npy: cannot be read"):
        once(changed)
