"""Reading, splitting and looking up interactions: good files, and one line for each bad one."""

import gzip
import json

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.data.interactions import (
    Columns,
    Histories,
    StreamingFrequencies,
    read_events,
    read_folder,
    read_table,
    shares,
    splits,
)
from gemb.structs import Interactions


def events(pairs, times=None):
    user, item = np.array(pairs).T
    time = None if times is None else np.array(times, np.float64)
    return Interactions(user.astype(np.int32), item.astype(np.int32), np.ones(len(user)), time)


def write(folder, lines, name="interactions.tsv"):
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


@pytest.fixture
def many():
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in zip(*rng.integers(0, 30, (2, 600)), strict=True)}
    return events(sorted(pairs), rng.permutation(len(pairs)))


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "tsv.gz", "parquet"])
def test_formats_give_the_same_events(tmp_path, ending):
    rows = [("u2", "a", 2.0, 30), ("u1", "b", 1.0, 10), ("u2", "b", 0.5, 20)]
    names = ("user", "item", "weight", "time")
    path = tmp_path / f"interactions.{ending}"
    if ending == "parquet":
        parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        table = {name: [row[place] for row in rows] for place, name in enumerate(names)}
        parquet.write_table(pyarrow.table(table), path)
    elif ending == "jsonl":
        text = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
        path.write_text(text)
    else:
        mark = "," if ending == "csv" else "\t"
        text = "\n".join(mark.join(map(str, row)) for row in [names, *rows]) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    data = read_folder(tmp_path)
    assert data.users.ids == ["u1", "u2"]
    assert data.items.ids == ["a", "b"]
    np.testing.assert_array_equal(data.events.user, [1, 0, 1])
    np.testing.assert_array_equal(data.events.item, [0, 1, 1])
    np.testing.assert_array_equal(data.events.weight, [2.0, 1.0, 0.5])
    np.testing.assert_array_equal(data.events.time, [30, 10, 20])
    assert data.notes == []


def test_side_tables_fix_the_order_of_ids(tmp_path):
    write(tmp_path, ["user\titem\tsplit", "x\tb\ttrain", "x\ta\ttest"])
    write(tmp_path, ["name\tgroup", "b\tone", "c\ttwo", "a\tone"], "items.tsv")
    data = read_folder(tmp_path)
    assert data.items.ids == ["b", "c", "a"]
    assert data.items.columns == {"group": ["one", "two", "one"]}
    np.testing.assert_array_equal(data.events.item, [0, 2])
    split = splits.by_column(data)
    np.testing.assert_array_equal(split.train.item, [0])
    np.testing.assert_array_equal(split.cold, [2])
    assert "1 items of 1 test events have no train event (cold)" in split.notes[0]


def test_repeated_pairs_are_merged_and_counted(tmp_path):
    lines = ["user,item,weight,time,place", "u,a,1,5,first", "u,b,1,6,b", "u,a,2,9,last"]
    columns = Columns(time="time", weight="weight", context=("place",))
    data = read_events(write(tmp_path, lines, "e.csv"), columns)
    np.testing.assert_array_equal(data.events.weight, [3, 1])
    np.testing.assert_array_equal(data.events.time, [9, 6])
    assert data.context["place"].tolist() == ["last", "b"]
    assert data.notes == ["1 events repeat a user and item and were added to the first one"]


def test_notes_name_equal_weights_and_a_user_with_many_events(tmp_path):
    lines = ["user\titem\tweight"]
    lines += [f"{'much' if n < 20 else f'u{n}'}\ti{n}\t2" for n in range(120)]
    notes = read_events(write(tmp_path, lines), Columns(weight="weight")).notes
    assert notes == [
        "all weights are 2: they change nothing",
        "the user 'much' has 17% of all events",
    ]


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (["1e9", "2e9"], [1e9, 2e9]),
        (["1700000000000", "1600000000000"], [1.7e9, 1.6e9]),
        (["1970-01-02", "1970-01-01T00:00:01+00:00"], [86400, 1]),
        (["0", "1700000000000"], [0, 1.7e9]),
        (["3", "0"], [3, 0]),
    ],
)
def test_times_become_seconds(tmp_path, times, seconds):
    lines = ["user\titem\ttime", *(f"u\ti{n}\t{time}" for n, time in enumerate(times))]
    data = read_events(write(tmp_path, lines), Columns(time="time"))
    np.testing.assert_allclose(data.events.time, seconds)


