"""Experiments on searches: who gets which arm, what was shown to whom, roll-outs, shadow traffic.

`arms` decides, without state, `exposures` writes what `gemb ab` reads, `rollout` widens a new
release and takes it back, `interleaving` mixes two rankings, `running` joins them to the server.
"""
