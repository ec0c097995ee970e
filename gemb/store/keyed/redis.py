"""Rows in Redis or Valkey: a hash for each id, generation -> value.

    NAME:ledger     what versions there are
    NAME:v:ID       {generation: value}

All generations of an id come in one answer. With five generations of 128 float16 numbers an id
takes 2.0 KB, 1.6 times its values: the dim and the precision are what saves memory. What `write`
returned from is as safe as the server's own settings make it: without an append-only file the
store on disk is loaded again after a restart.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from gemb.checks import UserError, needs
from gemb.store.keyed.protocol import HostError

_STEP = 1_000  # keys in one SCAN, and commands in one pipeline


class RedisRows:
    """Rows in a server that speaks Redis' protocol.

    Args:
        url: such as redis://127.0.0.1:6379/0.
        name: before all keys, so that several stores share a server.
        timeout: seconds to wait for an answer.

    Raises:
        HostError: the server does not answer.
        UserError: it would throw vectors away when its memory is full.
    """

    def __init__(self, url: str, name: str, *, timeout: float = 5.0):
        with needs("a key store at redis://", extra="redis"):
            import redis
        self._errors, self._changed = (redis.RedisError, OSError), redis.WatchError
        self._name = name
        self._where = url.partition("?")[0].rpartition("@")[2].rpartition("://")[2]
        try:
            self._client = redis.Redis.from_url(
                url, socket_timeout=timeout, socket_connect_timeout=timeout
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"{self}: {error}") from None
        if self._client.get_encoder().decode_responses:
            raise UserError(f"{self}: leave decode_responses out of the address: vectors are bytes")
        with self._answers():
            self._client.ping()
            self._check_eviction(redis.ResponseError)

    def __str__(self) -> str:
        return f"redis://{self._where} ({self._name})"

    def _check_eviction(self, refused: type) -> None:
        try:
            found = self._client.config_get("maxmemory*")
        except refused:  # hosted servers forbid the command
            return
        found = {_text(key): _text(value) for key, value in found.items()}
        policy = found.get("maxmemory-policy", "noeviction")
        if found.get("maxmemory", "0") != "0" and policy != "noeviction":
            raise UserError(
                f"{self}: its maxmemory-policy is {policy}, which throws vectors away when memory "
                "is full; set noeviction"
            )

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise HostError(f"{self}: {' '.join(str(error).split())[:200]}") from None

    def read(self) -> bytes | None:
        """See `Rows.read`."""
        with self._answers():
            return self._client.get(self._ledger)

    @property
    def _ledger(self) -> str:
        return f"{self._name}:ledger"

    def _keys(self, ids: Iterable[bytes]) -> list[bytes]:
        return [f"{self._name}:v:".encode() + each for each in ids]

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """See `Rows.change`."""
        with self._answers(), self._client.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(self._ledger)
                    text = function(pipe.get(self._ledger))
                    pipe.multi()
                    pipe.set(self._ledger, text)
                    pipe.execute()
                    return
                except self._changed:
                    continue

    def prepare(self, generation: int) -> None:
        """Nothing to do."""

    def write(self, generation: int, ids: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See `Rows.write`."""
        with self._answers(), self._client.pipeline(transaction=False) as pipe:
            for key, value in zip(self._keys(ids), values, strict=True):
                pipe.hset(key, generation, value)
            pipe.execute()

    def fetch(
        self, ids: Sequence[bytes], generations: Sequence[int]
    ) -> tuple[bytes | None, dict[tuple[bytes, int], bytes]]:
        """See `Rows.fetch`: all commands are sent before an answer is read."""
        with self._answers(), self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._ledger)
            for key in self._keys(ids):
                pipe.hmget(key, generations)
            text, *rows = pipe.execute()
        pairs = zip(ids, rows, strict=True)
        return text, {
            (each, generation): value
            for each, row in pairs
            for generation, value in zip(generations, row, strict=True)
            if value is not None
        }

    def scan(self, generation: int) -> Iterator[tuple[bytes, bytes]]:
        """See `Rows.scan`; ids are remembered, for the server may name one twice."""
        with self._answers():
            for keys in self._all_keys():
                with self._client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.hget(key, generation)
                    found = zip(keys, pipe.execute(), strict=True)
                start = len(self._keys([b""])[0])
                yield from ((key[start:], value) for key, value in found if value is not None)

    def _all_keys(self) -> Iterator[list[bytes]]:
        seen, cursor = set(), None
        while cursor != 0:
            cursor, keys = self._client.scan(cursor or 0, f"{self._name}:v:*", _STEP)
            yield list({*keys} - seen)
            seen |= {*keys}

    def delete(self, ids: Iterable[bytes], generation: int | None) -> int:
        """See `Rows.delete`."""
        with self._answers(), self._client.pipeline(transaction=False) as pipe:
            for key in self._keys(ids):
                pipe.delete(key) if generation is None else pipe.hdel(key, generation)
            return sum(count > 0 for count in pipe.execute())

    def drop(self, generation: int) -> None:
        """See `Rows.drop`."""
        with self._answers():
            for keys in self._all_keys():
                with self._client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.hdel(key, generation)
                    pipe.execute()

    def close(self) -> None:
        """See `Rows.close`."""
        self._client.close()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
