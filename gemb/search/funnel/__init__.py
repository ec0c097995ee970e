"""Funnel search: a pass over narrow vectors, then ever wider re-ranking of ever shorter lists.

`cascade` searches, with its first pass in `first_stage`; `policy` describes a cascade and its cost;
`calibration` finds the cheapest policy for a target; `rotation` makes prefixes of any vectors
useful.
"""
