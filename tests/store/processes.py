"""Processes that are killed, and readers that watch; the tests run it and read its last line.

    python tests/store/processes.py kills ADDRESS ROUNDS SEED     ADDRESS: a folder, or a key store
    python tests/store/processes.py hosts ADDRESS ROUNDS SEED     ADDRESS: of an index host
    python tests/store/processes.py readers FOLDER PUBLISHES READS

Nothing is imported here that starts threads: children are forked.
"""

import contextlib
import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import tagged

from gemb.checks import UserError
from gemb.identity import Version
from gemb.store import VersionStore
from gemb.store.disk import open_version
from gemb.store.disk.layout import read_current
from gemb.store.keyed import is_address, open_keyed
from gemb.store.rows import rows_digest

ROWS, BATCH = 60, 20
_MOST_LINES, _MOST_SECONDS = 12, 0.05  # that a writer gets before it is killed


def say(pipe: int, *words) -> None:
    os.write(pipe, (" ".join(map(str, words)) + "\n").encode())


class OnDisk:
    """Drafts, publishes, roll-backs and removals in a store on disk."""

    def __init__(self, address: str):
        self.store = VersionStore(address, create=True)

    def work(self, pipe: int, rng: random.Random) -> None:
        """Says what it tries, and what was done, until it is killed."""
        while True:
            number = rng.randrange(10**6) if rng.random() < 0.3 else rng.randrange(3)
            with self.store.draft(tagged.space(number)) as draft:
                for name in ("users", "items"):
                    made = tagged.vectors(draft.version, ROWS)
                    draft.add(name, tagged.ids(ROWS), made)
            say(pipe, "made", draft.version)
            with contextlib.suppress(UserError):  # a new generation with an older number
                say(pipe, "try", draft.version)
                self.store.publish(draft.version)
                # a refresh of an older generation is published and not live
                say(pipe, "live", read_current(self.store.folder))
            if rng.random() < 0.2:
                self.store.retire(keep=3)
                say(pipe, "retired")

    def check(self, said: list[list[str]]) -> tuple[int, int]:
        """Broken reads and lost rows after a kill."""
        self.store = VersionStore(self.store.folder)
        broken = len(self.store.check())
        held = {str(each.version) for each in self.store.versions()}
        made = [words[1] for words in said if words[0] == "made"]
        lost = sum(version not in held for version in made) if ["retired"] not in said else 0
        live = None
        with contextlib.suppress(UserError):
            live = self.store.open()
        broken += not self._right(said, live)
        return broken, lost

    @staticmethod
    def _right(said, live) -> bool:
        if live is None:
            return not any(words[0] == "live" for words in said)
        expected = tagged.vectors(live.version, ROWS)
        whole = all(np.array_equal(one.vectors, expected) for one in live.sets.values())
        return whole and _is_live(said, str(live.version))


