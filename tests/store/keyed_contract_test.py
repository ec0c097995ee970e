"""What every key store promises: each backend of `conftest.BACKENDS` gets these checks."""

import contextlib

import numpy as np
import pytest
import tagged

from gemb.checks import UserError
from gemb.identity import SpaceError, Version
from gemb.store.keyed import HostError, is_address
from gemb.store.rows import rows_digest

ROWS = 20


def load(keyed, space, rows=ROWS, *, publish=True):
    """One more version of `space`; its vectors say which."""
    version = keyed.begin(space, of="users")
    made = tagged.vectors(version, rows)
    keyed.put(version, tagged.ids(rows), made)
    if publish:
        keyed.publish(version, rows=rows, digest=rows_digest(tagged.ids(rows), made, keyed.dtype))
    return version


def states(keyed):
    return {str(each.version): each.state for each in keyed.versions()}


def test_an_empty_store_has_nothing(opener):
    keyed = opener()
    assert keyed.versions() == []
    found = keyed.get(["a", 7], [3, 2])
    assert found.vectors == [None, None]
    assert found.generations.tolist() == [-1, -1]
    assert keyed.remove(["a"]) == 0
    assert keyed.retire() == []
    assert keyed.check() == []
    with pytest.raises(UserError, match=r"no version 1\.1; there are: none"):
        keyed.publish(Version(1, 1))


def test_vectors_come_back_from_another_connection(opener):
    version = load(opener(), tagged.space(0))
    keyed = opener()
    found = keyed.get(["id 3", "none", "id 0", "id 3"], [version.generation])
    expected = tagged.vectors(version, ROWS)
    for row, vector in zip((3, None, 0, 3), found.vectors, strict=True):
        assert (vector is None) if row is None else np.array_equal(vector, expected[row])
    assert found.generations.tolist() == [1, -1, 1, 1]
    assert found.spaces == {1: tagged.space(0).id}
    (listed,) = keyed.versions()
    assert (listed.state, listed.rows, listed.space) == ("live", ROWS, tagged.space(0))
    assert listed.about["of"] == "users"
    assert listed.bytes == ROWS * (12 + 4 * tagged.DIM)


def test_float16_is_half_the_bytes_and_three_digits(opener):
    keyed = opener(dtype="float16")
    version = load(keyed, tagged.space(0))
    (found,) = keyed.get(["id 1"], [1]).vectors
    np.testing.assert_array_equal(found, tagged.vectors(version, 2)[1].astype(np.float16))
    assert opener().versions()[0].bytes == ROWS * (12 + 2 * tagged.DIM)
    other = opener(dtype="float32")  # a refresh keeps the precision of its generation
    load_again = other.begin(tagged.space(0), of="users")
    other.put(load_again, ["id 1"], tagged.vectors(load_again, 1))
    assert other.check() == []


def test_a_new_generation_is_invisible_until_published(opener):
    keyed = opener()
    load(keyed, tagged.space(0))
    load(keyed, tagged.space(1), publish=False)
    assert states(keyed) == {"2.1": "loading", "1.1": "live"}
    found = keyed.get(tagged.ids(ROWS), [2, 1])
    assert set(found.generations) == {1}
    assert found.spaces == {1: tagged.space(0).id}


def test_the_chain_falls_back_id_by_id(opener):
    keyed = opener()
    load(keyed, tagged.space(0), 6)
    load(keyed, tagged.space(1), 4)
    load(keyed, tagged.space(2), 2)
    found = keyed.get(tagged.ids(7), [1, 3, 2])
    assert found.generations.tolist() == [3, 3, 2, 2, 1, 1, -1]
    assert keyed.get(tagged.ids(7), [2]).generations.tolist() == [2] * 4 + [-1] * 3


def test_publish_refuses_other_rows_and_the_live_version_stays(opener):
    keyed = opener()
    load(keyed, tagged.space(0))
    version = load(keyed, tagged.space(1), publish=False)
    made = tagged.vectors(version, ROWS)
    digest = rows_digest(tagged.ids(ROWS), made, "float32")
    with pytest.raises(UserError, match="20 rows, not 21"):
        keyed.publish(version, rows=21, digest=digest)
    with pytest.raises(UserError, match="needs rows and digest"):
        keyed.publish(version)
    keyed.put(version, ["id 7"], made[:1])
    with pytest.raises(UserError, match="holds other vectors"):
        keyed.publish(version, rows=ROWS, digest=digest)
    assert states(keyed) == {"2.1": "loading", "1.1": "live"}
    keyed.put(version, ["id 7"], made[7:8])
    keyed.publish(version, rows=ROWS, digest=digest)
    assert states(keyed) == {"2.1": "live", "1.1": "ready"}


