"""A refresh or a release that is killed at random points; the tests run it and read its last line.

    python tests/release/killed.py VERB STORE KEYS ROUNDS SEED [HOST]

VERB is refresh; generations, refreshes by another model now and then; or release, which runs the
stages from training to publishing, each release in a workdir of its own, and continues there after
a kill. KEYS is the address of a key store, HOST of an index host.

Nothing is started here that has threads: children are forked, and stores are read in children.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np
from words import WordEncoding

from gemb.identity import Version
from gemb.release import indexes
from gemb.release import release as releasing
from gemb.release.corpus import Corpus
from gemb.release.refresh import refresh
from gemb.release.stages import Stages
from gemb.store import VersionStore
from gemb.store.hosts import open_host
from gemb.store.keyed import open_keyed
from gemb.store.rows import rows_digest

_ROWS = 40
NAME = "killed"


class Case(NamedTuple):
    """What is killed.

    Attributes:
        verb: see above.
        store: its folder.
        keys: address of the key store.
        host: address of the index host; "" for none.
    """

    verb: str
    store: str
    keys: str
    host: str

    def model(self, number: int) -> WordEncoding:
        """That makes the vectors of a step."""
        every = {"refresh": 10**9, "generations": 30, "release": 4}[self.verb]
        return WordEncoding(number // every)

    def open(self):
        """The key store and the index host, if any."""
        keyed = open_keyed(self.keys, name=NAME)
        options = {"name": NAME, "seconds": 0.0, "timeout": 30}
        return keyed, [open_host(self.host, **options)] if self.host else []


class Exact:
    """In place of the index, which would start threads."""

    reads, documents, dim, deltas = "vectors", 1, 16, 0


def without_threads() -> None:
    """The index is a file; everything else is as it is."""

    def save(folder, index, encoding, texts):
        folder.mkdir(exist_ok=True)
        (folder / "index.json").write_text(json.dumps({"texts": texts}))

    indexes.continued = lambda *arguments: None
    indexes.built = lambda *arguments, **options: Exact()
    indexes.save = save
    indexes.check_recall = lambda *arguments: 1.0


def without_weights() -> None:
    """A model is a file with its number, and the gate admits it."""

    class Task(NamedTuple):
        fingerprint: str = "task"

    class Loaded:
        load = staticmethod(lambda model: model)

    def encoding(model, dim):
        made = WordEncoding(int((Path(model) / "seed").read_text()))
        made.folder = Path(model)  # it is kept with each version
        return made

    releasing.ModelEncoding, releasing.Embedder = encoding, Loaded
    releasing.read_tasks = lambda places: [Task()]
    releasing.check_gate = lambda *arguments: ("results.json", {"score": 1.0})


def texts_of(number: int) -> dict[str, str]:
    """The records of a step: some change, some are new, some are gone."""
    rng = random.Random(number // 3)
    made = {f"d{row}": f"text {row}" for row in range(_ROWS)}
    for row in rng.sample(range(_ROWS), 8):
        made[f"d{row}"] = f"changed {row} {number // 3}"
    for row in rng.sample(range(_ROWS), 4):
        made.pop(f"d{row}", None)
    return made | {f"new {number // 3}": f"new {number // 3}"}


def work(case: Case, number: int, pipe: int) -> None:
    """Refreshes or releases until it is killed; every third step has other records."""
    without_threads()
    without_weights()
    store, (keyed, hosts) = VersionStore(case.store), case.open()
    while True:
        texts = texts_of(number)
        corpora = {
            "documents": Corpus(list(texts), list(texts.values()), [{} for _ in texts], "records")
        }
        os.write(pipe, f"try {number}\n".encode())
        if case.verb == "release":
            done = released(case, store, keyed, hosts, corpora, number)
        else:
            done = refresh(
                store, case.model(number), corpora, keys=[keyed], hosts=hosts,
                allow_shrink=True, say=lambda line: None,
            )  # fmt: skip
        os.write(pipe, f"done {number} {done}\n".encode())
        for each in (store, keyed, *hosts):
            each.retire(keep=3)
        number += 1


def released(case: Case, store, keyed, hosts, corpora, number: int) -> Version:
    """Runs or continues the stages of one release."""
    workdir = Path(f"{case.store}-release-{number}")
    model = workdir / "train" / "model"

    def train() -> Path:
        model.mkdir(parents=True, exist_ok=True)
        seed = case.model(number).fingerprint.split()[1]
        (model / "seed.part").write_text(seed)
        os.replace(model / "seed.part", model / "seed")
        return model

    training = releasing.Training(train, str(number), model)
    request = releasing.Request(
        "", training, corpora, tasks=["tasks"], keys=[keyed], hosts=hosts, allow_shrink=True
    )
    stages = Stages(workdir, say=lambda line: None)
    return releasing.release(store, request, workdir, stages, say=lambda line: None)


def problems(case: Case, said: list[list[str]]) -> tuple[int, int]:
    """Broken reads, and acknowledged rows that are lost, after a kill."""
    store, (keyed, hosts) = VersionStore(case.store), case.open()
    broken, lost = len(store.check()) + len(keyed.check()), 0
    done = [words for words in said if words[0] == "done"]
    tried = [int(words[1]) for words in said if words[0] == "try"]
    if done:
        live = store.open()
        number, version = int(done[-1][1]), Version.parse(done[-1][2])
        allowed = {}
        for each in {number, *(one for one in tried if one > number)}:
            texts = texts_of(each)
            allowed[each] = texts
        broken += live.version < version
        broken += not any(holds(live, texts) for texts in allowed.values())
        lost += lost_rows(keyed, live, number, allowed, version)
        for host in hosts:
            broken += len(host.check())
            lost += lost_documents(case, host, allowed, version)
    keyed.close()
    for host in hosts:
        host.close()
    return broken, lost


def holds(live, texts: dict[str, str]) -> bool:
    """Whether a version has the vectors of these records, and the corpus."""
    ids, vectors, _ = live.sets["documents"]
    encoding = WordEncoding(int(live.about["model"]["fingerprint"].split()[1]))
    if list(ids) != list(texts):
        return False
    wanted = np.stack([encoding.vector(text) for text in texts.values()])
    same = Corpus.read(str(live.folder / "corpus")).texts == list(texts.values())
    return same and np.array_equal(vectors, wanted)


def lost_rows(keyed, live, number: int, allowed: dict, version: Version) -> int:
    """Rows of the last acknowledged version that the key store has not, or has of another text.

    A refresh that was killed may have put some of its own, of the same space.
    """
    held = {each.version for each in keyed.versions() if each.readable}
    newest = max(held, default=Version(1, 1))
    if newest < version:
        return _ROWS
    texts = allowed[number]
    found = keyed.get(list(texts), [version.generation])
    seed = int(live.about["model"]["fingerprint"].split()[1])
    lost = 0
    for (each, _), vector in zip(texts.items(), found.vectors, strict=True):
        others = [known[each] for known in allowed.values() if each in known]
        gone = any(each not in known for known in allowed.values())
        seeds = {seed} if version.generation == live.version.generation else {seed, seed - 1}
        wanted = [WordEncoding(one).vector(text) for text in others for one in seeds]
        right = vector is not None and any(np.array_equal(vector, one) for one in wanted)
        lost += not (right or (vector is None and gone))
    return lost


def lost_documents(case: Case, host, allowed: dict, version: Version) -> int:
    """Documents that the live version of an index host does not find, or all if it is another.

    It has to be the last acknowledged version, or the whole one of a later try.
    """
    live = next((each for each in host.versions() if each.state == "live"), None)
    if live is None or live.version < version:
        return _ROWS
    for number, texts in allowed.items():
        model = case.model(number)
        vectors = np.stack([model.vector(text) for text in texts.values()])
        digest = rows_digest(list(texts), vectors, "float32")
        if live.space == model.space and live.about["digest"] == digest:
            generation = live.version.generation
            hits = host.search(vectors, 1, space=model.space, generation=generation)
            return int((hits.scores < 0.9999).sum())
    return _ROWS


def in_child(function, *arguments) -> list[str]:
    """The numbers that a function gives, called in another process."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            os.write(writing, " ".join(map(str, function(*arguments))).encode())
        except Exception:
            traceback.print_exc()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        found = file.read().split()
    os.waitpid(pid, 0)
    return found


