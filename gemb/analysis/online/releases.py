"""Whether the offline metric predicts the online one, over releases that were tested online."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemb.checks import UserError
from gemb.metrics.correlation import spearman
from gemb.metrics.online import sign_test


def offline_against_online(rows: Sequence[Mapping]) -> dict[str, Any]:
    """Compares changes of the offline metric with differences seen online.

    Args:
        rows: one per release: "offline" and "online", each the change against the release before.

    Returns:
        "releases", "same_sign" (a share), "p" (that signs agree by chance), "spearman".

    Raises:
        UserError: fewer than three releases, or a row without both numbers.

    Example:
        >>> rows = [{"offline": 1, "online": 2}, {"offline": -1, "online": -3}]
        >>> offline_against_online([*rows, {"offline": 2, "online": 1}])["same_sign"]
        1.0
    """
    if len(rows) < 3:
        raise UserError(f"releases: {len(rows)} are too few; collect three or more")
    for number, row in enumerate(rows, 1):
        if not all(isinstance(row.get(name), int | float) for name in ("offline", "online")):
            raise UserError(f"releases: row {number}: expected numbers 'offline' and 'online'")
    offline, online = (
        np.array([row[name] for row in rows], float) for name in ("offline", "online")
    )
    same = int(np.sum(np.sign(offline) == np.sign(online)))
    return {
        "releases": len(rows),
        "same_sign": same / len(rows),
        "p": sign_test(same, len(rows) - same),
        "spearman": float(spearman(offline, online)),
    }
