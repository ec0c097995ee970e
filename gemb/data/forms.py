"""Forms of pairs: how records become queries and documents. A task is a source and a form.

A form is an object with
    columns        the names it reads of a record;
    admit(record)  whether a record gives a pair; ValueError for one that is wrong;
    make(records, draw)   the texts of many records at once;
    in_batch, negatives   what it says about candidates, see `Texts`;
and, where it changes token ids, `corrupt`. Everything random comes from `draw(stream, columns)`,
which gives [records, columns] uniform numbers that belong to the records' places in the order.
Streams below 8 are the forms' own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.preprocess.sentences import split_sentences
from gemb.data.preprocess.spans import Draw, noise_mask, replace_spans
from gemb.data.preprocess.texts import pick, string_of, text_of, texts_of


class Texts(NamedTuple):
    """Texts of pairs.

    Attributes:
        query: one per pair.
        document: one per pair.
        negatives: hard negatives of each pair, none to `form.negatives` of them.
        scores: grades of the pairs, or numbers of labels; or None.
    """

    query: list[str]
    document: list[str]
    negatives: list[list[str]]
    scores: list[float] | None = None


def _has_text(self, record: dict) -> bool:
    return bool(text_of(record, "text"))


def _has_sentences(self, record: dict) -> bool:
    return len(split_sentences(text_of(record, "text"))) > 1


def _same_text_twice(self, records: Sequence[dict], draw: Draw) -> Texts:
    texts = [record["text"] for record in records]
    return Texts(texts, texts, [[] for _ in texts])


@dataclass(frozen=True)
class Pairs:
    """Supervised pairs: {"query", "document", "negatives"}.

    Where "document" is a list of texts they are all positives, and one is drawn each time.

    Attributes:
        negatives: hard negatives a query, drawn from the record's; fewer are filled up with masked
            documents.
        in_batch: whether documents of other pairs compete.
    """

    negatives: int = 0
    in_batch: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return ("query", "document", "negatives") if self.negatives else ("query", "document")

    def admit(self, record: dict) -> bool:
        query = text_of(record, "query")
        documents = texts_of(record, "document")
        if not documents:
            raise ValueError('the field "document" is an empty list')
        if query in documents:
            raise ValueError("the query equals its document")
        if self.negatives and query in texts_of(record, "negatives"):
            raise ValueError("the query equals one of its negatives")
        return True

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        drawn = draw(0, 1)[:, 0]
        documents = [pick(r["document"], u) for r, u in zip(records, drawn, strict=True)]
        return Texts([r["query"] for r in records], documents, self._negatives(records, draw))

    def _negatives(self, records: Sequence[dict], draw: Draw) -> list[list[str]]:
        if not self.negatives:
            return [[] for _ in records]
        found = [  # no other answer of the query is a negative
            [text for text in texts_of(record, "negatives") if text not in own]
            for record, own in ((record, texts_of(record, "document")) for record in records)
        ]
        keys = draw(1, max(map(len, found), default=0) or 1)
        chosen = [
            np.argsort(k[: len(f)])[: self.negatives] for k, f in zip(keys, found, strict=True)
        ]
        return [[f[i] for i in sorted(order)] for f, order in zip(found, chosen, strict=True)]


@dataclass(frozen=True)
class Graded:
    """Pairs with a grade: {"query", "document", "score"}; the grade goes to the field "scores".

    Attributes:
        low: the lowest grade there is; it becomes 0.
        high: the highest; it becomes 1.
    """

    low: float = 0.0
    high: float = 1.0
    negatives: int = field(default=0, init=False)
    in_batch: bool = field(default=True, init=False)
    columns = ("query", "document", "score")

    def __post_init__(self):
        if not self.low < self.high:
            raise UserError(f"low, high: expected low < high, got {self.low} and {self.high}")

    def admit(self, record: dict) -> bool:
        text_of(record, "query"), text_of(record, "document")
        score = self._score(record)
        if not self.low <= score <= self.high:
            raise ValueError(f"the score {score} is outside of {self.low} to {self.high}")
        return True

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        sides = [[record[name] for record in records] for name in ("query", "document")]
        scores = [(self._score(r) - self.low) / (self.high - self.low) for r in records]
        return Texts(*sides, [[] for _ in records], scores)

    @staticmethod
    def _score(record: dict) -> float:
        try:
            return float(record["score"])
        except (TypeError, ValueError):
            got = repr(record["score"])
            raise ValueError(f'the field "score" must be a number, got {got}') from None


@dataclass(frozen=True)
class Classification:
    """Classes as documents: {"text", "label"}; other classes are the hard negatives.

    Documents of other pairs do not compete (`in_batch` False): they may be of the same class.

    Attributes:
        negatives: other classes a text, drawn at random.
        labels: the text of each label; default the labels of the records themselves.
        in_batch: whether documents of other pairs compete all the same.
    """

    negatives: int = 7
    labels: Mapping[str, str] | None = None
    in_batch: bool = False
    columns = ("text", "label")
    seen: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.labels is not None:  # a label is a name or a number, in files as in configs
            by_name = {str(label): text for label, text in self.labels.items()}
            object.__setattr__(self, "labels", by_name)

    def admit(self, record: dict) -> bool:
        text_of(record, "text")
        label = record["label"]
        if not isinstance(label, str | int):
            raise ValueError(f'the field "label" must be a name or a number, got {label!r}')
        if self.labels is not None and str(label) not in self.labels:
            raise ValueError(f"the label {label!r} is none of `labels`")
        self.seen.setdefault(str(label), (self.labels or {}).get(str(label), str(label)))
        return True

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        names = sorted(self.labels or self.seen)
        texts = [(self.labels or self.seen)[name] for name in names]
        own = np.searchsorted(names, [str(record["label"]) for record in records])
        keys = draw(0, len(names))
        np.put_along_axis(keys, own[:, None], 2.0, axis=1)
        others = np.sort(np.argsort(keys, axis=1)[:, : min(self.negatives, len(names) - 1)], axis=1)
        negatives = [[texts[i] for i in row] for row in others]
        return Texts([r["text"] for r in records], [texts[i] for i in own], negatives)


@dataclass(frozen=True)
class SpanCorruption:
    """Two views of one text with different spans masked.

    A text longer than the view is cut: both views are of the same stretch, drawn each time.

    Attributes:
        density: masked tokens over all, see `gemb.data.preprocess.spans.noise_mask`.
        mean_length: tokens of a masked span on average.
        replace: "sentinel" puts one token in the place of a span, "drop" none.
        sentinels: names of the tokens that replace spans, the first span's first, the last again
            for further ones; default the tokenizer's mask token or `<extra_id_0>`.
    """

    density: float = 0.15
    mean_length: float = 3.0
    replace: str = "sentinel"
    sentinels: Sequence[str] = ()
    negatives: int = field(default=0, init=False)
    in_batch: bool = field(default=True, init=False)
    columns = ("text",)

    def __post_init__(self):
        if self.replace not in ("sentinel", "drop"):
            raise UserError(f"replace: expected 'sentinel' or 'drop', got {self.replace!r}")
        if not 0 < self.density < 1 or self.mean_length < 1:
            raise UserError(
                "SpanCorruption: expected 0 < density < 1 and mean_length >= 1, got "
                f"{self.density} and {self.mean_length}"
            )

    admit, make = _has_text, _same_text_twice

    def corrupt(
        self, ids: np.ndarray, lengths: np.ndarray, draw: Draw, sentinels: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """One view: (ids, lengths) end to end -> (ids, lengths)."""
        mask = noise_mask(lengths, draw, density=self.density, mean_length=self.mean_length)
        return replace_spans(ids, lengths, mask, sentinels if self.replace == "sentinel" else ())


@dataclass(frozen=True)
class Labelled:
    """Texts with one of some labels: {"text", "label"}; for class heads.

    The number of the label goes to the field "labels", see
    `gemb.training.objectives.classification`.

    Attributes:
        labels: all labels, in the order of the classes.
    """

    labels: Sequence[str] = ()
    negatives: int = field(default=0, init=False)
    in_batch: bool = field(default=True, init=False)
    columns = ("text", "label")

    def __post_init__(self):
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise UserError(f"labels: expected two or more, each once, got {tuple(self.labels)}")

    def admit(self, record: dict) -> bool:
        if str(record["label"]) not in self.labels:
            raise ValueError(f"the label {record['label']!r} is not one of {tuple(self.labels)}")
        return _has_text(self, record)

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        texts = [record["text"] for record in records]
        numbers = [float(self.labels.index(str(record["label"]))) for record in records]
        return Texts(texts, texts, [[] for _ in texts], numbers)


@dataclass(frozen=True)
class NextSentence:
    """Sentences of one text that follow each other: {"text"}; of one sentence there is no pair.

    Attributes:
        sentences: how many make a side.
    """

    sentences: int = 1
    negatives: int = field(default=0, init=False)
    in_batch: bool = field(default=True, init=False)
    columns = ("text",)

    admit = _has_sentences

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        query, document = [], []
        for record, place in zip(records, draw(0, 1)[:, 0], strict=True):
            found = split_sentences(record["text"])
            cut = 1 + int(place * (len(found) - 1))
            query.append(" ".join(found[max(cut - self.sentences, 0) : cut]))
            document.append(" ".join(found[cut : cut + self.sentences]))
        return Texts(query, document, [[] for _ in query])


@dataclass(frozen=True)
class InverseCloze:
    """A sentence, and the text around it: {"text"}.

    Attributes:
        keep_fraction: how often the sentence stays in the document, so that words in common
            count too.

    Reference: Lee et al., Latent Retrieval for Weakly Supervised Open Domain Question Answering,
        2019, arXiv 1906.00300.
    """

    keep_fraction: float = 0.1
    negatives: int = field(default=0, init=False)
    in_batch: bool = field(default=True, init=False)
    columns = ("text",)

    admit = _has_sentences

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        query, document = [], []
        for record, (place, keep) in zip(records, draw(0, 2), strict=True):
            found = split_sentences(record["text"])
            chosen = int(place * len(found))
            query.append(found[chosen])
            rest = found if keep < self.keep_fraction else found[:chosen] + found[chosen + 1 :]
            document.append(" ".join(rest))
        return Texts(query, document, [[] for _ in query])


@dataclass(frozen=True)
class TitleBody:
    """A title and what it heads: {"title", "text"}; records with an empty side give no pair."""

    negatives: int = field(default=0, init=False)
    in_batch: bool = field(default=True, init=False)
    columns = ("title", "text")

    def admit(self, record: dict) -> bool:
        sides = [string_of(record, name).strip() for name in self.columns]
        return all(sides) and sides[0] != sides[1]

    def make(self, records: Sequence[dict], draw: Draw) -> Texts:
        sides = [[record[name] for record in records] for name in self.columns]
        return Texts(*sides, [[] for _ in records])


@dataclass(frozen=True)
class SameText:
    """The same text twice: {"text"}; the two embeddings differ by dropout alone.

    Reference: Gao et al., SimCSE, 2021, arXiv 2104.08821.
    """

    negatives: int = field(default=0, init=False)
    in_batch: bool = field(default=True, init=False)
    columns = ("text",)

    admit, make = _has_text, _same_text_twice