def kills(case: Case, rounds: int, seed: int) -> dict:
    """Kills a worker at random points and looks at all stores after each."""
    VersionStore(case.store, create=True)
    if case.host:  # imported once, and used in children only
        importlib.import_module("pymilvus" if case.host.startswith("http") else "psycopg")
    rng, number = random.Random(seed), 0
    totals = {"kills": 0, "broken": 0, "lost": 0, "done": 0}
    before: list[list[str]] = []
    for _ in range(rounds):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            work(case, number, writing)
        os.close(writing)
        with os.fdopen(reading) as file:
            lines = [file.readline() for _ in range(rng.randint(0, 5 if not case.host else 3))]
            time.sleep(rng.uniform(0, 0.8 if case.host else 0.25))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            said = [line.split() for line in [*lines, *file] if line.endswith("\n")]
        done = [place for place, words in enumerate(before) if words[0] == "done"]
        before = before[max(done, default=0) :] + said  # a killed try may have put rows, too
        tried = [int(words[1]) for words in said if words[0] == "try"]
        number = tried[-1] if tried else number
        broken, lost = map(int, in_child(problems, case, before))
        totals["kills"] += os.WIFSIGNALED(status)
        totals["broken"] += broken
        totals["lost"] += lost
        totals["done"] += sum(words[0] == "done" for words in said)
        print(json.dumps(totals), file=sys.stderr)
    return totals


if __name__ == "__main__":
    verb, place, keys, rounds, seed, *more = sys.argv[1:]
    print(json.dumps(kills(Case(verb, place, keys, *(more or [""])), int(rounds), int(seed))))
