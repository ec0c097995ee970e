"""The verbs that look after stores."""

import re
from pathlib import Path

import pytest
import tagged

from gemb.cli.__main__ import run
from gemb.identity import Version
from gemb.store import VersionStore, open_store
from gemb.store.disk import layout, writer
from gemb.store.rows import rows_digest


@pytest.fixture
def gemb(capsys):
    """Runs a verb: its status, output and errors."""

    def called(*arguments):
        with pytest.raises(SystemExit) as left:
            run(arguments[0], [str(each) for each in arguments[1:]])
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return called


@pytest.fixture
def store(tmp_path):
    made = VersionStore(tmp_path / "store", create=True)
    for number in (0, 1, 1, 2):
        with made.draft(tagged.space(number)) as draft:
            draft.add("items", tagged.ids(3), tagged.vectors(draft.version, 3))
        made.publish(draft.version)
    with made.draft(tagged.space(3)) as draft:
        draft.add("items", tagged.ids(3), tagged.vectors(draft.version, 3))
    return made


@pytest.fixture
def keys(tmp_path):
    from gemb.store.keyed import open_keyed

    address = f"sqlite:{tmp_path}/users.db"
    keyed = open_keyed(address)
    for number in (0, 1):
        version = keyed.begin(tagged.space(number), of="users")
        made = tagged.vectors(version, 3)
        keyed.put(version, tagged.ids(3), made)
        keyed.publish(version, rows=3, digest=rows_digest(tagged.ids(3), made, "float32"))
    keyed.close()
    return address


def test_versions_lists_stores_of_both_kinds(gemb, store, keys):
    status, out, _ = gemb("versions", store, keys)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == f"{store}: 5 versions"
    assert lines[1].split() == ["version", "state", "space", "dim", "rows", "MB", "age", "notes"]
    listed = {line.split()[0]: line.split()[1:] for line in lines[2:7]}
    assert list(listed) == ["4.1", "3.1", "2.2", "2.1", "1.1"]
    assert listed["3.1"][:5] == ["live", tagged.space(2).id[:12], "8", "3", "0.0"]
    assert "never published" in lines[2]
    assert "parent: 2.1" in lines[4]
    assert lines[7] == f"{keys}: 2 versions"
    assert lines[9].split()[:2] == ["2.1", "live"]
    assert "of: users" in lines[9]


def test_rollback_and_its_log(gemb, store, keys):
    assert gemb("rollback", store, "--why=worse", "--bad") == (
        0,
        f"{store}: version 2.2 is live, 3.1 was\n{store}: version 3.1 is marked bad\n",
        "",
    )
    assert gemb("rollback", store, "1.1", "--why=worse still", "--nobad")[0] == 0
    last = writer.read_log(store.folder)[-1]
    assert (last["what"], last["version"], last["why"]) == (
        "rolled back", Version(1, 1), "worse still",
    )  # fmt: skip
    assert (
        gemb("rollback", keys, "--why=as the store")[1] == f"{keys}: version 1.1 is live, 2.1 was\n"
    )
    (store.folder / layout.CURRENT).write_text("nonsense")
    assert gemb("rollback", store, "2.1", "--why=mended")[0] == 0
    assert store.open().version == Version(2, 1)


def test_check_says_what_is_damaged(gemb, store, keys):
    status, out, _ = gemb("check", store, keys)
    assert (status, out.count("no faults")) == (0, 2)
    path = layout.folder_of(store.folder, Version(2, 1)) / "items" / "vectors.npy"
    writer.set_writable(path.parent, True)
    path.write_bytes(path.read_bytes()[:-1])
    assert gemb("check", store, keys)[:2] == (
        1,
        f"{path}: damaged\n{keys}: 2 versions, no faults\n",
    )


def test_retire_and_pin(gemb, store):
    assert gemb("retire", store, "--pin=1.1", "--why=baseline")[0] == 0
    removed = f"{store}: would remove 2.1\n"
    assert gemb("retire", store, "--generations=1", "--dry_run", "--pin=", "--why=")[1] == removed
    assert len(store.versions()) == 5
    assert gemb("retire", store, "--generations=1", "--nodry_run")[1] == f"{store}: removed 2.1\n"
    assert [str(each.version) for each in store.versions()] == ["4.1", "3.1", "2.2", "1.1"]


MISTAKES = {
    "no store": (("versions", "--name=vectors"), "STORE is required"),
    "a folder that is none": (("versions", "{tmp}"), "store.json: cannot be read"),
    "a file that is not there": (("versions", "sqlite:{tmp}/no.db"), "there is no such file"),
    "a server that is down": (("check", "redis://127.0.0.1:1/0"), "redis"),
    "no reason": (("rollback", "{store}", "--why= "), "--why is required"),
    "no number": (("rollback", "{store}", "six", "--why=x"), "expected generation.refresh"),
    "an unknown number": (("rollback", "{store}", "9.1", "--why=x"), "no version 9.1; there are"),
    "pin without a reason": (("retire", "{store}", "--pin=1.1", "--why="), "--why is required"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(gemb, store, tmp_path, case):
    arguments, message = MISTAKES[case]
    places = {"tmp": tmp_path, "store": store.folder}
    status, out, error = gemb(*(each.format(**places) for each in arguments))
    assert (status, out) == (2, "")
    assert error.startswith(f"gemb {arguments[0]}: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "no.db").exists()


def test_open_store_knows_both_kinds(store, keys):
    for place in (str(store.folder), keys):
        assert [each.state for each in open_store(place).versions()].count("live") == 1


def test_the_page_about_versions_runs(tmp_path, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs" / "howto" / "versions.md"
    monkeypatch.chdir(tmp_path)
    blocks, names = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), {}
    for block in blocks:
        exec(block, names)
    names["keyed"].close()
    assert len(blocks) == 3
    assert capsys.readouterr().out.splitlines() == ["1.1 (4, 4)", "1.1 ", "popular id_absent"]
