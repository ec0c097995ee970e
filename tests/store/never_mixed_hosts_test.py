"""A score between two spaces never happens, over every key store and every index host.

Random interleavings of training, embedding, loading, verifying, publishing, rolling back,
refreshing, single puts, deletions and crashes. After every step a reader asks for some users and
searches with what it is given. Each vector carries its space in its largest coordinate, and each
document in its id, so that a mixture shows.
"""

import contextlib
import random

import numpy as np
import pytest
import tagged

from gemb.checks import UserError
from gemb.identity import SpaceError
from gemb.store.chain import make_plan
from gemb.store.hosts import Settings, inputs
from gemb.store.rows import rows_digest

ROWS, DIM = 6, 24


def vectors(number, rows):
    """Unit vectors whose largest coordinate tells the space that made them."""
    made = np.random.default_rng().normal(size=(rows, DIM)) * 0.01
    made[:, number % DIM] = 1
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def made_by(vector):
    return int(np.argmax(vector))


def documents(number, rows=ROWS):
    return [f"{row} of {number % DIM}" for row in range(rows)]


class World:
    """A pipeline that may stop anywhere; its steps are the methods without `_`."""

    def __init__(self, keys, hosts, seed):
        self._keys, self._hosts, self._rng = keys, hosts, random.Random(seed)
        self._name = f"mix{seed}"
        self._keyed, self._host = keys(name=self._name), hosts(name=self._name)
        self._trained, self.scores, self.answers, self.crashes = 0, 0, set(), 0

    def _space(self):
        return tagged.space(self._trained, DIM)

    def _number(self, space):
        return int(space.query.removeprefix("query"))

    def train(self):
        self._trained += 1

    def put_and_publish_users(self):
        version = self._keyed.begin(self._space(), of="users")
        made, ids = vectors(self._trained, ROWS), tagged.ids(ROWS)
        self._keyed.put(version, ids, made)
        digest = rows_digest(ids, made, "float32")
        self._keyed.publish(version, rows=ROWS, digest=digest)

    def put_some_users_and_crash(self):
        version = self._keyed.begin(self._space(), of="users")
        count = self._rng.randrange(1, ROWS)
        self._keyed.put(version, tagged.ids(count), vectors(self._trained, count))
        self._crash()

    def load_some_documents_and_crash(self):
        version = self._host.begin(self._space(), settings=Settings())
        count = self._rng.randrange(1, ROWS)
        ids = documents(self._trained)[:count]
        self._host.load(version, ids, vectors(self._trained, count))
        self._crash()

    def build(self):
        self._build()

    refresh = build

    def _build(self):
        version = self._host.begin(self._space(), settings=Settings())
        made, ids = vectors(self._trained, ROWS), documents(self._trained)
        self._host.load(version, ids, made)
        expected = [[each] for each in ids]
        digest = rows_digest(ids, made, "float32")
        self._host.verify(version, made, expected, 1.0, rows=ROWS, digest=digest)
        return version

    def build_and_publish(self):
        self._host.publish(self._build())

    def publish_too_early(self):
        self._host.publish(self._host.versions()[0].version)

    def publish_any(self):
        self._host.publish(self._rng.choice(self._host.versions()).version)

    def roll_back_index(self):
        self._host.roll_back(why="a step")

    def roll_back_keys(self):
        self._keyed.roll_back(why="a step")

    def put_one_document(self):
        listed = self._rng.choice(self._host.versions())
        number = self._number(listed.space)
        self._host.put(listed.version, documents(number, 1), vectors(number, 1))

    def delete_one_document(self):
        self._host.delete([self._rng.choice(documents(self._rng.randrange(DIM)))])

    def put_with_another_dim(self):
        listed = self._rng.choice(self._host.versions())
        self._host.put(listed.version, ["wrong"], np.ones((1, DIM + 1), np.float32))

    def retire(self):
        self._host.retire(keep=3)
        self._keyed.retire(keep=3)

    def mark_bad(self):
        side = self._rng.choice([self._host, self._keyed])
        side.mark_bad(self._rng.choice(side.versions()).version, why="a step")

    def crash(self):
        self._crash()

    def _crash(self):
        """The process ends; another opens the stores again."""
        self.crashes += 1
        self._keyed.close(), self._host.close()
        self._keyed, self._host = self._keys(name=self._name), self._hosts(name=self._name)

    def step(self):
        name = self._rng.choice(STEPS)
        with contextlib.suppress(UserError, IndexError):
            getattr(self, name)()

    def plan(self):
        return make_plan(self._keyed.versions(), self._host.versions(), others=["popular"])

    def look(self, plan):
        """Searches with what a plan gives, and with every wrong pair; the plan may be old."""
        found = self._keyed.get(tagged.ids(ROWS), plan.generations)
        choices = plan.choices(found.generations, found.spaces)
        for vector, choice in zip(found.vectors, choices, strict=True):
            self.answers.add(choice.fallback)
            if choice.step is not None:
                self._score(vector, choice.step.space, choice.step.index.generation)
        for step in plan.steps:  # a caller that mixes them up
            for other in plan.steps:
                if other.space != step.space:
                    self._score(None, step.space, other.index.generation)

    def _score(self, vector, space, generation):
        query = np.eye(DIM, dtype=np.float32)[:1] if vector is None else vector[None]
        try:
            hits = self._host.search(query, 3, space=space, generation=generation)
        except SpaceError:
            assert vector is None, "the plan itself mixed two spaces"
            self.answers.add("SpaceError")
            return
        except UserError as error:  # retired: the plan is too old
            self.answers.add(type(error).__name__)
            return
        assert vector is not None, "a search in another space was answered"
        for each, score in zip(hits.ids[0], hits.scores[0], strict=False):
            assert int(each.rpartition(" ")[2]) == made_by(vector), "a score between two spaces"
            assert score > 0.9
            self.scores += 1


