"""Releases: one version with its model, its vectors and its index, made, checked and published.

`refresh` encodes what changed since the newest version of a model; `release` runs every stage from
training to publishing. A version's folder has, next to what `gemb.store` writes,

    SET/hashes.npy    [rows, 16] uint8 content keys of each set of vectors
    index/            of the documents, as `gemb index` writes it
    corpus/           corpus.jsonl, the documents as they were
    model/            that encodes queries

so that a release that is rolled back to answers with its own texts, by its own model.
"""