BAD = {
    "user\tthing\nu\ta": "no column 'item' among user, thing",
    "user\titem\n\ta": "the user is empty",
    "user\titem\nu\t ": "the item is empty",
    "user\titem\tweight\nu\ta\t-1": "the weight -1 is negative or not finite",
    "user\titem\tweight\nu\ta\tnan": "the weight nan is negative or not finite",
    "user\titem\tweight\nu\ta\tmuch": "the weight 'much' is not a number",
    "user\titem\ttime\nu\ta\tsoon": "the time 'soon' is not a number",
    "user\titem\ttime\nu\ta\tinf": "the time inf is not finite",
    "user\titem\ttime\nu\ta\t1600000000\nu\tb\t1600000000000": (
        "1 events look like seconds since 1970 and 1 like milliseconds"
    ),
    "user\titem": "there are no events",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_events_are_one_line(tmp_path, text):
    write(tmp_path, [text])
    with pytest.raises(UserError) as raised:
        read_folder(tmp_path)
    message = str(raised.value)
    assert BAD[text] in message
    assert "interactions.tsv" in message
    assert "\n" not in message


def test_ids_that_a_table_lacks_are_refused(tmp_path):
    write(tmp_path, ["user\titem", "u\ta", "u\tz"])
    write(tmp_path, ["id", "a"], "items.tsv")
    with pytest.raises(UserError, match="1 events have a item that the table of items lacks"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="the id 'a' occurs twice"):
        read_table(write(tmp_path, ["id", "a", "a"], "items.tsv"))
    with pytest.raises(UserError, match="no interactions file"):
        read_folder(tmp_path / "none")


def test_random_takes_a_share_of_each_user_and_is_seeded(many):
    split = splits.random(many, share=0.2, seed=7)
    for user in range(30):
        total = np.sum(many.user == user)
        assert np.sum(split.test.user == user) == max(1, round(0.2 * total))
    same = splits.random(many, share=0.2, seed=7)
    np.testing.assert_array_equal(split.test.item, same.test.item)
    assert not np.array_equal(split.test.item, splits.random(many, seed=8).test.item)
    assert len(split.train.user) + len(split.test.user) == len(many.user)


def test_random_does_not_depend_on_the_order_of_events(many):
    order = np.random.default_rng(1).permutation(len(many.user))
    left, right = splits.random(many, count=1), splits.random(splits.take(many, order), count=1)
    pairs = [
        set(zip(s.test.user.tolist(), s.test.item.tolist(), strict=True)) for s in (left, right)
    ]
    assert pairs[0] == pairs[1]


def test_last_takes_the_latest_and_refuses_ties(many):
    split = splits.last(many)
    for user, time in zip(split.test.user, split.test.time, strict=True):
        assert time == many.time[many.user == user].max()
    tied = many._replace(time=np.zeros(len(many.user)))
    with pytest.raises(UserError, match=r"100% of the users have several events at their last"):
        splits.last(tied)
    with pytest.raises(UserError, match="needs times"):
        splits.last(many._replace(time=None))


def test_time_has_no_train_event_after_a_test_event(many):
    split = splits.by_time(many, share=0.3)
    assert split.train.time.max() < split.test.time.min()
    new = events([(0, 0), (0, 1), (1, 1)], [1, 5, 6])
    assert splits.by_time(new, at=5).notes[0] == (
        "1 test events of users without a train event were left out"
    )


def test_cold_items_are_in_no_train_event(many):
    split = splits.cold_items(many, 40, share=0.2, seed=3)
    assert len(split.cold) == 8
    assert not np.isin(split.train.item, split.cold).any()
    assert np.isin(split.test.item, split.cold).all()


def test_leaks_are_refused():
    with pytest.raises(UserError, match="1 test events are also train events"):
        splits.checked(events([(0, 1), (0, 2)]), events([(0, 2)]))
    with pytest.raises(UserError, match="1 test users have no train event"):
        splits.checked(events([(0, 1)]), events([(3, 2)]))
    with pytest.raises(UserError, match="no test events"):
        splits.random(events([(0, 1), (1, 2)]))


def test_splits_by_name(many, tmp_path):
    write(tmp_path, ["user\titem", *(f"u{u}\ti{i}" for u, i in zip(*many[:2], strict=True))])
    data = read_folder(tmp_path)
    assert len(splits.named(data, "one").test.user) == 30
    assert len(splits.named(data).test.user) == len(splits.named(data, "random").test.user)
    with pytest.raises(UserError, match="have no column 'split'"):
        splits.named(data, "column")
    with pytest.raises(UserError, match="unknown split 'none'"):
        splits.named(data, "none")


def test_histories_leave_out_the_target_and_the_future():
    seen = Histories(events([(0, 5), (1, 9), (0, 6), (0, 7)], [30, 5, 10, 20]), 3)
    assert seen.of(0).tolist() == [6, 7, 5]
    rows = seen.before(np.array([0, 0, 1, 2]), 3, targets=np.array([7, 1, 9, 0]))
    assert rows.tolist() == [[6, 5, -1], [6, 7, 5], [-1, -1, -1], [-1, -1, -1]]
    rows = seen.before([0, 0], 2, times=[20, 99], targets=[5, 5])
    assert rows.tolist() == [[6, -1], [6, 7]]
    with pytest.raises(ValueError, match="no times"):
        Histories(events([(0, 1)]), 1).before([0], 1, times=[3])


def test_streaming_frequencies_follow_the_shares():
    rng, size = np.random.default_rng(0), 40
    wanted = rng.dirichlet(np.ones(size))
    found = StreamingFrequencies(size, rate=0.02)
    for _ in range(3000):
        found.update(np.flatnonzero(rng.random(size) < wanted))
    common = wanted > 0.02
    np.testing.assert_allclose(found.shares(np.flatnonzero(common)), wanted[common], rtol=0.5)
    hashed = StreamingFrequencies(97, rate=0.5, hashes=3)
    for _ in range(20):
        hashed.update(np.array([10**9, 10**9]))
    np.testing.assert_allclose(hashed.shares(np.array([10**9, 5])), [1.0, 0.0])


def test_shares_add_up_and_refuse_other_rows():
    np.testing.assert_allclose(shares(np.array([0, 1, 1, 3]), 5), [0.25, 0.5, 0, 0.25, 0])
    with pytest.raises(ValueError, match="rows from 0 to 2"):
        shares(np.array([3]), 3)
