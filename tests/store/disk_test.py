"""The store on disk: what is live, what is kept, what is refused, and full or broken disks."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tagged

from gemb.checks import UserError
from gemb.identity import SpaceError, Version
from gemb.store import Follower, VersionStore
from gemb.store.disk import layout, writer

ROWS = 6


@pytest.fixture
def store(tmp_path):
    return VersionStore(tmp_path / "store", create=True)


def add(store, number, *, publish=True, rows=ROWS):
    """One more version of a space; its vectors say which."""
    with store.draft(tagged.space(number)) as draft:
        for name, kind in (("users", "query"), ("items", "document")):
            made = tagged.vectors(draft.version, rows)
            draft.add(name, tagged.ids(rows), made, kind=kind)
    if publish:
        store.publish(draft.version)
    return draft.version


def states(store):
    return {str(each.version): each.state for each in store.versions()}


def whole(opened):
    expected = tagged.vectors(opened.version, ROWS)
    return all(np.array_equal(one.vectors, expected) for one in opened.sets.values())


def test_what_is_published_is_what_is_read(store):
    with pytest.raises(UserError, match="nothing is published yet"):
        store.open()
    add(store, 0)
    later = add(store, 1, publish=False)
    assert states(store) == {"2.1": "ready", "1.1": "live"}
    assert store.open().version == Version(1, 1)
    store.publish(later)
    opened = store.open()
    assert (opened.version, opened.space, opened.sets.keys()) == (
        later, tagged.space(1), {"users", "items"},
    )  # fmt: skip
    assert whole(opened)
    assert list(opened.sets["items"].ids) == tagged.ids(ROWS)
    assert opened.sets["users"].about["model"] == tagged.space(1).query
    assert (opened.folder.stat().st_mode & 0o222, store.check()) == (0, [])
    listed = store.versions()[0]
    assert (listed.rows, listed.about) == (2 * ROWS, {"parent": "", "kind": "full"})


def test_the_same_space_is_a_refresh_and_numbers_are_never_given_twice(store):
    assert [add(store, number) for number in (0, 0, 1)] == [(1, 1), (1, 2), (2, 1)]
    refresh = add(store, 0, publish=False)
    assert refresh == Version(1, 3)
    assert store.versions()[1].about == {"parent": "1.2", "kind": "refresh"}
    for number in (2, 3):
        add(store, number)
    assert store.retire(keep=1) == [(2, 1), (1, 3), (1, 2), (1, 1)]
    assert add(store, 0) == Version(5, 1)
    store.roll_back(why="a test")
    store.mark_bad(Version(5, 1), why="a test")
    writer.remove(layout.folder_of(store.folder, Version(5, 1)))
    assert add(store, 9) == Version(6, 1)


def test_another_space_is_refused_by_name(store):
    add(store, 0)
    with pytest.raises(SpaceError) as caught:
        store.open(space=tagged.space(1))
    assert str(tagged.space(0)) in str(caught.value)
    assert str(tagged.space(1)) in str(caught.value)
    with (
        pytest.raises(SpaceError, match="generation 1 is of space"),
        store.draft(tagged.space(1), version=Version(1, 2)),
    ):
        pass
    with pytest.raises(SpaceError, match="vectors of dim 5"), store.draft(tagged.space(0)) as draft:
        draft.add("items", ["a"], np.ones((1, 5), np.float32))
    folder = layout.folder_of(store.folder, Version(1, 1))
    writer.set_writable(folder, True)
    about = json.loads((folder / "items" / "embeddings.json").read_text())
    about["space"] = tagged.space(3).id
    (folder / "items" / "embeddings.json").write_text(json.dumps(about))
    with pytest.raises(SpaceError):
        store.open()


def test_roll_back_goes_to_what_was_live_and_is_logged(store):
    with pytest.raises(UserError, match="no version was published before"):
        store.roll_back(why="nothing there")
    add(store, 0)
    add(store, 1, publish=False)
    add(store, 2)
    assert store.roll_back(why="worse") == Version(1, 1)  # 2.1 was never live
    assert store.open().version == Version(1, 1)
    with pytest.raises(UserError, match=r"no version older than 1\.1"):
        store.roll_back(why="no further")
    with pytest.raises(UserError, match=r"2\.1 is not older than 1\.1"):
        store.roll_back(Version(2, 1), why="forward")
    store.publish(Version(3, 1))
    with pytest.raises(UserError, match=r"2\.1 is older than 3\.1, which is live; `gemb rollback`"):
        store.publish(Version(2, 1))
    assert store.roll_back(Version(2, 1), why="by name") == Version(2, 1)
    lines = [(e["what"], str(e["version"]), e["why"]) for e in writer.read_log(store.folder)]
    assert ("rolled back", "1.1", "worse") in lines
    assert ("rolled back", "2.1", "by name") in lines


def test_a_refresh_of_an_older_generation_is_what_a_roll_back_goes_to(store):
    add(store, 0)
    add(store, 1)
    refresh = add(store, 0)
    assert states(store) == {"2.1": "live", "1.2": "ready", "1.1": "ready"}
    assert store.versions()[1].published
    assert store.roll_back(why="worse") == refresh


def test_bad_and_pinned_versions(store):
    for number in range(4):
        add(store, number)
    with pytest.raises(UserError, match="is live; roll back first"):
        store.mark_bad(Version(4, 1), why="canary")
    store.mark_bad(Version(3, 1), why="canary")
    with pytest.raises(UserError, match="marked bad"):
        store.roll_back(Version(3, 1), why="a test")
    assert store.roll_back(why="skips the bad one") == Version(2, 1)
    with pytest.raises(UserError, match="marked bad"):
        store.publish(Version(3, 1))
    store.publish(Version(4, 1))
    store.pin(Version(1, 1), why="baseline")
    assert store.retire(keep=1) == [Version(3, 1)]
    store.pin(Version(1, 1), why="enough", pinned=False)
    assert store.retire(keep=1) == [Version(1, 1)]
    assert states(store) == {"4.1": "live", "2.1": "ready"}


def test_five_generations_and_two_refreshes_are_kept(store):
    for number in range(7):
        for _ in range(3):
            add(store, number)
    removed = store.retire()
    kept = [str(each.version) for each in store.versions()]
    assert kept == [f"{g}.{r}" for g in (7, 6, 5, 4, 3) for r in (3, 2)]
    assert len(removed) + len(kept) == 21
    assert store.check() == []


def test_a_reader_keeps_what_it_opened(store):
    add(store, 0)
    opened = store.open()
    for number in (1, 2):
        add(store, number)
    store.retire(keep=1)
    assert not opened.folder.exists()
    assert whole(opened)


def test_a_follower_changes_over_and_survives_a_broken_newest_version(store):
    add(store, 0)
    follower = Follower(store, seconds=0)
    assert follower.get().version == Version(1, 1)
    assert follower.get() is follower.get()
    add(store, 1)
    assert follower.get().version == Version(2, 1)
    (store.folder / layout.CURRENT).write_text("nonsense\n")
    assert follower.get().version == Version(2, 1)
    assert "CURRENT: cannot be read" in follower.error
    assert store.roll_back(Version(1, 1), why="mended") == Version(1, 1)
    assert (follower.get().version, follower.error) == (Version(1, 1), "")


def test_current_that_changes_between_its_reading_and_the_folder(store, monkeypatch):
    add(store, 0)
    read, answers = layout.read_current, [Version(9, 9)]
    monkeypatch.setattr(
        layout, "read_current", lambda folder: answers.pop() if answers else read(folder)
    )
    assert store.open().version == Version(1, 1)


@pytest.mark.parametrize("file", ["items/vectors.npy", "items/ids.jsonl", "index/tree.bin"])
@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_damage_is_found_and_never_published(store, file, damage):
    with store.draft(tagged.space(0)) as draft:
        draft.add("items", tagged.ids(ROWS), tagged.vectors(draft.version, ROWS))
        (draft.folder / "index").mkdir()
        (draft.folder / "index" / "tree.bin").write_bytes(b"leaves")
    version = draft.version
    path = layout.folder_of(store.folder, version) / file
    writer.set_writable(path.parents[1], True)
    if damage == "changed":
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        path = path.with_name("more")
        path.write_text("")
    (problem,) = store.check()
    assert str(path) in problem
    with pytest.raises(UserError, match="make the version again") as caught:
        store.publish(version)
    assert "\n" not in str(caught.value)
    assert states(store) == {"1.1": "ready"}


def test_a_damaged_live_version_can_be_rolled_back(store):
    for number in (0, 1):
        add(store, number)
    folder = layout.folder_of(store.folder, Version(2, 1))
    writer.set_writable(folder, True)
    (folder / layout.MANIFEST).write_text("{")
    assert states(store) == {"2.1": "live", "1.1": "ready"}
    assert "manifest.json: cannot be read" in store.versions()[0].about["problem"]
    assert len(store.check()) == 1
    assert store.roll_back(why="damaged") == Version(1, 1)
    assert states(store) == {"2.1": "bad", "1.1": "live"}
    assert add(store, 2) == Version(3, 1)
    writer.remove(layout.folder_of(store.folder, Version(3, 1)))  # by hand
    damaged, missing = store.check()
    assert damaged.startswith(f"{folder / layout.MANIFEST}: cannot be read")
    assert missing == f"{store}: CURRENT names 3.1, which is not there"
    assert store.roll_back(why="gone") == Version(1, 1)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("store.json", "store.json: of format version 2, but this gemb reads version 1"),
        ("versions/0001.0001/manifest.json", "of format version 2, but this gemb reads version 1"),
    ],
)
def test_another_format_version_is_refused(store, file, message):
    add(store, 0)
    path = store.folder / file
    writer.set_writable(path.parent, True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(UserError, match=message):
        VersionStore(store.folder).open()


def test_no_store_and_foreign_folders(tmp_path):
    with pytest.raises(UserError, match=r"store\.json: cannot be read"):
        VersionStore(tmp_path / "none")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="holds files and is not a store"):
        VersionStore(tmp_path, create=True)
    with pytest.raises(UserError, match="cannot write"):
        VersionStore(tmp_path / "file" / "store", create=True)
    with pytest.raises(UserError, match="not a local folder"):
        VersionStore("gs://bucket/store")


BAD_SETS = {
    "ids twice": ({"ids": ["a", "a"]}, "comes twice"),
    "a long id": ({"ids": ["a" * 10_000, "b"]}, "10,000 bytes"),
    "NaN": ({"vectors": np.array([[1, 0], [np.nan, 1]], np.float32)}, "id 'b' has length nan"),
    "zero": ({"vectors": np.array([[1, 0], [0, 0]], np.float32)}, "id 'b' has length 0"),
    "not unit": ({"vectors": np.full((2, 2), 2, np.float32)}, "unit vectors are expected"),
    "rows": ({"vectors": np.eye(3, 2, dtype=np.float32)}, "one row per id"),
    "float64": ({"vectors": np.eye(2)}, "of float64"),
    "name": ({"name": "../x"}, "lower-case letters"),
    "kind": ({"kind": "user"}, "expected query or document"),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_a_bad_set_leaves_nothing(store, case):
    live = add(store, 0)
    change, message = BAD_SETS[case]
    given = {"name": "items", "ids": ["a", "b"], "vectors": np.eye(2, dtype=np.float32)} | change
    with (
        pytest.raises(UserError, match=message) as caught,
        store.draft(tagged.space(1, dim=2)) as draft,
    ):
        draft.add(given.pop("name"), given.pop("ids"), given.pop("vectors"), **given)
    assert "\n" not in str(caught.value)
    assert os.listdir(store.folder / layout.VERSIONS) == ["0001.0001"]
    assert store.open().version == live
    with pytest.raises(UserError, match="has no vectors"), store.draft(tagged.space(1)):
        pass


def test_one_writer(store):
    with store.draft(tagged.space(0)) as draft:
        draft.add("items", ["a"], tagged.vectors(draft.version, 1))
        with pytest.raises(UserError, match=f"written by process {os.getpid()} on ") as caught:
            store.retire()
    assert "\n" not in str(caught.value)
    assert states(store) == {"1.1": "ready"}


def test_what_killed_writers_left_goes_with_the_next_one(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = (f".0007.0001.{dead.pid}.ab12", f".0007.0002.{os.getpid()}.cd34", ".0007.0003.1.ef56")
    for name in names:
        (store.folder / layout.VERSIONS / name).mkdir()
    (store.folder / layout.VERSIONS / names[0] / "vectors.npy").write_text("half")
    add(store, 0)
    # process 1 lives: a file system may have no working locks
    assert sorted(os.listdir(store.folder / layout.VERSIONS)) == [names[2], "0001.0001"]
    assert states(store) == {"1.1": "live"}


def test_a_torn_line_of_the_log_is_dropped(store):
    add(store, 0)
    with open(store.folder / layout.LOG, "a") as log:
        log.write('{"what": "marked bad", "version": "1.')
    assert states(store) == {"1.1": "live"}
    add(store, 1)
    assert [line["what"] for line in writer.read_log(store.folder)] == ["made", "published"] * 2
    with open(store.folder / layout.LOG, "a") as log:
        log.write("nonsense\n")
    with pytest.raises(UserError, match=r"log.jsonl: line 5 cannot be read"):
        store.versions()
    assert store.open().version == Version(2, 1)  # readers need no log


class FailingCalls:
    """The n-th call that needs room on the disk fails."""

    def __init__(self, monkeypatch, number, reason):
        self.left = number
        for name in ("fsync", "replace", "mkdir", "rename"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name), reason))

    def _failing(self, real, reason):
        def call(*arguments, **options):
            self.left -= 1
            if self.left == -1:
                raise OSError(reason, os.strerror(reason))
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("step", ["draft", "publish", "roll back"])
def test_a_full_disk_at_each_step_leaves_the_live_release(store, monkeypatch, step, reason):
    """Fails at the first call, then at the second, until there is none left."""
    before = add(store, 0)
    live = add(store, 1) if step == "roll back" else before
    later = add(store, 2, publish=False) if step == "publish" else before
    act = {
        "draft": lambda: add(store, 3, publish=False),
        "publish": lambda: store.publish(later),
        "roll back": lambda: store.roll_back(why="a test"),
    }[step]
    said, number, more = [], 0, True
    while more:
        with monkeypatch.context() as patch:
            calls = FailingCalls(patch, number, reason)
            try:
                act()
            except UserError as error:
                said.append(str(error))
        # the last call waits for the disk after CURRENT was replaced: the change is done then
        changed = store.open().version != live
        assert calls.left >= -1 or not changed
        more, number = calls.left < 0 and not changed, number + 1
        assert store.check() == []
        assert whole(store.open())
    assert len(said) >= 3
    assert all(os.strerror(reason) in line and "\n" not in line for line in said)


@pytest.fixture
def small(tmp_path):
    """A file system of 256 KB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_read_only_store_is_read_and_not_written(small):
    store = VersionStore(small / "store", create=True)
    live = add(store, 0)
    later = add(store, 1, publish=False)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    for act in (lambda: add(store, 2), lambda: store.publish(later), store.retire):
        with pytest.raises(UserError, match="Read-only file system") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert Follower(store).get().version == live
    assert (states(store), store.check()) == ({"2.1": "ready", "1.1": "live"}, [])


def test_a_real_full_disk(small):
    store = VersionStore(small / "store", create=True)
    live = add(store, 0)
    with pytest.raises(UserError, match="No space left on device") as caught:
        add(store, 1, rows=20_000)
    assert "\n" not in str(caught.value)
    assert store.open().version == live
    filler = small / "filler"
    with open(filler, "wb", 0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)
    for act in (lambda: add(store, 1), lambda: store.mark_bad(live, why="x")):
        with pytest.raises(UserError, match=r"No space left|is live"):
            act()
    assert store.open().version == live
    assert (states(store), store.check()) == ({"1.1": "live"}, [])
    filler.unlink()
    for number in (1, 2):
        add(store, number)
    assert store.retire(keep=1) == [Version(1, 1)]