def test_put_in_any_order_again_and_resumed_is_the_same(opener):
    version = opener().begin(tagged.space(0), of="users")
    made, names = tagged.vectors(version, ROWS), tagged.ids(ROWS)
    for part in (slice(10, 20), slice(5, 15), slice(0, 10), slice(0, 10)):
        keyed = opener()
        assert keyed.begin(tagged.space(0), of="users") == version  # goes on
        keyed.put(version, names[part], made[part])
    keyed.publish(version, rows=ROWS, digest=rows_digest(names[::-1], made[::-1], "float32"))
    assert keyed.get(["id 12"], [1]).generations.tolist() == [1]


def test_rows_that_are_gone_are_removed_or_cleared(opener):
    keyed = opener()
    version = load(keyed, tagged.space(0), publish=False)
    made = tagged.vectors(version, 10)
    digest = rows_digest(tagged.ids(10), made, "float32")
    assert keyed.remove(tagged.ids(5, 15), generation=1) == 5
    with pytest.raises(UserError, match="15 rows, not 10"):
        keyed.publish(version, rows=10, digest=digest)
    keyed.clear(version)
    keyed.put(version, tagged.ids(10), made)
    keyed.publish(version, rows=10, digest=digest)
    with pytest.raises(UserError, match="generation 1 is published"):
        keyed.clear(version)


def test_a_refresh_replaces_within_its_generation(opener):
    keyed = opener()
    load(keyed, tagged.space(0))
    refreshed = load(keyed, tagged.space(0))
    assert refreshed == Version(1, 2)
    assert states(keyed) == {"1.2": "live"}
    (found,) = keyed.get(["id 4"], [1]).vectors
    np.testing.assert_array_equal(found, tagged.vectors(refreshed, 5)[4])
    with pytest.raises(UserError, match=r"no version 1\.1"):
        keyed.put(Version(1, 1), ["id 4"], tagged.vectors(refreshed, 1))


def test_a_refresh_of_an_older_generation_does_not_go_live(opener):
    keyed = opener()
    load(keyed, tagged.space(0))
    load(keyed, tagged.space(1))
    refreshed = load(keyed, tagged.space(0))
    assert states(keyed) == {"2.1": "live", "1.2": "ready"}
    assert keyed.roll_back(why="worse") == refreshed
    late = load(keyed, tagged.space(2), publish=False)
    keyed.publish(Version(2, 1))
    assert late == Version(3, 1)


def test_a_vector_of_the_live_generation_changes_at_once(opener):
    keyed = opener()
    version = load(keyed, tagged.space(0))
    changed = tagged.vectors(Version(9, 9), 1)
    keyed.put(version, ["id 4"], changed)
    np.testing.assert_array_equal(keyed.get(["id 4"], [1]).vectors[0], changed[0])


def test_roll_back_and_forward(opener):
    keyed = opener()
    with pytest.raises(UserError, match="no version was published before"):
        keyed.roll_back(why="nothing there")
    for number in range(3):
        load(keyed, tagged.space(number))
    assert keyed.roll_back(why="worse") == Version(2, 1)
    assert states(keyed) == {"3.1": "ready", "2.1": "live", "1.1": "ready"}
    assert keyed.roll_back(Version(1, 1), why="worse still") == Version(1, 1)
    with pytest.raises(UserError, match=r"no version older than 1\.1"):
        keyed.roll_back(why="no further")
    keyed.publish(Version(3, 1))  # once published, it needs no proof
    with pytest.raises(UserError, match=r"2\.1 is older than 3\.1, which is live"):
        keyed.publish(Version(2, 1))


def test_a_bad_version_is_not_read(opener):
    keyed = opener()
    load(keyed, tagged.space(0))
    load(keyed, tagged.space(1))
    with pytest.raises(UserError, match="is live; roll back first"):
        keyed.mark_bad(Version(2, 1), why="canary")
    keyed.roll_back(why="canary")
    keyed.mark_bad(Version(2, 1), why="canary")
    assert keyed.get(["id 1"], [2, 1]).generations.tolist() == [1]
    with pytest.raises(UserError, match="is marked bad"):
        keyed.publish(Version(2, 1))
    assert keyed.versions()[0].about["marked_bad"] == "canary"


