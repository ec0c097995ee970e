"""Opens any store, on disk or by its address, and index hosts."""

from pathlib import Path

from gemb.checks import UserError
from gemb.store.disk import VersionStore
from gemb.store.hosts import IndexHost, is_host_address, open_host
from gemb.store.keyed import KeyedStore, is_address, open_keyed


def open_store(place: str, name: str = "vectors") -> VersionStore | KeyedStore | IndexHost:
    """Opens an existing store; all kinds list, roll back, check and retire versions.

    Args:
        place: a folder, or the address of a key store or of an index host.
        name: of it on its server.

    Raises:
        MissingExtra: the server's client is not installed.
        UserError: there is no store, or it does not answer.
    """
    if is_host_address(place):
        return open_host(place, name=name)
    if not is_address(place):
        return VersionStore(place)
    file = place.removeprefix("sqlite:")
    if file != place and not Path(file).exists():  # opening it would make it
        raise UserError(f"{place}: there is no such file")
    return open_keyed(place, name=name)


def index_of(folder: str | Path) -> Path:
    """The index folder that a place means: itself, or of a store of releases the live version's.

    Raises:
        UserError: nothing is published in the store.
    """
    folder = Path(folder)
    if not (folder / "store.json").exists():
        return folder
    return VersionStore(folder).open(sets=()).folder / "index"
