"""A score between two spaces never happens, whatever is done in whatever order, and killed.

Random interleavings of training, embedding, putting, publishing, rolling back, refreshing and
crashing, over each key store with a store on disk as the index side. After every step a reader asks
for some ids and scores what it is given; each vector carries its space, so that a mixture shows.
"""

import contextlib
import random

import numpy as np
import pytest
import tagged

from gemb.checks import UserError
from gemb.identity import SpaceError, check_same_space
from gemb.store import VersionStore
from gemb.store.chain import make_plan
from gemb.store.rows import rows_digest

ROWS, DIM = 8, 24


def vectors(number, rows):
    """Unit vectors whose largest coordinate tells the space that made them."""
    made = np.random.default_rng().normal(size=(rows, DIM)) * 0.01
    made[:, number % DIM] = 1
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def made_by(vector):
    return int(np.argmax(vector))


class Index:
    """What an index host promises: it compares the caller's space with that of its data."""

    def __init__(self, store):
        self._store = store

    def score(self, vector, *, space, version):
        opened = self._store.open(version, sets=("items",))
        check_same_space(space, opened.space, "index")
        items = opened.sets["items"].vectors
        assert made_by(vector) == made_by(items[0]), "a score between two spaces"
        return items @ vector


class World:
    """The state of a pipeline that may stop anywhere; its steps are the methods without `_`."""

    def __init__(self, opener, folder, seed):
        self._opener, self._rng = opener, random.Random(seed)
        self._disk, self._keyed = VersionStore(folder, create=True), opener(name=f"mix{seed}")
        self._name, self._trained = f"mix{seed}", 0
        self.scores, self.answers = 0, set()

    def _space(self, number):
        return tagged.space(number, DIM)

    def _number(self, space):
        return int(space.query.removeprefix("query"))

    def train(self):
        self._trained += 1

    def embed(self):
        number = self._trained
        with self._disk.draft(self._space(number)) as draft:
            draft.add("users", tagged.ids(ROWS), vectors(number, ROWS), kind="query")
            draft.add("items", tagged.ids(ROWS), vectors(number, ROWS))

    refresh = embed

    def embed_and_crash(self):
        killed = contextlib.suppress(KeyboardInterrupt)
        with killed, self._disk.draft(self._space(self._trained)) as draft:
            draft.add("items", tagged.ids(ROWS), vectors(self._trained, ROWS))
            raise KeyboardInterrupt

    def put_a_part(self):
        """A loader that is killed in the middle."""
        listed = self._newest_on_disk()
        version = self._keyed.begin(listed.space, of="users")
        count = self._rng.randrange(1, ROWS)
        self._keyed.put(version, tagged.ids(count), vectors(self._number(listed.space), count))

    def put_and_publish(self):
        listed = self._newest_on_disk()
        users = self._disk.open(listed.version, sets=("users",)).sets["users"]
        version = self._keyed.begin(listed.space, of="users")
        self._keyed.put(version, list(users.ids), np.asarray(users.vectors))
        digest = rows_digest(users.ids, users.vectors, "float32")
        self._keyed.publish(version, rows=ROWS, digest=digest)

    def publish_too_early(self):
        """What was never put whole is refused."""
        loading = [e for e in self._keyed.versions() if e.state == "loading"]
        if loading:
            self._keyed.publish(loading[0].version, rows=ROWS, digest="0" * 32)

    def publish_index(self):
        self._disk.publish(self._newest_on_disk().version)

    def roll_back_index(self):
        self._disk.roll_back(why="a step")

    def roll_back_keys(self):
        self._keyed.roll_back(why="a step")

    def retire(self):
        self._disk.retire(keep=3)
        self._keyed.retire(keep=3)

    def mark_bad(self):
        side = self._rng.choice([self._disk, self._keyed])
        side.mark_bad(self._rng.choice(side.versions()).version, why="a step")

    def restart_of_the_reader(self):
        self._keyed.close()
        self._keyed = self._opener(name=self._name)

    def lose_the_key_store(self):
        """Another number for the same space, and the same number for another."""
        self._name += "x"
        self._keyed = self._opener(name=self._name)

    def _newest_on_disk(self):
        return next(each for each in self._disk.versions() if each.space)

    def step(self):
        name = self._rng.choice([n for n in dir(self) if n in STEPS])
        with contextlib.suppress(UserError, StopIteration, IndexError):
            getattr(self, name)()

    def look(self, plan):
        """Scores what a plan gives; the plan may be older than the stores."""
        ids = tagged.ids(ROWS + 1)
        found = self._keyed.get(ids, plan.generations)
        for vector, choice in zip(
            found.vectors, plan.choices(found.generations, found.spaces), strict=True
        ):
            self.answers.add(choice.fallback)
            if choice.step is None:
                continue
            try:
                Index(self._disk).score(vector, space=choice.step.space, version=choice.step.index)
                self.scores += 1
            except UserError as error:  # retired: the plan is too old, and the next one is made
                self.answers.add(type(error).__name__)

    def plan(self):
        return make_plan(self._keyed.versions(), self._disk.versions(), others=["popular"])


STEPS = {name for name in vars(World) if not name.startswith("_")} - {"step", "look", "plan"}


def play(opener, tmp_path, seed, steps):
    world = World(opener, tmp_path / f"store{seed}", seed)
    for name in ("train", "embed", "put_and_publish", "publish_index"):
        getattr(world, name)()
    old = world.plan()
    for _ in range(steps):
        world.step()
        plan = world.plan()
        world.look(plan)
        world.look(old)  # a reader that has not yet seen the change
        old = plan
    return world


@pytest.mark.parametrize(
    ("seeds", "steps"),
    [
        pytest.param(range(2, 4), 60, id="few"),
        pytest.param(range(30), 150, id="many", marks=pytest.mark.slow),
    ],
)
def test_spaces_never_meet(opener, tmp_path, seeds, steps):
    worlds = [play(opener, tmp_path, seed, steps) for seed in seeds]
    print(sum(world.scores for world in worlds))
    assert (
        sum(world.scores for world in worlds) > 3 * len(seeds) * steps
    )  # the test tests something
    answers = set().union(*(world.answers for world in worlds))
    assert {"", "id_absent"} <= answers
    assert "SpaceError" not in answers  # the plan and the key store keep them apart already


def test_the_test_sees_a_mixture(opener, tmp_path):
    """Without the comparison of spaces, the same world fails."""
    world = World(opener, tmp_path / "store", 99)
    for number in (0, 1):
        world._trained = number
        world.embed()
        world.publish_index()
    version = world._disk.versions()[0].version
    with pytest.raises(SpaceError):
        Index(world._disk).score(vectors(0, 1)[0], space=world._space(0).id, version=version)
    with pytest.raises(AssertionError, match="between two spaces"):
        Index(world._disk).score(vectors(0, 1)[0], space=world._space(1).id, version=version)