def test_remove_forgets_an_id_in_every_generation(opener):
    keyed = opener()
    for number in range(3):
        load(keyed, tagged.space(number))
    load(keyed, tagged.space(3), publish=False)
    assert keyed.remove(["id 1", "id 2", "unknown"]) == 2
    assert keyed.get(["id 1", "id 2", "id 3"], [3, 2, 1]).generations.tolist() == [-1, -1, 3]
    keyed.roll_back(Version(1, 1), why="look again")
    assert keyed.get(["id 1"], [1]).generations.tolist() == [-1]


def test_the_last_five_generations_are_kept(opener):
    keyed = opener()
    for number in range(7):
        load(keyed, tagged.space(number), 3)
    keyed.pin(Version(1, 1), why="baseline")
    assert keyed.retire() == [Version(2, 1)]
    assert [each.version.generation for each in keyed.versions()] == [7, 6, 5, 4, 3, 1]
    assert keyed.get(["id 0"], [2]).generations.tolist() == [-1]
    assert list(keyed._rows.scan(2)) == []
    keyed.pin(Version(1, 1), why="enough", pinned=False)
    keyed.roll_back(Version(3, 1), why="a test")
    assert keyed.retire(keep=1) == [Version(6, 1), Version(5, 1), Version(4, 1)]
    assert states(keyed) == {"7.1": "ready", "3.1": "live", "1.1": "ready"}
    assert load(keyed, tagged.space(9)) == Version(8, 1)  # numbers are not given twice
    with pytest.raises(UserError, match="at least one generation"):
        keyed.retire(keep=0)


