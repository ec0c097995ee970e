"""Vectors by id in SQLite, Redis or PostgreSQL: several generations, one of them live.

A reader asks for the newest vector of an id among the generations that the other side has, see
`gemb.store.chain`, and gets it in one round trip. The store on disk stays the original: a key store
can be loaded from it again.
"""

from gemb.store.keyed.opening import is_address, open_keyed
from gemb.store.keyed.protocol import Found, HostError, KeyedVectors, Rows
from gemb.store.keyed.store import KeyedStore

__all__ = [
    "Found",
    "HostError",
    "KeyedStore",
    "KeyedVectors",
    "Rows",
    "is_address",
    "open_keyed",
]
