"""A refresh or a release that is killed at random points; the tests run it and read its last line.

    python tests/release/killed.py VERB STORE KEYS ROUNDS SEED    VERB: refresh or release

Nothing is imported here that starts threads: children are forked.
"""

import json
import os
import random
import signal
import sys
import time

import numpy as np
from words import WordEncoding

from gemb.identity import Version
from gemb.release import indexes
from gemb.release.corpus import Corpus
from gemb.release.refresh import refresh
from gemb.store import VersionStore
from gemb.store.keyed import open_keyed

_ROWS = 40
_MOST_SECONDS = 0.25
NAME = "killed"


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


def texts_of(number: int) -> dict[str, str]:
    """The records of a step: some change, some are new, some are gone."""
    rng = random.Random(number // 3)
    made = {f"d{row}": f"text {row}" for row in range(_ROWS)}
    for row in rng.sample(range(_ROWS), 8):
        made[f"d{row}"] = f"changed {row} {number // 3}"
    for row in rng.sample(range(_ROWS), 4):
        made.pop(f"d{row}", None)
    return made | {f"new {number // 3}": f"new {number // 3}"}


def work(store: str, keys: str, number: int, verb: str, pipe: int) -> None:
    """Refreshes until it is killed; every third step has other records."""
    without_threads()
    opened, keyed = VersionStore(store), open_keyed(keys, name=NAME)
    while True:
        texts = texts_of(number)
        corpus = Corpus(list(texts), list(texts.values()), [{} for _ in texts], "records")
        seed = number // 30 if verb == "release" else 0  # a release: now and then another model
        os.write(pipe, f"try {number}\n".encode())
        done = refresh(
            opened, WordEncoding(seed), {"documents": corpus}, keys=[keyed],
            allow_shrink=True, say=lambda line: None,
        )  # fmt: skip
        os.write(pipe, f"done {number} {done}\n".encode())
        opened.retire(keep=3)
        keyed.retire(keep=3)
        number += 1


def problems(place: str, keys: str, said: list[list[str]]) -> tuple[int, int]:
    """Broken reads, and acknowledged rows that are lost, after a kill."""
    store, keyed = VersionStore(place), open_keyed(keys, name=NAME)
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
    keyed.close()
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


def kills(verb: str, place: str, keys: str, rounds: int, seed: int) -> dict:
    """Kills a worker at random points and looks at both stores after each."""
    VersionStore(place, create=True)
    rng, number = random.Random(seed), 0
    totals = {"kills": 0, "broken": 0, "lost": 0, "done": 0}
    before: list[list[str]] = []
    for _ in range(rounds):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            work(place, keys, number, verb, writing)
        os.close(writing)
        with os.fdopen(reading) as file:
            lines = [file.readline() for _ in range(rng.randint(0, 5))]
            time.sleep(rng.uniform(0, _MOST_SECONDS))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            said = [line.split() for line in [*lines, *file] if line.endswith("\n")]
        done = [place for place, words in enumerate(before) if words[0] == "done"]
        before = before[max(done, default=0) :] + said  # a killed try may have put rows, too
        tried = [int(words[1]) for words in said if words[0] == "try"]
        number = tried[-1] if tried else number
        broken, lost = problems(place, keys, before)
        totals["kills"] += os.WIFSIGNALED(status)
        totals["broken"] += broken
        totals["lost"] += lost
        totals["done"] += sum(words[0] == "done" for words in said)
    return totals


if __name__ == "__main__":
    verb, place, keys, rounds, seed = sys.argv[1:]
    print(json.dumps(kills(verb, place, keys, int(rounds), int(seed))))