class Keyed:
    """Generations and refreshes in a key store."""

    def __init__(self, address: str):
        self.address = address

    def work(self, pipe: int, rng: random.Random) -> None:
        """Says what it tries, and what was done, until it is killed."""
        keyed = open_keyed(self.address, name="killed")
        while True:
            held = [each for each in keyed.versions() if each.state == "loading"]
            space = held[0].space if held else tagged.space(rng.randrange(10**6))
            if not held and rng.random() < 0.5 and keyed.versions():
                space = keyed.versions()[0].space
            version = keyed.begin(space, of="users")
            made, ids = tagged.vectors(version, ROWS), tagged.ids(ROWS)
            for start in rng.sample(range(0, ROWS, BATCH), ROWS // BATCH):
                part = slice(start, start + BATCH)
                keyed.put(version, ids[part], made[part])
                say(pipe, "put", version, start)
            say(pipe, "try", version)
            keyed.publish(version, rows=ROWS, digest=rows_digest(ids, made, "float32"))
            say(pipe, "live", version)
            if rng.random() < 0.2:
                keyed.retire(keep=3)
                say(pipe, "retired")

    def check(self, said: list[list[str]]) -> tuple[int, int]:
        """Broken reads and lost rows after a kill."""
        keyed = open_keyed(self.address, name="killed")
        versions = keyed.versions()
        live = next((each.version for each in versions if each.state == "live"), None)
        broken = len(keyed.check())
        if live:
            found = keyed.get(tagged.ids(ROWS), [live.generation])
            broken += not (found.generations == live.generation).all()
            broken += not _is_live(said, str(live))
            broken += not self._of_one_generation(found.vectors, live)
        put = [words[1:] for words in said if words[0] == "put"]
        lost = self._lost(keyed, [w for w in put if w[0] == put[-1][0]]) if put else 0
        keyed.close()
        return broken, lost

    @staticmethod
    def _of_one_generation(vectors, live: Version) -> bool:
        """Rows are of the live refresh, or of the next one, which was being put."""
        allowed = [tagged.vectors(Version(live.generation, live.refresh + n), ROWS) for n in (0, 1)]
        return all(any(np.array_equal(v, a[i]) for a in allowed) for i, v in enumerate(vectors))

    @staticmethod
    def _lost(keyed, put: list[list[str]]) -> int:
        """Acknowledged rows of the last version that are not there.

        A batch of its next refresh may have been written and not yet acknowledged.
        """
        version = Version.parse(put[-1][0])
        kept, lost = dict(keyed._rows.scan(version.generation)), 0
        refreshes = (version, Version(version.generation, version.refresh + 1))
        made = list(zip(*(tagged.vectors(each, ROWS) for each in refreshes), strict=True))
        for _, start in put:
            for row in range(int(start), int(start) + BATCH):
                value = kept.get(f"id {row}".encode(), b"")
                lost += value[12:] not in [vector.tobytes() for vector in made[row]]
        return lost


class Host:
    """Versions of an index host: loaded, verified, published, changed, retired."""

    def __init__(self, address: str):
        self.address = address

    def open(self):
        # a server's client starts threads: it is opened in each child, and never before a fork
        from gemb.store.hosts import open_host

        return open_host(self.address, name="killed", create=True, seconds=0.0, timeout=30)

    def work(self, pipe: int, rng: random.Random) -> None:
        """Says what it tries, and what was done, until it is killed."""
        from gemb.store.hosts import Settings

        host = self.open()
        say(pipe, "started")
        while True:
            held = [each for each in host.versions() if each.state == "loading"]
            space = held[0].space if held else tagged.space(rng.randrange(10**6))
            if not held and rng.random() < 0.5 and host.versions():
                space = host.versions()[0].space
            version = host.begin(space, settings=Settings(kind="hnsw"))
            made, ids = tagged.vectors(version, ROWS), tagged.ids(ROWS)
            for start in rng.sample(range(0, ROWS, BATCH), ROWS // BATCH):
                part = slice(start, start + BATCH)
                host.load(version, ids[part], made[part])
                say(pipe, "put", version, start)
            digest = rows_digest(ids, made, "float32")
            host.verify(version, made[:4], [[i] for i in ids[:4]], 1.0, rows=ROWS, digest=digest)
            say(pipe, "made", version)
            say(pipe, "try", version)
            host.publish(version)
            say(pipe, "live", version)
            extra = tagged.vectors(version, 1, ROWS)
            host.put(version, tagged.ids(1, ROWS), extra)
            say(pipe, "added", version)
            if rng.random() < 0.2:
                host.retire(keep=3)
                say(pipe, "retired")

    def check(self, said: list[list[str]]) -> tuple[int, int]:
        """Broken searches and lost documents after a kill; looked at by another process."""
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            try:
                say(writing, *self._check(said))
            except Exception:
                traceback.print_exc()
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as file:
            found = file.readline().split()
        os.waitpid(pid, 0)
        return int(found[0]), int(found[1])

    def _check(self, said: list[list[str]]) -> tuple[int, int]:
        host = self.open()
        broken, lost, versions = len(host.check()), 0, host.versions()
        live = next((each for each in versions if each.state == "live"), None)
        if live is None:
            broken += any(words[0] == "live" for words in said)
        else:
            broken += not _is_live(said, str(live.version))
            lost += self._unfound(host, live, ROWS)
            added = ["added", str(live.version)] in said
            lost += added and self._unfound(host, live, ROWS + 1) > 0
        held = {str(each.version): each for each in versions}
        if ["retired"] not in said:
            lost += sum(words[1] not in held for words in said if words[0] == "made")
        loading = [each for each in versions if each.state == "loading"]
        for each in loading:
            lost += self._lost(host, each, said)
        host.close()
        return broken, lost

    @staticmethod
    def _unfound(host, live, rows: int) -> int:
        """Documents of the live version that a search by their own vector does not find first."""
        made, generation = tagged.vectors(live.version, rows), live.version.generation
        hits = host.search(made, 1, space=live.space, generation=generation)
        return sum(row != [name] for row, name in zip(hits.ids, tagged.ids(rows), strict=True))

    @staticmethod
    def _lost(host, each, said: list[list[str]]) -> int:
        """Whether acknowledged batches of an unfinished version are there, by finishing it."""
        from gemb.store.hosts import Settings

        host.begin(each.space, settings=Settings(kind="hnsw"))  # it may have stopped within that
        put = [
            int(words[2]) for words in said if words[0] == "put" and words[1] == str(each.version)
        ]
        made, ids = tagged.vectors(each.version, ROWS), tagged.ids(ROWS)
        for start in {*range(0, ROWS, BATCH)} - {*put}:
            part = slice(start, start + BATCH)
            host.load(each.version, ids[part], made[part])
        try:
            digest = rows_digest(ids, made, "float32")
            queries = made[:4]
            host.verify(
                each.version, queries, [[i] for i in ids[:4]], 1.0, rows=ROWS, digest=digest
            )
        except UserError:
            return 1
        host.publish(each.version)
        return 0


def _is_live(said: list[list[str]], live: str) -> bool:
    """Whether the live version is the last that was acknowledged, or the one that was tried."""
    known = [words for words in said if words[0] in ("try", "live")]
    acknowledged = [words[1] for words in known if words[0] == "live"]
    tried = known[-1][1] if known and known[-1][0] == "try" else None
    return live == tried or not acknowledged or live == acknowledged[-1]


def hosts(address: str, rounds: int, seed: int) -> dict:
    """Kills a loader of an index host at random points and looks at the host after each."""
    # Imported once, and used in children only: what starts threads must not start before a fork.
    importlib.import_module("gemb.store.hosts")
    importlib.import_module("pymilvus" if address.startswith("http") else "usearch.index")
    return _kills(Host(address), rounds, seed)


def kills(address: str, rounds: int, seed: int) -> dict:
    """Kills a writer at random points and looks at the store after each."""
    return _kills(Keyed(address) if is_address(address) else OnDisk(address), rounds, seed)


def _kills(made, rounds: int, seed: int) -> dict:
    rng, totals = (
        random.Random(seed),
        {"kills": 0, "broken": 0, "lost": 0, "published": 0, "put": 0},
    )
    for number in range(rounds):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            made.work(writing, random.Random(seed + number))
        os.close(writing)
        with os.fdopen(reading) as file:
            lines = [file.readline() for _ in range(rng.randint(0, _MOST_LINES))]
            time.sleep(rng.uniform(0, _MOST_SECONDS))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            # a last line without an end was not said
            said = [line.split() for line in [*lines, *file] if line.endswith("\n")]
        broken, lost = made.check(said)
        totals["kills"] += os.WIFSIGNALED(status)
        totals["broken"] += broken
        totals["lost"] += lost
        totals["published"] += sum(words[0] == "live" for words in said)
        totals["put"] += sum(words[0] in ("put", "made") for words in said)
    return totals


def _read_on(folder: str, stop: int, pipe: int, reads: int) -> None:
    """Opens the live version until `stop` says so and `reads` are done; counts what is wrong."""
    os.set_blocking(stop, False)
    counts, seen = {"reads": 0, "missing": 0, "mixed": 0}, set()
    expected: dict[Version, bytes] = {}
    while True:
        if counts["reads"] >= reads and counts["reads"] % 50 == 0:
            with contextlib.suppress(BlockingIOError):
                os.read(stop, 1)
                break
        counts["reads"] += 1
        try:
            opened = open_version(Path(folder))
        except (UserError, OSError):
            counts["missing"] += 1
            continue
        version = opened.version
        if version not in expected:
            expected[version] = tagged.vectors(version, 4).tobytes()
        found = {one.vectors.tobytes() for one in opened.sets.values()}
        counts["mixed"] += found != {expected[version]} or len(opened.sets) != 2
        seen.add(version)
    say(pipe, json.dumps(counts | {"versions": len(seen)}))
    os._exit(0)


def readers(folder: str, publishes: int, reads: int) -> dict:
    """Publishes new versions while two processes read; goes on until they have read enough."""
    store = VersionStore(folder, create=True)

    def publish(number: int) -> None:
        with store.draft(tagged.space(number // 3)) as draft:
            for name in ("users", "items"):
                draft.add(name, tagged.ids(4), tagged.vectors(draft.version, 4))
        store.publish(draft.version)
        store.retire(keep=1, refreshes=1)

    publish(0)
    (stop, stopping), (results, pipe) = os.pipe(), os.pipe()
    started = time.monotonic()
    pids = []
    for _ in range(2):
        pids.append(os.fork())
        if not pids[-1]:
            os.close(stopping)
            _read_on(folder, stop, pipe, reads // 2)
    os.close(stop)
    for number in range(1, publishes + 1):
        publish(number)
        # spread over the time that the readers need
        time.sleep(max(reads * 0.00025 / publishes - 0.03, 0))
    os.close(stopping)
    for pid in pids:
        os.waitpid(pid, 0)
    os.close(pipe)
    with os.fdopen(results) as file:
        found = [json.loads(line) for line in file]
    totals = {name: sum(each[name] for each in found) for name in found[0]}
    return totals | {"publishes": publishes, "seconds": round(time.monotonic() - started, 1)}


if __name__ == "__main__":
    subject, address, first, second = sys.argv[1:]
    print(
        json.dumps(
            {"kills": kills, "hosts": hosts, "readers": readers}[subject](
                address, int(first), int(second)
            )
        )
    )
