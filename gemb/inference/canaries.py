"""Canaries: fixed texts with the vectors that a model gave them when it was saved.

A missing prompt, another truncation, pooling, cleaning or version moves vectors in ways that tests
of distributions see late or never; a few canaries show it at once. float16 and int8 leave cosines
above .9999. A folder has canaries.json with the texts and vectors.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_file
from gemb.inference.embedder import Embedder

FILE = "canaries.json"
ALARM, NOTICE = 0.999, 0.9999  # cosines
_LONG = (
    "The committee met on {day} to discuss the {thing}. It had been postponed twice, because the "
    "records of the {thing} were kept in three places and none of them agreed with the others. "
    "The first speaker described how the {thing} came about: what was known, what had only been "
    "assumed, and which of the two had been written down. The second speaker compared it with "
    "the year before and found that costs had fallen by a fifth, while complaints had doubled. "
    "There was a long discussion about the order in which repairs should be made, about who "
    "should pay for them, and about whether the {thing} was needed at all. In the end the members "
    "agreed on a list of eleven steps, the last of which was to meet again and to read the list "
    "once more. A summary was sent to all who had asked for it, together with a map, two tables "
    "and a photograph of the {thing} taken from the north side, in which the damage of the "
    "winter can be seen clearly. The secretary added that the {thing} would stay closed on {day}."
)
_CODE = (
    "def {name}(items, key=None, reverse=False):\n"
    '    """Returns the items of a list without those that came before."""\n'
    "    seen, kept = set(), []\n"
    "    for item in reversed(items) if reverse else items:\n"
    "        mark = item if key is None else key(item)\n"
    "        if mark in seen:\n            continue\n"
    "        seen.add(mark)\n        kept.append(item)\n"
    "    if reverse:\n        kept.reverse()\n"
    "    logging.debug('%d of %d items of {name} were kept', len(kept), len(items))\n"
    "    return kept\n\n\n"
    "class {name}Test(unittest.TestCase):\n"
    "    def test_order(self):\n        self.assertEqual({name}([3, 1, 3, 2]), [3, 1, 2])\n"
    "    def test_key(self):\n        self.assertEqual({name}(['a', 'A'], str.lower), ['a'])\n"
)
_SHORT = (
    "how do I sort a list of dictionaries by two keys",
    "What is the capital of Peru?",
    "SHIPPING COSTS TO NORWAY",
    "d\u00e9j\u00e0 vu, na\u00efve fa\u00e7ade, \u00dcbergr\u00f6\u00dfe",
    "\u0413\u0434\u0435 \u043c\u0435\u0442\u0440\u043e?",
    "\u6771\u4eac\u306e\u5929\u6c17\u306f\u3069\u3046\u3067\u3059\u304b",
    "price: $1,299.00 (incl. 19% VAT), order #A-1047",
    "e-mail: first.last@example.com; see https://example.com/a?b=c&d=e",
    "return x if x > 0 else -x",
    "SELECT name, COUNT(*) FROM orders GROUP BY name HAVING COUNT(*) > 3;",
    "<p>Hello &amp; <b>welcome</b></p>",
    "yes",
    "",
    "   two  spaces\tand a tab  ",
    "A man is playing a guitar.",
    "the the the the the the",
)
_THINGS = ("old bridge", "reading room", "harbour wall", "data centre", "orchard", "night train")
_NAMES = ("unique_items", "first_of_each", "without_copies", "drop_repeats")


def texts() -> list[str]:
    """The 32 texts: half of them longer than 128 tokens; cases, accents, code, an empty one."""
    days = ("Monday", "Tuesday", "Friday")
    long = [_LONG.format(thing=thing, day=days[i % 3]) for i, thing in enumerate(_THINGS)]
    long += [_LONG.format(thing=thing, day="Sunday").upper() for thing in _THINGS[:2]]
    code = [_CODE.format(name=name) for name in _NAMES]
    mixed = [f"<div>{text}</div>" for text in long[:2]]
    mixed += [" ".join([_SHORT[3]] * 40), "\n".join([*long[:6], *code])]
    return [*_SHORT, *long, *code, *mixed]


class CanaryCheck(NamedTuple):
    """How canaries were found.

    Attributes:
        cosine: the smallest cosine with the stored vectors.
        text: the canary with that cosine.
        below: how many are below .999.
        count: of canaries.
    """

    cosine: float
    text: str
    below: int
    count: int

    @property
    def broken(self) -> bool:
        """Whether the model computes something else."""
        return self.below > 0

    @property
    def warned(self) -> bool:
        """Whether the precision or the kernels changed."""
        return not self.broken and self.cosine < NOTICE

    def __str__(self) -> str:
        state = "broken" if self.broken else "of another precision" if self.warned else "unchanged"
        shown = f", worst {self.text[:40]!r}" if self.broken or self.warned else ""
        return (
            f"canaries {state}: {self.below} of {self.count} below {ALARM}, least cosine "
            f"{self.cosine:.6f}{shown}"
        )


class Canaries(NamedTuple):
    """Texts with the vectors of one model.

    Attributes:
        fingerprint: of the model.
        texts: the texts.
        vectors: [texts, dim] float32.
    """

    fingerprint: str
    texts: tuple[str, ...]
    vectors: np.ndarray

    @classmethod
    def of(cls, embedder: Embedder) -> "Canaries":
        """Encodes the canaries: the short texts as queries, the others as documents."""
        return cls.made(embedder.fingerprint, embedder.encode)

    @classmethod
    def made(cls, fingerprint: str, encode: Callable[..., np.ndarray]) -> "Canaries":
        """The canaries by a function (texts, kind=side) -> [texts, dim]."""
        chosen = tuple(texts())
        return cls(fingerprint, chosen, np.float32(_encoded(encode, chosen)))

    def check(self, encode: Callable[..., np.ndarray]) -> CanaryCheck:
        """Encodes the canaries again and compares.

        A vector that is zero on both sides is unchanged.

        Args:
            encode: (texts, kind=side) -> [texts, dim], such as `gemb.Embedder.encode`.
        """
        now = np.float64(_encoded(encode, self.texts))
        if now.shape != self.vectors.shape:
            return CanaryCheck(-1.0, self.texts[0], len(self.texts), len(self.texts))
        lengths = np.linalg.norm(now, axis=1) * np.linalg.norm(self.vectors, axis=1)
        dots = np.einsum("nd,nd->n", now, np.float64(self.vectors))
        both = ~(now.any(axis=1) | self.vectors.any(axis=1))
        cosines = np.where(both, 1.0, dots / np.where(lengths > 0, lengths, 1))
        cosines = np.where(np.isfinite(cosines), cosines, -1.0)
        worst = int(np.argmin(cosines))
        below = int(np.sum(cosines < ALARM))
        return CanaryCheck(float(cosines[worst]), self.texts[worst], below, len(cosines))

    def write(self, folder: str | Path) -> None:
        """Writes canaries.json into a folder.

        Raises:
            UserError: it cannot be written.
        """
        rows = [[float(f"{value:.7g}") for value in row] for row in self.vectors.tolist()]
        tree = {"fingerprint": self.fingerprint, "texts": self.texts, "vectors": rows}
        with atomic_file(Path(folder) / FILE) as temporary:
            temporary.write_text(json.dumps(tree) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> "Canaries | None":
        """The canaries of a folder; None if it has none.

        Raises:
            UserError: a broken file.
        """
        path = Path(folder) / FILE
        if not path.exists():
            return None
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            vectors = np.array(tree["vectors"], np.float32)
            if vectors.ndim != 2 or len(vectors) != len(tree["texts"]):
                raise ValueError("texts and vectors differ in number")
            return cls(str(tree["fingerprint"]), tuple(tree["texts"]), vectors)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); write the canaries again") from None


def _encoded(encode: Callable[..., np.ndarray], chosen: Sequence[str]) -> np.ndarray:
    """A missing prompt of either side shows: one half is encoded by each."""
    short, rest = list(chosen[: len(_SHORT)]), list(chosen[len(_SHORT) :])
    return np.concatenate([encode(short, kind="query"), encode(rest, kind="document")])


def write_canaries(folder: str | Path) -> int:
    """Encodes the canaries with the model of a folder and keeps them there.

    Args:
        folder: of a model.

    Returns:
        How many there are.

    Raises:
        UserError: the model cannot be loaded, or the file cannot be written.
    """
    made = Canaries.of(Embedder.load(str(folder)))
    made.write(folder)
    return len(made.texts)


def write_canaries_if_text(folder: str | Path) -> int:
    """Like `write_canaries`, for a model that reads texts and has none yet; 0 for any other.

    Raises:
        UserError: the model cannot be loaded, or the file cannot be written.
    """
    if (Path(folder) / FILE).exists():
        return 0
    embedder = Embedder.load(str(folder))
    towers = embedder.model.towers.values()
    if any(tower.spec.encoder.modality != "text" for tower in towers):
        return 0
    made = Canaries.of(embedder)
    made.write(folder)
    return len(made.texts)


def check_canaries(folder: str | Path, embedder: Embedder | None = None) -> CanaryCheck:
    """Compares the canaries of a model folder with what its model gives now.

    Args:
        folder: with canaries.json.
        embedder: the model as it runs; default loaded from the folder.

    Raises:
        UserError: no canaries there.
    """
    known = Canaries.read(folder)
    if known is None:
        raise UserError(f"{folder}: has no {FILE}; write it with `gemb check --write_canaries`")
    return known.check((embedder or Embedder.load(str(folder))).encode)
