"""The key store: the rules of versions over any backend."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gemb.checks import UserError
from gemb.identity import Listed, Space, Version
from gemb.store.keyed import values
from gemb.store.keyed.protocol import Found, HostError, Rows
from gemb.store.ledger import KEEP_GENERATIONS, Ledger
from gemb.store.marking import Marking
from gemb.store.rows import DTYPES, RowsDigest, check_vectors, id_bytes

_BATCH = 5_000


class KeyedStore(Marking):
    """`KeyedVectors` over a backend.

    A generation's vectors are kept once: a refresh replaces them, so of each generation only the
    newest published refresh is listed. Vectors that a session puts into a live version while its
    refresh is loading are counted by `publish` as well: put them into the loading version, or
    after it is published.

    Args:
        rows: the backend.
        dtype: precision of new generations, "float32" or "float16".

    Raises:
        UserError: an unknown dtype.
    """

    def __init__(self, rows: Rows, *, dtype: str = "float32"):
        if dtype not in DTYPES:
            raise UserError(f"dtype: expected one of {DTYPES}, got {dtype!r}")
        self._rows, self.dtype = rows, dtype
        self._readable: tuple[bytes | None, dict[int, tuple[str, int]]] = (None, {})

    def __str__(self) -> str:
        return str(self._rows)

    def versions(self) -> list[Listed]:
        """What there is, newest first; `about` has the digest, precision and set of each.

        Raises:
            HostError: the host does not answer.
            UserError: its list of versions is of another format.
        """
        return list(self._parse(self._rows.read()).versions)

    def begin(self, space: Space, *, of: str, version: Version | None = None) -> Version:
        """The number to put vectors under.

        An unfinished version of the space is continued; else the same space as before makes a
        refresh, and another one a generation.

        Args:
            space: of the vectors.
            of: what they are of, such as "users".
            version: a number that was given elsewhere, such as by a `VersionStore`.

        Raises:
            SpaceError: the number is of another space here.
            UserError: the number is published already, or the space has another generation.
        """
        chosen = []

        def added(ledger: Ledger) -> Ledger:
            listed = self._begun(ledger, space, of, version)
            chosen[:] = [listed.version]
            return ledger.with_version(listed)

        self._change(added)
        self._rows.prepare(chosen[0].generation)
        return chosen[0]

    def _begun(self, ledger: Ledger, space: Space, of: str, version: Version | None) -> Listed:
        held = [e for e in ledger.versions if e.space == space]
        open_ = next((e for e in held if e.state == "loading"), None)
        if version is None:
            version = open_.version if open_ else ledger.next(space)
        ledger.check_number(version, space, self)
        for each in held:
            if each.version == version and each.state == "loading":
                return each
            if each.version >= version:
                raise UserError(f"{self}: version {version} is not newer than {each.version}")
        dtype = held[0].about["dtype"] if held else self.dtype  # rows of one generation are alike
        return Listed(version, space, "loading", about={"of": of, "dtype": dtype})

    def put(self, version: Version, ids: Sequence[str | int], vectors: np.ndarray) -> None:
        """Adds or replaces vectors; any batch in any order, and again without harm.

        Args:
            version: of `begin`, or the live one for a vector that changes within a session.
            ids: unique; an integer is the same id as its digits.
            vectors: [ids, dim] float32 or float16.

        Raises:
            SpaceError: vectors of another dim.
            HostError: the host does not answer; rows of earlier calls are kept.
            UserError: an id or a vector that is not accepted, or a version that does not exist.
        """
        found = self._parse(self._rows.read()).find(version, self)
        if found.state == "bad":
            raise UserError(f"{self}: version {version} is marked bad")
        keys = id_bytes(ids, self)
        check_vectors(vectors, ids, found.space, self)
        stored = values.rounded(vectors, found.about["dtype"], self)
        for start in range(0, len(keys), _BATCH):
            part = slice(start, start + _BATCH)
            encoded = values.encode(stored[part], version.refresh)
            self._rows.write(version.generation, keys[part], encoded)

    def publish(
        self, version: Version, *, rows: int | None = None, digest: str | None = None
    ) -> None:
        """Makes a version live; a refresh of an older generation replaces the refresh before it.

        Args:
            version: newer than the live one.
            rows: how many ids its generation has to hold; may be left out if it was live before.
            digest: of them, see `gemb.store.rows.rows_digest`.

        Raises:
            UserError: the generation holds something else, or the version is marked bad or older
                than the live one.
        """
        found = self._parse(self._rows.read()).find(version, self)
        if found.state == "loading" or rows is not None or digest is not None:
            if rows is None or digest is None:
                raise UserError(f"{self}: version {version} is new; publish needs rows and digest")
            self.verify(version, rows=rows, digest=digest)

        def pointed(ledger: Ledger) -> Ledger:
            listed = ledger.find(version, self)
            if listed.state == "loading":
                about = listed.about | {"digest": digest}
                listed = dataclasses.replace(
                    listed, state="ready", made=time.time(), rows=rows, about=about,
                    bytes=rows * self._row_bytes(listed),
                )  # fmt: skip
            ledger = ledger.with_version(listed).publish(version, self)
            replaced = [
                each.version
                for each in ledger.versions
                if each.version.generation == version.generation and each.version < version
            ]
            return ledger.without(*replaced)

        self._change(pointed)

    def verify(self, version: Version, *, rows: int, digest: str) -> None:
        """Compares what a version's generation holds with what it has to hold.

        Args:
            version: of `begin`, or a later one.
            rows: ids.
            digest: of them, see `gemb.store.rows.rows_digest`.

        Raises:
            UserError: it holds something else.
        """
        found = self._parse(self._rows.read()).find(version, self)
        held = RowsDigest()
        for keys, vectors in self._batches(found):
            held.add(keys, vectors)
        if (held.rows, held.hex()) != (rows, digest):
            other = "other vectors" if held.rows == rows else f"{held.rows:,} rows, not {rows:,}"
            raise UserError(
                f"{self}: generation {found.version.generation} holds {other}; put what is missing "
                "again and remove what is gone, or clear the version. Nothing was published"
            )

    def get(self, ids: Sequence[str | int], generations: Sequence[int]) -> Found:
        """The newest vector of each id among some generations, in one round trip.

        Args:
            ids: may come twice.
            generations: to look in; those that are not published, or bad, hold nothing.

        Raises:
            HostError: the host does not answer, or holds something else than vectors.
            UserError: an id that is not accepted.
        """
        keys, asked = id_bytes(ids, self, unique=False), sorted({*generations}, reverse=True)
        found = Found([None] * len(keys), np.full(len(keys), -1), {})
        if not keys or not asked:
            return found
        text, held = self._rows.fetch(keys, asked)
        spaces = self._spaces_of(text)
        asked = [generation for generation in asked if generation in spaces]
        for generation in asked:
            found.spaces[generation] = spaces[generation][0]
        for row, key in enumerate(keys):
            for generation in asked:
                value = held.get((key, generation))
                if value is not None:
                    vector = values.decode(value, key, spaces[generation][1], self)
                    found.vectors[row] = vector.astype(np.float32)
                    found.generations[row] = generation
                    break
        return found

    def _spaces_of(self, text: bytes | None) -> dict[int, tuple[str, int]]:
        """Generation -> id and dim of its space; kept for as long as the ledger is the same."""
        known, spaces = self._readable
        if known is None or known != text:
            ledger = self._parse(text)
            held = [each for each in ledger.versions if each.readable]
            spaces = {each.version.generation: (each.space.id, each.space.dim) for each in held}
            self._readable = (text, spaces)
        return spaces

    def ids(self, version: Version) -> Iterator[str]:
        """Every id of a version's generation.

        Raises:
            UserError: there is no such version.
        """
        found = self._parse(self._rows.read()).find(version, self)
        for keys, _ in self._batches(found):
            yield from (key.decode() for key in keys)

    def remove(self, ids: Sequence[str | int], *, generation: int | None = None) -> int:
        """Forgets ids.

        Args:
            ids: to forget.
            generation: None for all, as the right to be forgotten asks; one for what a refresh no
                longer has.

        Returns:
            How many of them were there.
        """
        return self._rows.delete(id_bytes(ids, self), generation)

    def clear(self, version: Version) -> None:
        """Removes the rows of an unfinished generation, to put them again.

        Raises:
            UserError: something of the generation is published.
        """
        held = self._parse(self._rows.read())
        held.find(version, self)
        same = [e for e in held.versions if e.version.generation == version.generation]
        if any(each.readable for each in same):
            raise UserError(f"{self}: generation {version.generation} is published; it stays")
        self._rows.drop(version.generation)
        self._rows.prepare(version.generation)

    def retire(self, *, keep: int = KEEP_GENERATIONS, dry_run: bool = False) -> list[Version]:
        """Removes old generations; never the live one, the one before it, or a pinned one.

        They disappear at once; then their rows are removed, and after a kill the next call
        continues.

        Args:
            keep: generations to keep.
            dry_run: whether only to say what would be removed.

        Returns:
            What was removed.
        """
        if dry_run:
            return [each.version for each in self._parse(self._rows.read()).old(keep, 1)]
        removed = []

        def listed(ledger: Ledger) -> Ledger:
            removed[:] = [each.version for each in ledger.old(keep, 1)]
            left = ledger.without(*removed)
            held = {each.version.generation for each in left.versions}
            gone = {version.generation for version in removed} - held
            return dataclasses.replace(left, dropping=left.dropping | gone)

        self._change(listed)
        for generation in sorted(self._parse(self._rows.read()).dropping):
            self._rows.drop(generation)
            self._change(
                lambda ledger, gone=generation: dataclasses.replace(
                    ledger, dropping=ledger.dropping - {gone}
                )
            )
        return removed

    def check(self) -> list[str]:
        """Reads every readable row.

        Returns:
            What is wrong, one line each; empty where all is well.
        """
        problems = []
        for each in self.versions():
            if each.readable:
                try:
                    for _, vectors in self._batches(each):
                        if not np.isfinite(vectors).all():
                            problems.append(f"{self}: version {each.version} has NaN or infinity")
                            break
                except HostError as error:
                    problems.append(str(error))
        return problems

    def close(self) -> None:
        """Gives connections back."""
        self._rows.close()

    def _batches(self, found: Listed):
        """Ids and vectors, as they are kept, of all rows of a version's generation."""
        rows = self._rows.scan(found.version.generation)
        while batch := list(itertools.islice(rows, _BATCH)):
            keys, kept = zip(*batch, strict=True)
            yield keys, values.decode_rows(keys, kept, found.space.dim, self)

    def _change(self, function: Callable[[Ledger], Ledger]) -> None:
        self._rows.change(lambda text: function(self._parse(text)).write())

    @staticmethod
    def _row_bytes(found: Listed) -> int:
        return values.HEADER_BYTES + found.space.dim * np.dtype(found.about["dtype"]).itemsize
