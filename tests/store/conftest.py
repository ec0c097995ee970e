"""Key stores and index hosts for tests, on real servers where the extra is installed."""

import itertools

import pytest
import services

from gemb.store.hosts import open_host
from gemb.store.keyed import open_keyed

_NUMBERS = itertools.count()
BACKENDS = [
    "sqlite",
    pytest.param("redis", marks=pytest.mark.extra("services", "redis")),
    pytest.param("postgres", marks=pytest.mark.extra("services", "postgres")),
]


@pytest.fixture(scope="session")
def valkey_address(tmp_path_factory):
    with services.valkey(tmp_path_factory.mktemp("valkey")) as address:
        yield address


@pytest.fixture(scope="session")
def postgres_address():
    with services.postgres() as address:
        yield address


@pytest.fixture(params=BACKENDS)
def opener(request, tmp_path):
    """A function that opens the key store of this test, again and again."""
    local = request.param == "sqlite"
    if local:
        address = f"sqlite:{tmp_path}/keys.db"
    else:
        server = {"redis": "valkey_address", "postgres": "postgres_address"}[request.param]
        address = request.getfixturevalue(server)
    name, opened = f"test{next(_NUMBERS)}", []

    def open_again(name=name, **options):
        place = address.replace("keys.db", f"{name}.db") if local else address
        opened.append(open_keyed(place, name=name, **options))
        return opened[-1]

    open_again.address, open_again.name, open_again.kind = address, name, request.param
    yield open_again
    for each in opened:
        each.close()


HOSTS = [
    "local",
    pytest.param("pgvector", marks=pytest.mark.extra("services", "postgres")),
    pytest.param("milvus", marks=pytest.mark.extra("services", "milvus")),
]


@pytest.fixture(scope="session")
def milvus_address(tmp_path_factory):
    with services.milvus(tmp_path_factory.mktemp("milvus")) as address:
        yield address


@pytest.fixture(params=HOSTS)
def host_opener(request, tmp_path):
    """A function that opens the index host of this test, again and again."""
    local = request.param == "local"
    if not local:
        server = {"pgvector": "postgres_address", "milvus": "milvus_address"}[request.param]
        address = request.getfixturevalue(server)
    name, opened = f"test{next(_NUMBERS)}", []

    def open_again(name=name):
        place = str(tmp_path / name) if local else address
        opened.append(open_host(place, name=name, create=True, seconds=0.0))
        return opened[-1]

    open_again.address, open_again.name = str(tmp_path / name) if local else address, name
    open_again.kind = request.param
    yield open_again
    for each in opened:
        each.close()
