"""Near-duplicates among texts: neighbours by embedding that are confirmed by their words.

Cosine alone is not enough: "capital of Peru" and "capital of Honduras" are nearer to each
other than a sentence and its copy with one odd word. So the embedding proposes, the words decide:
1. most words are common to both (`surface`), and the others are in one place, unless the cosine
   is very high;
2. numbers, signs, units, operators and single letters are the same in both (`texts.marks`), and no
   "not" is on one side alone;
3. the words that differ do not fill a slot that three or more texts fill, each with its own:
   "of or relating to _" is a template;
4. in a text too short for 1, one word of three or more may differ, unless the corpus is written in
   templates: then another word in a short text makes another text.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.curation import nearest
from gemb.curation.chunks import Chunks, Piece
from gemb.curation.duplicates.texts import marks, words
from gemb.data.sources.records import digest
from gemb.search import Searcher

VERSION = 3
SHORT = ("auto", "merge", "keep")
_SHORTEST = 3  # words of a text that is a near-duplicate with one of them changed
_TEMPLATES = 0.1  # share of the pairs worded alike that fill templates: beyond, "auto" is "keep"
_SURE = 0.95  # cosine from which words may differ in several places
_NEGATIONS = frozenset(["not", "no", "non", "never", "without"])
_SLOT = 2  # texts that may share a slot: a text and one copy of it
_CHUNK = 4096


@dataclass(frozen=True)
class Likeness:
    """When two texts count as near-duplicates.

    Attributes:
        similarity: the least cosine.
        surface: the least share of words in common, of the longer text's: by default one word of
            seven may differ. 0 goes by the embedding alone, and then `similarity` should be 0.95
            or so.
        short: what becomes of texts that differ in one word and that are too short for `surface`:
            "merge", "keep", or "auto", as the other texts decide.
        neighbours: how many neighbours of each text are looked at.

    Raises:
        UserError: for a setting outside of its range.
    """

    similarity: float = 0.3
    surface: float = 0.85
    short: str = "auto"
    neighbours: int = 10

    def __post_init__(self):
        if not -1 <= self.similarity <= 1 or not 0 <= self.surface <= 1:
            raise UserError(
                "expected a similarity of -1 to 1 and a surface of 0 to 1, got "
                f"{self.similarity} and {self.surface}"
            )
        if self.short not in SHORT:
            raise UserError(f"short: expected one of {', '.join(SHORT)}, got {self.short!r}")
        if self.neighbours < 1:
            raise UserError(f"neighbours: expected 1 or more, got {self.neighbours}")


DEFAULT = Likeness()


class Near(NamedTuple):
    """What was found.

    Attributes:
        edges: [edges, 2] numbers of near-duplicates.
        scores: [edges] their cosines.
        proposed: cosines of some of the pairs that the embedding proposed.
        counts: how many were proposed, and why others fell.
    """

    edges: np.ndarray
    scores: np.ndarray
    proposed: list[float]
    counts: dict[str, int]


def near_duplicates(
    texts: Sequence[str],
    vectors: np.ndarray,
    work: Path,
    *,
    key: str,
    likeness: Likeness = DEFAULT,
    search: str = "auto",
    progress: bool = True,
) -> Near:
    """Finds near-duplicates among distinct texts.

    Args:
        texts: by number.
        vectors: [texts, dim] of unit length.
        work: folder for what a killed run leaves.
        key: identifies texts and vectors.
        likeness: when two texts count as near-duplicates.
        search: "auto", "exact" or "scann".
        progress: whether to show a bar.

    Raises:
        UserError: an unknown search, or unusable vectors.
    """
    similarity, surface, neighbours = likeness.similarity, likeness.surface, likeness.neighbours
    k = min(neighbours + 1, len(texts))
    searcher = nearest.searcher(vectors, search, work, key=key[:16], k=k, target=None)
    settings = (VERSION, similarity, surface, neighbours, search, len(texts))
    chunks = Chunks(work / f"near-{digest(key, repr(settings))[:16]}")
    judge = _Judge(texts, vectors, searcher, k, similarity, surface)
    notes = chunks.run(len(texts), _CHUNK, judge.look, "compare" if progress else "")
    found = {(e[0], e[1]): e for part in notes for e in part["edges"]}
    counts = {name: sum(part[name] for part in notes) for name in ("compared", "worded_alike")}
    kept = _told_apart(list(found.values()), likeness.short) if surface else list(found.values())
    counts["told_apart_by_templates"] = len(found) - len(kept)
    counts["short"] = sum(edge[5] for edge in kept)
    edges = np.array([edge[:2] for edge in kept], np.int64).reshape(-1, 2)
    proposed = [score for part in notes for score in part["sample"]]
    return Near(edges, np.array([edge[2] for edge in kept]), proposed, counts)


def _told_apart(edges: list, short: str) -> list:
    """The edges without those between texts that fill a template, by rules 3 and 4."""

    def without_templates(edges: list) -> list:
        slots = defaultdict(set)
        for _, _, _, slot, fillers, _ in edges:
            slots[slot].update(fillers)
        return [edge for edge in edges if len(slots[edge[3]]) <= _SLOT]

    kept = without_templates(edges)
    written_in_templates = len(edges) - len(kept) > _TEMPLATES * len(edges)
    if short == "keep" or (short == "auto" and written_in_templates):
        kept = without_templates([edge for edge in edges if not edge[5]])
    return kept


class _Judge:
    """The neighbours of one chunk of texts, and which of them are worded alike."""

    def __init__(
        self,
        texts: Sequence[str],
        vectors: np.ndarray,
        searcher: Searcher,
        k: int,
        similarity: float,
        surface: float,
    ):
        self._texts, self._vectors, self._searcher, self._k = texts, vectors, searcher, k
        self._similarity, self._surface = similarity, surface

    def look(self, start: int, stop: int) -> Piece:
        hits = self._searcher.search(np.asarray(self._vectors[start:stop], np.float32), self._k)
        near = (hits.scores >= self._similarity) & (hits.indices >= 0)
        edges, sample, proposed, known = [], [], 0, {}
        for i, column in zip(*np.nonzero(near), strict=True):
            a, b = sorted((start + int(i), int(hits.indices[i, column])))
            if a == b:
                continue
            proposed += 1
            score = round(float(hits.scores[i, column]), 6)
            if proposed % 10 == 1:
                sample.append(score)
            slot = self._slot(a, b, score, known)
            if slot:
                edges.append([a, b, score, *slot])
        notes = {"edges": edges, "compared": proposed, "worded_alike": len(edges)}
        return Piece({}, notes | {"sample": sample[:400]})

    def _slot(self, a: int, b: int, score: float, known: dict):
        if not self._surface:
            return "", [], False
        for row in (a, b):
            if row not in known:
                known[row] = words(self._texts[row]), marks(self._texts[row])
        (one, mark), (other, another) = known[a], known[b]
        return slot_of(one, other, self._surface, score) if mark == another else None


def slot_of(
    a: list[str], b: list[str], surface: float, score: float
) -> tuple[str, list[str], bool] | None:
    """Where two texts differ, if they are worded alike.

    Args:
        a: words of one text.
        b: words of the other.
        surface: the least share of words in common.
        score: their cosine.

    Returns:
        A hash of the words around the difference, the two texts' words in it, and whether one word
        differs of texts too short for `surface`; None where too few words are common, or one of the
        rules 1 and 2 above is broken.

    Example:
        >>> one, other = "a city in Ohio on the lake", "a city in Iowa on the lake"
        >>> slot_of(one.split(), other.split(), 0.8, score=0.7)[1]
        ['Ohio', 'Iowa']
        >>> one, other = "born in March 1808 in Rome", "born in March 1797 in Rome"
        >>> slot_of(one.split(), other.split(), 0.8, score=0.9)
    """
    left, right = Counter(a), Counter(b)
    longer, shorter = max(len(a), len(b)), min(len(a), len(b))
    common = (left & right).total()
    short = common < surface * longer
    if short and (longer - common > 1 or shorter < _SHORTEST):
        return None
    if any(map(_is_number, left - right)) and any(map(_is_number, right - left)):
        return None
    if _NEGATIONS & (left.keys() ^ right.keys()):
        return None
    before = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    rest = shorter - before
    after = next((i for i in range(rest) if a[-1 - i] != b[-1 - i]), rest)
    if longer - before - after > max(1, (1 - surface) * longer) and score < _SURE:
        return None
    around = digest(" ".join(a[:before]), " ".join(a[len(a) - after :]))
    return around, [" ".join(text[before : len(text) - after]) for text in (a, b)], short


def _is_number(word: str) -> bool:
    return any(character.isdigit() for character in word)
