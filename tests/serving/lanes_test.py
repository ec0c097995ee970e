"""Which texts are encoded together, and in which order."""

import random

import numpy as np
import pytest

from gemb.processors.processor import Example
from gemb.serving.batching.lanes import BULK, INTERACTIVE, Entry, Job, Lanes, Shapes


class Tower:
    shapes = Shapes.upto(64, budget=128)


TOWER = Tower()


def job(lane=INTERACTIVE, deadline=1e9):
    return Job(lane, deadline, np.empty((0, 1), np.float32), lambda done: None)


def entries(of, *texts, tower=TOWER):
    made = [Example(text, [ord(c) for c in text], len(text)) for text in texts]
    return [
        Entry(of, i, each, tower, tower.shapes.length(each.size)) for i, each in enumerate(made)
    ]


def texts(batch):
    return [example.value for example in batch.examples]


def test_shapes_are_powers_of_two_within_the_budget():
    shapes = Shapes.upto(100, budget=256)
    assert shapes.lengths == (16, 32, 64, 100)
    for rows, length in shapes.all():
        assert rows * length <= 256
        assert rows & (rows - 1) == 0
    assert {shapes.rows(n, 16) for n in range(1, 17)} == {1, 2, 4, 8, 16}
    assert Shapes.upto(512, budget=128).most(512) == 1


def test_every_batch_has_a_shape_of_the_grid():
    draw, lanes = random.Random(0), Lanes(bulk_budget=64)
    for _ in range(300):
        lane = draw.choice([INTERACTIVE, BULK])
        words = ["x" * draw.randint(1, 64) for _ in range(draw.randint(1, 9))]
        lanes.push(entries(job(lane), *words), now=0.0)
        if draw.random() < 0.5:
            batch = lanes.pop(0.0)
            assert (batch.rows, batch.length) in TOWER.shapes.all()
            assert len(batch.entries) <= batch.rows
            assert max(example.size for example in batch.examples) <= batch.length
    while lanes.pop(0.0):
        pass
    assert not lanes
    assert lanes.positions == {INTERACTIVE: 0, BULK: 0}


def test_every_text_is_encoded_once_and_none_twice():
    lanes, left, kept = Lanes(), set(), []
    for number in range(40):
        of = job(BULK if number % 2 else INTERACTIVE)
        made = entries(of, *[f"{number}-{i}" + "x" * (i * 7) for i in range(7)])
        left |= set(map(id, made))
        lanes.push(made, 0.0)
        kept.append(made)  # so that no other entry gets its id
    while batch := lanes.pop(0.0):
        for entry in (e for row in batch.entries.values() for e in row):
            left.remove(id(entry))
    assert not left


def test_equal_texts_share_a_row():
    lanes = Lanes()
    one, two = job(), job()
    lanes.push(entries(one, "same", "other", "same"), 0.0)
    lanes.push(entries(two, "same"), 0.0)
    batch = lanes.pop(0.0)
    assert texts(batch) == ["same", "other"]
    assert [len(row) for row in batch.entries.values()] == [3, 1]
    assert batch.rows == 2


def test_interactive_goes_first_and_bulk_fills_the_padding():
    lanes = Lanes()
    lanes.push(entries(job(BULK), "b1", "b2", "b3"), 0.0)
    lanes.push(entries(job(), "i1", "i2", "i3"), 0.1)
    batch = lanes.pop(0.2)
    assert texts(batch) == ["i1", "i2", "i3", "b1"]  # four rows are computed for three anyway
    assert texts(lanes.pop(0.2)) == ["b2", "b3"]


def test_the_length_that_waited_longest_goes_first():
    lanes = Lanes()
    lanes.push(entries(job(), "x" * 60), 0.0)
    lanes.push(entries(job(), "short"), 0.1)
    batch = lanes.pop(0.2)
    assert texts(batch) == ["x" * 60]
    assert batch.length == 64


def test_bulk_gets_its_share_while_interactive_texts_wait():
    lanes = Lanes(bulk_budget=16)
    lanes.push(entries(job(BULK), *[f"b{i}" for i in range(200)]), 0.0)
    spent = {INTERACTIVE: 0, BULK: 0}
    for number in range(100):
        lanes.push(entries(job(), *[f"i{number}-{i}" for i in range(8)]), 0.0)
        batch = lanes.pop(0.0)
        spent[batch.lane] += batch.positions
    assert 0.08 <= spent[BULK] / sum(spent.values()) <= 0.15


def test_bulk_batches_are_small_only_while_there_is_interactive_traffic():
    lanes = Lanes(bulk_budget=32)
    lanes.push(entries(job(BULK), *[f"b{i}" for i in range(20)]), 0.0)
    assert lanes.pop(0.0).rows == 8
    lanes.push(entries(job(), "i"), 1.0)
    lanes.pop(1.0)
    assert lanes.pop(1.1).rows == 2
    assert lanes.pop(9.0).rows == 8


@pytest.mark.parametrize("how", ["cancelled", "expired", "failed"])
def test_what_nobody_wants_is_dropped_before_it_costs(how):
    lanes = Lanes()
    dead, alive = job(deadline=5.0), job()
    lanes.push(entries(dead, "dead", "dead too"), 0.0)
    lanes.push(entries(alive, "alive"), 0.0)
    if how == "cancelled":
        dead.cancelled = True
    if how == "failed":
        dead.error = RuntimeError()
    batch = lanes.pop(6.0 if how == "expired" else 1.0)
    assert texts(batch) == ["alive"]
    assert lanes.dropped == 2
    assert lanes.positions[INTERACTIVE] == 0


def test_towers_do_not_share_batches():
    lanes, other = Lanes(), Tower()
    lanes.push(entries(job(), "a"), 0.0)
    lanes.push(entries(job(), "b", tower=other), 0.0)
    assert lanes.pop(0.0).tower is TOWER
    assert lanes.pop(0.0).tower is other
