"""What is popular: the last retriever, for users and items that no version knows.

The list is `popular.jsonl` in the folder of a version, or what `gemb serve --popular` names: such a
file, {"id": ..., "score": ...} on each line, or a recommender's folder, whose items are counted by
the users who have them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.recommendation import folder as recommenders
from gemb.search import Hits
from gemb.serving.retrieval import POPULAR, Corpus, Step, fallbacks

FILE = "popular.jsonl"
Scores = Mapping[str, float]


class Popular:
    """A searcher that is asked nothing: the same ranking for everybody.

    Args:
        scores: [documents] of the rows of a corpus; nan for documents that are never given.
    """

    dim, reads = 0, "nothing"

    def __init__(self, scores: np.ndarray):
        order = np.argsort(-scores, kind="stable")
        self._rows = order[np.isfinite(scores[order])]
        self._scores = scores[self._rows].astype(np.float32)
        self.documents = len(self._rows)

    def search(self, allowed: np.ndarray | None, k: int) -> Hits:
        """The k best.

        Args:
            allowed: rows to choose from; None for all.
            k: hits.
        """
        kept = slice(None) if allowed is None else np.isin(self._rows, allowed)
        return Hits(self._scores[kept][None, :k], self._rows[kept][None, :k])


def read_popular(place: str | Path) -> Scores:
    """Scores by id, in the order of the file.

    Args:
        place: a file of lines {"id", "score"}, or a recommender's folder.

    Raises:
        UserError: it is neither, or a line is broken.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        _, _, items, seen, _ = recommenders.read(path)
        counts = np.asarray(seen.sum(axis=0), np.float64).ravel()
        return {each: float(n) for each, n in zip(items.ids, counts, strict=True) if n}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: cannot be read ({error})") from None
    scores: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            name, score = str(row["id"]), float(row["score"])
        except (ValueError, KeyError, TypeError):
            name, score = "", np.nan
        if not name or name in scores or not np.isfinite(score):
            raise UserError(
                f'{place}:{number}: expected {{"id": ..., "score": ...}}, each id once and a '
                "finite score"
            )
        scores[name] = score
    if not scores:
        raise UserError(f"{place}: is empty")
    return scores


def others(step: Step | None, scores: Scores | None) -> dict[str, Step]:
    """What answers when no vectors do, in order: BM25 over the texts, then what is popular.

    Args:
        step: the newest version; None where there is none.
        scores: of ids; None where nothing is known. Ids that the version lacks are left out.
    """
    found = fallbacks(step) if step is not None else {}
    if not scores:
        return found
    corpus = step.corpus if step is not None and step.corpus.ids else Corpus(list(scores))
    rows = np.array([scores.get(each, np.nan) for each in corpus.ids])
    if np.isfinite(rows).any():
        vectors = step.vectors if step is not None else None
        found[POPULAR] = Step(corpus, Popular(rows), vectors=vectors)
    return found
