"""Opens an index host by its address."""

import re

from gemb.checks import UserError
from gemb.store.hosts.local import LocalHost
from gemb.store.hosts.milvus import MilvusHost
from gemb.store.hosts.pgvector import PgvectorHost
from gemb.store.hosts.protocol import IndexHost

_POSTGRES = ("pgvector://", "postgresql://", "postgres://")
_MILVUS = ("milvus://", "milvus:", "http://", "https://")


def is_host_address(place: str) -> bool:
    """Whether a text is the address of an index host and of nothing else."""
    return place.startswith(("pgvector://", *_MILVUS))


def open_host(
    place: str,
    *,
    name: str = "vectors",
    create: bool = False,
    timeout: float = 10.0,
    seconds: float = 1.0,
) -> IndexHost:
    """Opens an index host; on a server nothing is written before the first version begins.

    Args:
        place: a folder; pgvector://HOST/DATABASE, or postgresql://, for PostgreSQL with pgvector;
            milvus://HOST:PORT, or http://HOST:PORT or https://, for Milvus; milvus:FILE for Milvus
            Lite. User and password as their clients take them.
        name: of the index on a server: lower-case letters, digits and underscores.
        create: whether to make a folder that is missing.
        timeout: seconds to wait for a server's answer.
        seconds: for which a server's list of versions is used before it is read again.

    Raises:
        MissingExtra: the server's client is not installed.
        HostError: the server does not answer.
        UserError: there is no such folder, or another name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name) or "__" in name:
        raise UserError(f"name: use lower-case letters, digits and underscores, got {name!r:.40}")
    options = {"timeout": timeout, "seconds": seconds}
    if place.startswith(_POSTGRES):
        return PgvectorHost(f"postgresql://{place.partition('://')[2]}", name, **options)
    if place.startswith(_MILVUS):
        address = re.sub(r"^milvus://", "http://", place).removeprefix("milvus:")
        return MilvusHost(address, name, **options)
    return LocalHost(place, create=create)
