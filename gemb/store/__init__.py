"""Vectors at rest: fingerprints, and files of vectors that carry them."""