def test_retiring_goes_on_after_a_kill(opener, monkeypatch):
    keyed = opener()
    for number in range(3):
        load(keyed, tagged.space(number))
    monkeypatch.setattr(keyed._rows, "drop", lambda generation: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        keyed.retire(keep=1)
    keyed = opener()
    assert list(states(keyed)) == ["3.1", "2.1"]
    assert keyed.get(["id 0"], [1]).generations.tolist() == [-1]  # gone at once
    assert len(list(keyed._rows.scan(1))) == ROWS
    keyed.retire(keep=1)
    assert list(keyed._rows.scan(1)) == []


def test_numbers_of_the_store_on_disk_are_taken_and_compared(opener):
    keyed = opener()
    assert keyed.begin(tagged.space(0), of="users", version=Version(7, 3)) == Version(7, 3)
    assert keyed.begin(tagged.space(0), of="users", version=Version(7, 3)) == Version(7, 3)
    with pytest.raises(SpaceError) as caught:
        keyed.begin(tagged.space(1), of="users", version=Version(7, 4))
    assert tagged.space(0).id[:12] in str(caught.value)
    assert tagged.space(1).id[:12] in str(caught.value)
    with pytest.raises(UserError, match="is generation 7 here, not 8"):
        keyed.begin(tagged.space(0), of="users", version=Version(8, 1))
    assert keyed.begin(tagged.space(1), of="users") == Version(8, 1)
    other = tagged.vectors(Version(7, 3), 2, dim=5)
    with pytest.raises(SpaceError, match="vectors of dim 5 are not of space"):
        keyed.put(Version(7, 3), tagged.ids(2), other)


BAD_IDS = {
    "twice": (["a", "a"], "the id 'a' comes twice"),
    "a number and its digits": (["7", 7], "the id '7' comes twice"),
    "empty": (["", "b"], "not empty"),
    "None": ([None, "b"], "texts or integers"),
    "a truth value": ([True, "b"], "texts or integers"),
    "10 kB": (["x" * 10_000, "b"], r"has 10,000 bytes, and at most 1,024"),
    "half a character": (["\ud800", "b"], "not valid Unicode"),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_bad_ids_are_one_line(opener, case):
    keyed, (names, message) = opener(), BAD_IDS[case]
    version = keyed.begin(tagged.space(0), of="users")
    with pytest.raises(UserError, match=message) as caught:
        keyed.put(version, names, tagged.vectors(version, 2))
    assert "\n" not in str(caught.value)
    assert list(keyed._rows.scan(1)) == []


def test_unusual_ids_come_back(opener):
    keyed = opener()
    names = [
        "\0",
        "a\nb",
        "e\u0301",
        "\u00e9",
        "\U0001f600",
        " ",
        "*?[a]",
        "x" * 1024,
        "'; --",
        7,
        -1,
    ]
    version = keyed.begin(tagged.space(0), of="users")
    made = tagged.vectors(version, len(names))
    keyed.put(version, names, made)
    keyed.publish(version, rows=len(names), digest=rows_digest(names, made, "float32"))
    for row, vector in enumerate(keyed.get(names, [1]).vectors):
        np.testing.assert_array_equal(vector, made[row])
    assert keyed.remove(names) == len(names)


BAD_VECTORS = {"NaN": np.nan, "infinity": np.inf, "zero": 0.0, "not of unit length": 3.0}


@pytest.mark.parametrize("case", BAD_VECTORS)
def test_bad_vectors_are_one_line(opener, case):
    keyed = opener()
    version = keyed.begin(tagged.space(0), of="users")
    made = tagged.vectors(version, 3)
    made[1] *= BAD_VECTORS[case]
    with pytest.raises(UserError, match="the vector of id 'id 1' has length") as caught:
        keyed.put(version, tagged.ids(3), made)
    assert "\n" not in str(caught.value)
    assert list(keyed._rows.scan(1)) == []


def test_a_ledger_of_another_format_is_refused(opener):
    keyed = opener()
    load(keyed, tagged.space(0))
    keyed._rows.change(lambda text: '{"format": "gemb versions 2"}')
    for use in (opener().versions, lambda: opener().get(["id 1"], [1])):
        with pytest.raises(UserError, match="of format 'gemb versions 2', but this gemb reads"):
            use()
    keyed._rows.change(lambda text: "garbage")
    with pytest.raises(UserError, match="its list of versions cannot be read"):
        opener().versions()


def test_a_value_that_is_no_vector_is_named(opener):
    keyed = opener()
    load(keyed, tagged.space(0))
    keyed._rows.write(1, [b"id 3"], [b"garbage"])
    with pytest.raises(HostError, match="the value of id 'id 3' is not a vector"):
        keyed.get(["id 3"], [1])
    assert keyed.get(["id 2"], [1]).generations.tolist() == [1]
    (problem,) = keyed.check()
    assert "id 3" in problem


def test_two_writers_lose_nothing(opener):
    one, other = opener(), opener()
    version = one.begin(tagged.space(0), of="users")
    assert other.begin(tagged.space(0), of="users") == version
    made = tagged.vectors(version, ROWS)
    one.put(version, tagged.ids(10), made[:10])
    other.put(version, tagged.ids(10, 10), made[10:])
    digest = rows_digest(tagged.ids(ROWS), made, "float32")
    one.publish(version, rows=ROWS, digest=digest)
    other.publish(version, rows=ROWS, digest=digest)  # again without harm
    assert states(other) == {"1.1": "live"}


def test_a_lost_host_is_loaded_again_under_the_same_numbers(opener):
    """What a server without persistence does after a restart."""
    keyed = opener()
    load(keyed, tagged.space(0))
    version = load(keyed, tagged.space(1))
    fresh = opener(name="again")
    assert fresh.begin(tagged.space(1), of="users", version=version) == version
    made = tagged.vectors(version, ROWS)
    fresh.put(version, tagged.ids(ROWS), made)
    fresh.publish(version, rows=ROWS, digest=rows_digest(tagged.ids(ROWS), made, "float32"))
    assert fresh.get(["id 1"], [2, 1]).generations.tolist() == [2]


@contextlib.contextmanager
def counted(keyed, monkeypatch):
    """Counts what is sent and then waited for, where the client lets us."""
    count, name = [], type(keyed._rows).__name__
    if name == "RedisRows":
        from redis.connection import Connection

        sent = Connection.send_packed_command
        monkeypatch.setattr(
            Connection,
            "send_packed_command",
            lambda self, *args, **kw: (count.append(1), sent(self, *args, **kw))[1],
        )
    elif name == "PostgresRows":
        from psycopg import Cursor

        execute = Cursor.execute
        monkeypatch.setattr(
            Cursor, "execute", lambda self, *a, **kw: (count.append(1), execute(self, *a, **kw))[1]
        )
    else:
        connection = keyed._rows._connection()
        connection.set_trace_callback(count.append)
    yield count


def test_the_chain_is_one_round_trip(opener, monkeypatch):
    keyed = opener()
    for number in range(3):
        load(keyed, tagged.space(number), 4 - number)
    keyed.get(["id 0"], [3])  # the connection is there
    with counted(keyed, monkeypatch) as count:
        found = keyed.get(tagged.ids(100), [3, 2, 1])
    assert found.generations.tolist()[:5] == [3, 3, 2, 1, -1]
    assert len(count) == 1


def test_addresses():
    assert is_address("sqlite:keys.db")
    assert not is_address("runs/store")
