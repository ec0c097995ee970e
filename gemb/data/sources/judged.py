"""Training pairs from a BEIR folder: each judged (query, document) of a split is a record.

Only ids and judgements are held in memory; texts are read from disk.
"""

from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.data.preprocess.texts import string_of, titled_text
from gemb.data.sources import records
from gemb.data.sources.lines import Lines, json_lines
from gemb.data.sources.numbered import numbered_lines


class Judged:
    """The judged pairs of a BEIR folder: {"query", "document", "score"}.

    Args:
        folder: holds corpus.jsonl, queries.jsonl (or .jsonl.gz) and qrels/<split>.tsv.
        split: which judgements.
        least_score: judgements below are left out; 1 leaves out what is judged not relevant.

    Raises:
        UserError: for a missing file. What is wrong with a row (an unknown id, an id that occurs
            twice) is reported when that row is read.
    """

    def __init__(self, folder: str | Path, split: str = "train", least_score: int = 1):
        home = Path(folder).expanduser()
        corpus, queries = (_table(home, name) for name in ("corpus", "queries"))
        self._sides = {"query": _ids(queries), "document": _ids(corpus)}
        self._texts = {"query": queries, "document": corpus}
        self._qrels = home / "qrels" / f"{split}.tsv"
        [path] = records.found(self._qrels)
        self._rows = _judgements(path, least_score)
        if not self._rows:
            raise UserError(f"{path}: holds no judgement of at least {least_score}")
        parts = (corpus.fingerprint, queries.fingerprint, records.content_digest(path))
        self.fingerprint = records.digest(*parts, str(least_score))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict:
        _, *ids, score = self._rows[row]
        if len(ids) != 2:
            raise ValueError("expected query-id, corpus-id and score between tabs")
        if not score.removeprefix("-").isdecimal():
            raise ValueError(f"the score {score!r} is no integer")
        made: dict = {"score": int(score)}
        for side, name in zip(("query", "document"), ids, strict=True):
            place = self._sides[side].get(name)
            if place is None:
                raise ValueError(f"no {side} has the _id {name!r}")
            if place < 0:
                raise ValueError(f"the {side}'s _id {name!r} occurs twice")
            found = self._texts[side][place]
            made[side] = titled_text(found) if side == "document" else string_of(found, "text")
        return made

    def where(self, row: int) -> str:
        return f"{self._qrels}:{self._rows[row][0]}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        judged = [self._rows[int(row)][1:3] for row in rows]
        return sum(
            self._texts[side].sizes([self._sides[side][names[part]] for names in judged])
            for part, side in enumerate(("query", "document"))
        )


def _table(folder: Path, name: str) -> Lines:
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if path.is_file():
            return json_lines(path)
    raise UserError(f"{folder}: no {name}.jsonl in it; expected a folder in BEIR's layout")


def _ids(rows: Lines) -> dict[str, int]:
    """The position of each id; -1 for an id that occurs twice."""
    places: dict[str, int] = {}
    for place in range(len(rows)):
        try:
            name = rows[place].get("_id")
        except ValueError as error:
            raise UserError(f"{rows.where(place)}: {error}") from None
        if isinstance(name, str):
            places[name] = -1 if name in places else place
    return places


def _judgements(path: Path, least: int) -> list[tuple]:
    kept = []
    for where, line in numbered_lines(path):
        *ids, score = line.split("\t")
        if score == "score":
            continue
        if not score.removeprefix("-").isdecimal() or int(score) >= least:
            kept.append((int(where.rpartition(":")[2]), *ids, score))
    return kept
