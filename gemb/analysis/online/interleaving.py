"""The verdict on two rankings that were shown as one list."""

from collections.abc import Mapping, Sequence
from typing import Any

from gemb.analysis.online import logs
from gemb.checks import UserError
from gemb.metrics import online


def analyse_interleaving(
    exposures: Sequence[Mapping],
    outcomes: Sequence[Mapping],
    *,
    experiment: str = "",
    control: str = "",
    alpha: float = 0.05,
) -> dict[str, Any]:
    """Credits each chosen hit to the ranking that gave it, and compares wins over units.

    The log is read once, at the planned end: units, not requests, are independent.

    Args:
        exposures: rows with "hits" and "teams", the name of the ranking that gave each hit.
        outcomes: rows with "request_id" and "hit", what was chosen.
        experiment: its name, if the log has several.
        control: name of the ranking that is in use; default the first in the alphabet.
        alpha: two-sided.

    Returns:
        "verdict" ("better", "worse" or "no difference") of the other ranking, "wins", "losses" and
        "ties" of units, "p" of the sign test, "teams".

    Raises:
        UserError: rows without teams, or not two of them.
    """
    rows = [row for row in logs.choose_experiment(exposures, experiment) if row.get("teams")]
    teams = sorted({team for row in rows for team in row["teams"]})
    if len(teams) != 2:
        raise UserError(f"exposures: expected hits of two rankings in 'teams', got {teams}")
    first = control or teams[0]
    if first not in teams:
        raise UserError(f"--control: no ranking {first!r}; there are {', '.join(teams)}")
    chosen: dict[str, list] = {}
    for row in outcomes:
        if row.get("hit") is not None:
            chosen.setdefault(row.get("request_id"), []).append(row["hit"])
    score: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        hits = list(row.get("hits", ()))
        if len(hits) != len(row["teams"]):
            raise UserError(f"exposures: row {number}: {len(hits)} hits, {len(row['teams'])} teams")
        sides = [int(team != first) for team in row["teams"]]
        places = [hits.index(hit) for hit in chosen.get(row["request_id"], ()) if hit in hits]
        unit = str(row.get("unit", row["request_id"]))
        score[unit] = score.get(unit, 0) + online.interleaving_credit(sides, places)
    wins, losses = sum(v > 0 for v in score.values()), sum(v < 0 for v in score.values())
    p = online.sign_test(wins, losses)
    verdict = "no difference" if p >= alpha else "better" if wins > losses else "worse"
    other = next(team for team in teams if team != first)
    ties = len(score) - wins - losses
    found = {"wins": wins, "losses": losses, "ties": ties, "p": p}
    return {"verdict": verdict, "teams": [first, other], **found}