STEPS = sorted({n for n in vars(World) if not n.startswith("_")} - {"step", "look", "plan"})


def play(keys, hosts, seed, steps):
    world = World(keys, hosts, seed)
    for name in (
        "train",
        "put_and_publish_users",
        "build_and_publish",
        "train",
        "build_and_publish",
    ):
        getattr(world, name)()
    old = world.plan()
    for _ in range(steps):
        world.step()
        plan = world.plan()
        world.look(plan)
        world.look(old)  # a reader that has not yet seen the change
        old = plan
    return world


PAIRS = {"sqlite": "local", "redis": "milvus", "postgres": "pgvector"}
SIZES = [
    pytest.param(range(1), 14, id="few"),
    pytest.param(range(100, 104), 60, id="many", marks=pytest.mark.slow),
]


@pytest.mark.long
@pytest.mark.parametrize(("seeds", "steps"), SIZES)
def test_spaces_never_meet(opener, host_opener, seeds, steps):
    if steps < 20 and PAIRS[opener.kind] != host_opener.kind:
        pytest.skip("all nine pairs: pytest -m slow")
    worlds = [play(opener, host_opener, seed, steps) for seed in seeds]
    scores, crashes = (sum(getattr(w, name) for w in worlds) for name in ("scores", "crashes"))
    answers = set().union(*(world.answers for world in worlds))
    print(f"{len(seeds) * steps} steps, {crashes} crashes, {scores} scores, {sorted(answers)}")
    assert scores > 5 * len(seeds) * steps  # the test tests something
    assert "" in answers


def test_a_host_without_the_comparison_is_found_out(opener, host_opener, monkeypatch):
    """The property test sees the fault that it is for."""
    if PAIRS[opener.kind] != host_opener.kind:
        pytest.skip("one key store for each index host")

    world = World(opener, host_opener, 999)
    for name in ("train", "put_and_publish_users", "build_and_publish"):
        getattr(world, name)()
    world.train()
    for name in ("put_and_publish_users", "build_and_publish"):
        getattr(world, name)()
    world.look(world.plan())
    assert "SpaceError" in world.answers
    monkeypatch.setattr(inputs, "check_same_space", lambda *args: None)
    with pytest.raises(AssertionError, match="in another space was answered"):
        world.look(world.plan())
