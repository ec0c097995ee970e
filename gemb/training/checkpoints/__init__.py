"""Checkpoints of a run, and models made from them."""
