"""Indexes of documents by id, in versions: in a folder, in PostgreSQL, or in Milvus.

`open_host` opens one by its address. Every search names the space of its queries, which is
compared with what is stored next to the vectors. Key stores, of vectors by id without search, are
in `gemb.store.keyed`.
"""

from gemb.store.hosts.inputs import exact_answers
from gemb.store.hosts.local import LocalHost
from gemb.store.hosts.opening import is_host_address, open_host
from gemb.store.hosts.protocol import Health, Hits, IndexHost, OtherDocuments, Settings

__all__ = [
    "Health",
    "Hits",
    "IndexHost",
    "LocalHost",
    "OtherDocuments",
    "Settings",
    "exact_answers",
    "is_host_address",
    "open_host",
]
