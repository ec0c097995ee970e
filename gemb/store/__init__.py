"""Vectors at rest: one format of folder, written whole or step by step, read for its own model.

`write_embeddings` writes vectors that are at hand, `encode_into` those of texts, step by step, so
that a killed process goes on; `encoded` does the same in a cache of many such folders.
`read_embeddings` reads any of them. What a searcher or a teacher makes of vectors does not belong
here.
"""

from gemb.store.bulk import Encoder, encode_into, encoded
from gemb.store.embeddings import Embeddings, read_about, read_embeddings, write_embeddings

__all__ = [
    "Embeddings",
    "Encoder",
    "encode_into",
    "encoded",
    "read_about",
    "read_embeddings",
    "write_embeddings",
]
