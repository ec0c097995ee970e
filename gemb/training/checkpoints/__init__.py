"""The state of a run on disk, and models made from it."""
