"""Team-draft interleaving: one ranking of two, whose clicks say which is better."""

import random
from collections.abc import Sequence

TEAMS = ("a", "b")


def team_draft(
    first: Sequence[str], second: Sequence[str], count: int, draw: random.Random
) -> list[tuple[str, str]]:
    """Joins two rankings.

    Round by round a coin decides which ranking picks first; each adds its best document that is
    not there yet.

    Args:
        first, second: ids, best first; each without repeats.
        count: documents wanted.
        draw: decides the order of picking.

    Returns:
        (id, "a" or "b"), at most `count` of them.

    Example:
        >>> team_draft(["x", "y"], ["y", "z"], 3, random.Random(1))
        [('x', 'a'), ('y', 'b'), ('z', 'b')]

    Reference: Radlinski, Kurup and Joachims, How does clickthrough data reflect retrieval quality?,
        2008.
    """
    rankings, placed, joined = {"a": list(first), "b": list(second)}, set(), []
    sizes = dict.fromkeys(TEAMS, 0)
    while len(joined) < count:
        left = {
            team: next((each for each in rankings[team] if each not in placed), None)
            for team in TEAMS
        }
        able = [team for team in TEAMS if left[team] is not None]
        if not able:
            break
        fewest = min(sizes[team] for team in able)
        team = draw.choice([team for team in able if sizes[team] == fewest])
        joined.append((left[team], team))
        placed.add(left[team])
        sizes[team] += 1
    return joined
