"""Late chunking: a document is encoded as a whole, and each passage is the mean of its own tokens.

A passage's vector then knows what stands around it: what "it" and "the method" are. Reference:
Guenther et al., "Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models",
2024, arXiv 2409.04701.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.inference.embedder import Embedder
from gemb.inference.encode import outputs, program
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec
from gemb.processors.processor import Example
from gemb.processors.text import TextProcessor

OVERLAP = 4  # windows share a quarter of their tokens
_UNLIMITED = 2**30
_GAP = 2  # line breaks that white space between two passages comes down to


class LateDocument(NamedTuple):
    """A document and its passages.

    Attributes:
        text: the whole text.
        spans: (start, end) of each passage in it; they may overlap.
    """

    text: str
    spans: Sequence[tuple[int, int]]


def check_late(embedder: Embedder) -> None:
    """Checks that a model can chunk late.

    Raises:
        UserError: for a model that is not a text encoder with mean pooling, or whose tokens have no
            places in the text.
    """
    spec, processor = embedder.model.document.spec, embedder.model.document.processor
    if not isinstance(processor, TextProcessor):
        raise UserError("late chunking: the model does not read texts")
    if spec.pooling != "mean":
        raise UserError(
            f"late chunking: the model's pooling is {spec.pooling!r}, and only a mean over tokens "
            "can be taken over the tokens of a passage; choose a model with mean pooling"
        )
    try:
        processor.tokenizer().places("a")
    except UserError as error:
        raise UserError(f"late chunking: {error}") from None


def encode_late(
    embedder: Embedder, documents: Sequence[LateDocument], *, dim: int, progress: str = ""
) -> np.ndarray:
    """Encodes the passages of documents, each in the light of its whole document.

    A document that is longer than the model's window is encoded in windows that overlap by a
    quarter; a token is taken from the window in which it is farthest from an edge. The model's
    special tokens and prompt, where its pooler sees them, count for the first and last passage, so
    that a document of one passage gets the vector that `Embedder.encode` gives it, as does a
    passage without a token of its own.

    Args:
        embedder: a model with mean pooling.
        documents: the texts with their passages.
        dim: leading coordinates to keep, one of the model's widths.
        progress: label of a progress bar; '' for none.

    Returns:
        [passages, dim] float32, those of the first document first.

    Raises:
        UserError: see `check_late`.
    """
    check_late(embedder)
    dim = embedder.check_dim(dim)
    tower = embedder.model.document
    processor, width = tower.processor, tower.spec.encoder.width
    windows = list(_windows(processor, documents))
    passages = sum(len(document.spans) for document in documents)
    sums, counts = np.zeros((passages, width)), np.zeros(passages, np.int64)
    functions = functional(ModelSpec.of(tower.spec)).document
    params = embedder.params("document")
    hidden = program(functions.hidden, embedder.execution)
    examples = [window.example for window in windows]
    for rows, states in outputs(hidden, params, examples, processor, progress=progress):
        for row, state in zip(rows, states, strict=True):
            for passage, first, last in windows[row].parts:
                sums[passage] += state[first:last].sum(0, dtype=np.float64)
                counts[passage] += last - first
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    project = program(functions.project, embedder.execution)
    vectors = np.array(project(params, means), np.float32)
    bare = np.flatnonzero(counts == 0)  # such as one of characters that the tokenizer leaves out
    if len(bare):
        texts = [doc.text[start:end] for doc in documents for start, end in doc.spans]
        vectors[bare] = embedder.encode([texts[passage] for passage in bare])
    return embedder.narrowed(vectors, dim)


class _Window(NamedTuple):
    """Tokens that are encoded together; (passage, first, last) of what is pooled of them."""

    example: Example
    parts: list[tuple[int, int, int]]


def _windows(processor: TextProcessor, documents: Sequence[LateDocument]) -> Iterator[_Window]:
    prompt = processor.prompt("document")
    tokenizer = processor.with_limit(_UNLIMITED).tokenizer(prompt)
    hidden = 0 if processor.prompts.pooled else tokenizer.prompt_length
    first = 0
    for document in documents:
        ids, places = tokenizer.places(document.text)
        head = sum(end <= len(prompt) for _, end in places) if prompt else 0
        starts = np.array([start for start, _ in places[head:]], np.int64) - len(prompt)
        ends = np.array([end for _, end in places[head:]], np.int64) - len(prompt)
        ranges = [_tokens_of(starts, ends, *span) for span in document.spans]
        around = tokenizer.around
        before = [*around[0], *ids[:head]]
        yield from _cut(ids[head:], ranges, first, before, around[1], processor.limit, hidden)
        first += len(document.spans)


def _tokens_of(starts: np.ndarray, ends: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """The tokens that have a character in a span."""
    inside = np.flatnonzero((starts < end) & (ends > start) & (ends > starts))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


def _cut(
    ids: list[int],
    ranges: Sequence[tuple[int, int]],
    first_passage: int,
    before: list[int],
    after: list[int],
    limit: int,
    hidden: int,
) -> Iterator[_Window]:
    """The windows of one document.

    Args:
        ids: its tokens, special ones and the prompt's left out.
        ranges: the tokens of each passage.
        first_passage: the number of its first passage.
        before: the tokens in front of every window.
        after: those after it.
        limit: tokens of a window.
        hidden: leading tokens of `before` that the pooler does not see.
    """
    room = limit - len(before) - len(after)
    if room < OVERLAP:
        raise UserError(
            f"late chunking: the model's {limit} tokens leave no room behind its prompt"
        )
    for begin, end, own_begin, own_end in _owned(len(ids), room):
        example_ids = [*before, *ids[begin:end], *after]
        shift, parts = len(before) - begin, []
        for number, (start, stop) in enumerate(ranges):
            if (part := (max(start, own_begin), min(stop, own_end)))[0] < part[1]:
                seen = max(part[0] + shift, hidden)
                parts.append((first_passage + number, seen, max(part[1] + shift, seen)))
        if begin == 0 and len(before) > hidden and ranges:
            parts.append((first_passage, hidden, len(before)))
        if end == len(ids) and after and ranges:
            size = len(example_ids)
            parts.append((first_passage + len(ranges) - 1, size - len(after), size))
        yield _Window(Example(None, example_ids, len(example_ids)), parts)


def _owned(count: int, room: int) -> Iterator[tuple[int, int, int, int]]:
    """(begin, end) of each window over `count` tokens, and which of them are taken from it.

    Example:
        >>> list(_owned(10, 8))
        [(0, 8, 0, 5), (2, 10, 5, 10)]
    """
    steps = range(0, max(count - room, 0), room - room // OVERLAP)
    begins = [*steps, max(count - room, 0)]
    edges = [0]
    for left, right in itertools.pairwise(begins):
        edges.append((right + min(left + room, count)) // 2)  # the middle of what they share
    edges.append(count)
    for begin, (own_begin, own_end) in zip(begins, itertools.pairwise(edges), strict=True):
        yield begin, min(begin + room, count), own_begin, own_end


def documents_of(rows: Sequence[dict]) -> list[LateDocument]:
    """The documents whose passages a corpus of `gemb documents` holds, in its order.

    Args:
        rows: with "file", "span" and "text"; passages of a file follow each other.

    Raises:
        UserError: for rows of another corpus.
    """
    for row in rows:
        span = row.get("span")
        if not isinstance(row.get("file"), str) or not isinstance(span, list) or len(span) != 2:
            raise UserError(
                "late chunking: the corpus does not say which passages are of one document; make "
                "it with `gemb documents`"
            )
    return [_document(list(group)) for _, group in itertools.groupby(rows, lambda r: r["file"])]


def _document(rows: list[dict]) -> LateDocument:
    """A document put together again; white space between passages becomes line breaks."""
    parts, spans, done, length = [], [], 0, 0
    for row in rows:
        start, end = row["span"]
        body = row["text"][len(row["text"]) - (end - start) :]  # behind the headings' line
        gap = "\n" * min(max(start - done, 0), _GAP) if parts else ""
        fresh = body[max(done - start, 0) :] if parts else body
        parts += [gap, fresh]
        length += len(gap) + len(fresh)
        spans.append((length - (end - start), length))
        done = end
    return LateDocument("".join(parts), spans)
