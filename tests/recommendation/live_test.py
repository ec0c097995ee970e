"""Released vectors: older versions, popularity, an update of one user, and the whole chain."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import gemb
from gemb.checks import UserError
from gemb.data.interactions.reading import SideTable
from gemb.identity import Space
from gemb.models.functional import initial_params
from gemb.pretrained import saving
from gemb.recommendation import links, towers
from gemb.recommendation.baselines.popularity import Popularity
from gemb.recommendation.recommender import Recommender
from gemb.recommendation.records import write_records
from gemb.release.encoding import ModelEncoding
from gemb.serving.recommending import LiveRecommender
from gemb.store import VersionStore
from gemb.store.keyed import open_keyed
from gemb.store.rows import rows_digest
from gemb.structs import Interactions

ROOT = Path(__file__).parents[2]
ITEMS = [f"i{n}" for n in range(6)]


@pytest.fixture
def live(tmp_path):
    """u0 has vectors of both versions, u1 only of the first, u2 none; u0 has i0, u2 has i5."""
    rng = np.random.default_rng(0)
    store = VersionStore(tmp_path / "store", create=True)
    keys = open_keyed(f"sqlite:{tmp_path}/users.db")
    made = {}
    for number, users in ((1, ["u0", "u1"]), (2, ["u0"])):
        space = Space(f"model {number}", f"model {number}", 4, False, "dot")
        items = rng.normal(size=(6, 4)).astype(np.float32)
        vectors = rng.normal(size=(len(users), 4)).astype(np.float32)
        with store.draft(space) as draft:
            draft.add("documents", ITEMS, items)
        store.publish(draft.version)
        version = keys.begin(space, of="users", version=draft.version)
        keys.put(version, users, vectors)
        digest = rows_digest(users, vectors, "float32")
        keys.publish(version, rows=len(users), digest=digest)
        made[number] = items, dict(zip(users, vectors, strict=True)), version
    train = Interactions(
        np.array([0, 2, 1, 1], np.int32), np.array([0, 5, 5, 3], np.int32), np.ones(4, np.float32)
    )
    users = SideTable(["u0", "u1", "u2"], {"segment": ["a", "b", "b"]})
    counts = np.bincount(train.item, minlength=6).astype(np.float32)
    recommender = Recommender(
        Popularity(counts), users, SideTable(ITEMS, {}), train, segment="segment"
    )
    yield LiveRecommender(store, keys, recommender), made, keys, store
    keys.close()


def best(items, vector, seen=()):
    order = np.argsort(-(items @ vector), kind="stable")
    return [f"i{row}" for row in order if f"i{row}" not in seen][:2]


def test_the_newest_version_that_has_a_user_answers(live):
    recommender, made, keys, store = live
    new, old, none = recommender.recommend(["u0", "u1", "u2"], k=2)
    assert new.items == best(made[2][0], made[2][1]["u0"], {"i0"})
    assert (new.source, new.note) == (f"version {made[2][2]}", "")
    assert old.items == best(made[1][0], made[1][1]["u1"], {"i5", "i3"})
    assert (old.source, old.note) == (
        f"version {made[1][2]}", "not by the newest version: id_absent"
    )  # fmt: skip
    assert none.items == ["i3", "i0"]  # of the segment b: i5 is its own; then in order
    assert none.source == "popularity in segment b"
    assert none.note == "no common version has the user"

    keys.put(made[2][2], ["u1"], made[2][0][4:5] * 9)  # a session: one user's vector at once
    assert recommender.recommend(["u1"], k=1)[0].items == ["i4"]
    store.roll_back(why="a test")  # then the side of the users is not asked for newer ones
    assert recommender.recommend(["u0"], k=2)[0].source == f"version {made[1][2]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    rows = ["user\titem\tsplit"]
    for user in range(30):
        for n in range(5):
            part = "test" if n == 4 else "train"
            rows.append(f"u{user}\ti{(user + n * 3) % 20}\t{part}")
    (place / "interactions.tsv").write_text("\n".join(rows) + "\n")
    for name, count in (("user", 30), ("item", 20)):
        lines = ["id\tsection", *(f"{name[0]}{n}\ts{n % 3}" for n in range(count))]
        (place / f"{name}s.tsv").write_text("\n".join(lines) + "\n")
    return place


def test_records_are_encoded_and_keyed_for_a_release(folder, tmp_path):
    given = links.read(folder, part="test")
    query = [{"name": "history", "kind": "history", "limit": 8, "least": 1}]
    query += [{"name": "section", "kind": "id", "least": 1}]
    document = [{"name": "item", "kind": "id", "least": 1}]
    model = towers.from_links(given, query=query, document=document, width=8, pad_rows=16)
    model = model.with_params(initial_params(model.spec, jax.random.key(0)))
    saving.save(model, tmp_path / "model")
    written = write_records(model.processors.query, given, tmp_path / "records")
    assert written == {"users.jsonl": 30, "items.jsonl": 20}
    plain, encoding = (load(str(tmp_path / "model")) for load in (gemb.load, ModelEncoding))
    record = '{"section": "s0", "history": ["i0", "i3", "i6", "i9"]}'
    first = (tmp_path / "records" / "users.jsonl").read_text().splitlines()[0]
    assert record.replace('"', '\\"') in first
    np.testing.assert_array_equal(
        encoding.encode([record], kind="query"),
        plain.encode_query([{"history": ["i0", "i3", "i6", "i9"], "section": "s0"}]),
    )
    one, same, other = encoding.contents(
        [record, record.replace('"s0"', ' "s0"'), record.replace("i9", "i8")], "query"
    )
    assert one == same != other
    with pytest.raises(UserError, match="needs texts that are JSON objects"):
        encoding.encode(["a strategy game"], kind="query")


@pytest.mark.slow
def test_the_whole_chain(folder, tmp_path):
    done = subprocess.run(
        [
            "bash", str(ROOT / "launch" / "recommend.sh"), "--small", f"--python={sys.executable}",
            f"--workdir={tmp_path}/work", f"--data={folder}",
        ],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout
    assert "version 1.1 is published" in said
    shown = [part.splitlines()[1] for part in said.split("+ gemb recommend ")[1:]]
    assert [line.split(" by ")[1] for line in shown] == [
        "version 1.1:", "version 1.2:", "version 2.1:", "version 1.2:"
    ]  # fmt: skip
    assert said.rstrip().endswith("no faults")
