"""Opens a key store by its address."""

import re

from gemb.checks import UserError
from gemb.store.keyed.postgres import PostgresRows
from gemb.store.keyed.redis import RedisRows
from gemb.store.keyed.sqlite import SqliteRows
from gemb.store.keyed.store import KeyedStore

SCHEMES = ("sqlite:", "redis://", "rediss://", "unix://", "postgresql://", "postgres://")


def is_address(place: str) -> bool:
    """Whether a text is the address of a key store."""
    return place.startswith(SCHEMES)


def open_keyed(
    address: str, *, name: str = "vectors", dtype: str = "float32", timeout: float = 5.0
) -> KeyedStore:
    """Opens a key store; nothing is written before the first version begins.

    Args:
        address: sqlite:FILE, redis://HOST:PORT/NUMBER (Valkey too) or postgresql://HOST/DATABASE,
            with user and password as their clients take them.
        name: of the store on a server: lower-case letters, digits and underscores.
        dtype: precision of new generations, "float32" or "float16".
        timeout: seconds to wait for a server's answer.

    Raises:
        MissingExtra: the server's client is not installed.
        HostError: the server does not answer.
        UserError: another address or name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
        raise UserError(f"name: use lower-case letters, digits and underscores, got {name!r:.40}")
    if address.startswith("sqlite:"):
        rows = SqliteRows(address.removeprefix("sqlite:"))
    elif address.startswith(("redis://", "rediss://", "unix://")):
        rows = RedisRows(address, name, timeout=timeout)
    elif address.startswith(("postgresql://", "postgres://")):
        rows = PostgresRows(address, name, timeout=timeout)
    else:
        raise UserError(f"{address:.80}: expected an address that begins with one of {SCHEMES}")
    return KeyedStore(rows, dtype=dtype)
