"""Opens an index host by its address."""

from gemb.store.hosts.local import LocalHost
from gemb.store.hosts.protocol import IndexHost


def open_host(place: str, *, create: bool = False) -> IndexHost:
    """Opens an index host.

    Args:
        place: a folder.
        create: whether to make it where it is missing.

    Raises:
        UserError: there is none.
    """
    return LocalHost(place, create=create)
