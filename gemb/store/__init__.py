"""Vectors at rest: folders of one model's vectors, and versions of them that others read.

`write_embeddings` writes vectors that are at hand, `encode_into` those of texts, step by step, so
that a killed process can resume; `encoded` does the same in a cache of many such folders.
`read_embeddings` reads any of them. `VersionStore` keeps versions on disk, of which one is live;
`gemb.store.keyed` keeps vectors by id. What a searcher or a teacher makes of vectors does not
belong here.
"""

from gemb.store.bulk import Encoder, encode_into, encoded
from gemb.store.disk import Follower, Opened, VersionStore
from gemb.store.embeddings import Embeddings, read_about, read_embeddings, write_embeddings
from gemb.store.opening import open_store

__all__ = [
    "Embeddings",
    "Encoder",
    "Follower",
    "Opened",
    "VersionStore",
    "encode_into",
    "encoded",
    "open_store",
    "read_about",
    "read_embeddings",
    "write_embeddings",
]
