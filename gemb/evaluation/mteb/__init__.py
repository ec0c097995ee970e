"""The benchmark library mteb run on gemb models: adapter, runs, local data (extra `mteb`)."""

from gemb.evaluation.mteb.encoder import MtebEncoder

__all__ = ["MtebEncoder"]
