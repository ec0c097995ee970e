"""The inputs of mining and filtering: pairs, documents, and the vectors of both."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.curation import inputs
from gemb.curation.tables import Documents, PairTable
from gemb.inference.encoded_once import similarity_of
from gemb.metrics.similarity import check_product
from gemb.store import Encoder, encoded


class Prepared(NamedTuple):
    """Pairs, the documents to search, and their vectors, mapped from disk."""

    pairs: PairTable
    documents: Documents
    query_vectors: np.ndarray
    document_vectors: np.ndarray


def read(
    pairs: str | Path,
    corpus: str | Path = "",
    *,
    split: str = "train",
    query: str = "query",
    document: str = "document",
    max_bad_fraction: float = 0.0,
) -> tuple[PairTable, Documents]:
    """Reads pairs and the documents to search.

    Args:
        pairs: a BEIR folder, or a file of pairs.
        corpus: more documents; default a BEIR folder's own corpus, else only the pairs' documents.
        split: the split of a BEIR folder.
        query: the column of the query.
        document: the column of the document.
        max_bad_fraction: how many records of either may be broken.

    Raises:
        UserError: naming file and line.
    """
    limit = {"max_bad_fraction": max_bad_fraction}
    table = inputs.read_pairs(pairs, split=split, query=query, document=document, **limit)
    place = corpus or (pairs if inputs.is_beir(pairs) else "")
    return table, Documents(table, inputs.read_corpus(place, **limit) if place else None)


def encode(
    pairs: PairTable,
    documents: Documents,
    encoder: Encoder,
    output: str | Path,
    *,
    dtype: str = "float32",
    progress: bool = True,
) -> Prepared:
    """The vectors of pairs and documents, saved in OUTPUT/work under the model's fingerprint.

    Their inner products are the model's similarity: of a model that compares by cosine and does not
    give unit vectors they are made unit length.

    Raises:
        UserError: a text without a usable vector, or a similarity that no inner product is.
    """
    similarity = check_product(similarity_of(encoder), "mining and filtering")
    long = similarity == "cosine" and not getattr(encoder, "normalized", True)
    work, options = Path(output) / "work", {"dtype": dtype, "progress": progress, "unit": long}
    content = pairs.fingerprint
    asked = encoded(encoder, pairs.queries, work, kind="query", content=content, **options)
    content = documents.fingerprint
    found = encoded(encoder, documents, work, kind="document", content=content, **options)
    return Prepared(pairs, documents, asked, found)
