"""A document's blocks to chunks of a token budget: by sections, paragraphs, then sentences."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from gemb.checks import check
from gemb.datasets.documents.document import Block, Document, lines_of
from gemb.datasets.documents.sentences import halves, sentences

LEAST_TOKENS = 16
_CHARACTERS = 16  # that a token stands for at most: WordPiece makes one token of a word of 5,000
_PART = 8  # an overlong sentence is halved until its pieces fill an eighth of a chunk

Count = Callable[[list[str]], list[int]]


class Chunk(NamedTuple):
    """A passage: a range of a document's text.

    Attributes:
        start: its first character in the document's text.
        end: the character behind its last one.
        headings: the titles above it, outermost first.
    """

    start: int
    end: int
    headings: tuple[str, ...]


class Chunker:
    """Cuts documents into chunks of at most `tokens` tokens.

    A section begins a new chunk. Inside it paragraphs, fences, tables and functions are packed
    whole as long as they fit; what is longer than a chunk is cut between sentences (or lines of
    code), then between words. No character of a document but white space is lost.

    Args:
        count: texts -> how many tokens the model reads of each, its special tokens included.
        tokens: the most that a chunk has, with what is put in front of it.
        overlap: tokens at a chunk's end that the next chunk of the section begins with, at most.

    Raises:
        ValueError: for fewer than 16 tokens, or an overlap of more than half of them.
    """

    def __init__(self, count: Count, tokens: int = 256, overlap: int = 32):
        check(tokens >= LEAST_TOKENS, f"tokens: expected {LEAST_TOKENS} or more, got {tokens}")
        check(
            0 <= overlap <= tokens // 2,
            f"overlap: expected 0 to {tokens // 2}, half of the tokens, got {overlap}",
        )
        self._count, self.tokens, self.overlap = count, tokens, overlap
        self._frame = count([""])[0]  # special tokens and the model's prompt
        check(
            self._frame <= tokens // 4,
            f"tokens: {tokens} leave little room for text: the model's own prompt and special "
            f"tokens are {self._frame}",
        )

    def fitting(self, text: str) -> str:
        """The beginning of a title that takes at most a quarter of a chunk."""
        text = text[: self.tokens * _CHARACTERS]
        while text and self.cost([text])[0] > self.tokens // 4:
            text = text[: len(text) * 3 // 4].rstrip()
        return text

    def cost(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text inside of another; at least one for each 16 characters."""
        counts = self._count(list(texts)) if texts else []
        return [
            max(count - self._frame, len(text) // _CHARACTERS)
            for text, count in zip(texts, counts, strict=True)
        ]

    def cut(self, document: Document, front: Callable[[tuple[str, ...]], str]) -> list[Chunk]:
        """The chunks of a document, in order.

        Args:
            document: as a reader gives it.
            front: (headings) -> the text in front of a chunk when it is encoded.
        """
        chunks = []
        for _, group in itertools.groupby(_joined(document.blocks), lambda block: block.section):
            blocks = list(group)
            headings = max((block.headings for block in blocks), key=len)
            room = self.tokens - self._frame - sum(self.cost([front(headings)]))
            chunks += self._section(document.text, blocks, room, front)
        return chunks

    def _section(self, text: str, blocks: list[Block], room: int, front: Callable) -> list[Chunk]:
        """The chunks of one section.

        Pieces are counted apart, which nearly always gives more tokens than they have together;
        where it gives fewer, the section is cut again with less room.
        """
        while True:
            packer = _Packer(text, self, room)
            for block, pieces in zip(blocks, self._pieces(text, blocks, room), strict=True):
                packer.add(block, pieces)
            chunks = packer.finish()
            texts = [front(c.headings) + text[c.start : c.end] for c in chunks]
            over = max(self._count(texts), default=0) - self.tokens
            if over <= 0 or room <= 1:
                return chunks
            room = max(1, room - over)

    def _pieces(self, text: str, blocks: list[Block], room: int) -> Iterable[list["Piece"]]:
        """The sentences or lines of each block, halved where they do not fit, with their cost.

        A piece holds the white space after it.
        """
        ends = [*(block.start for block in blocks[1:]), blocks[-1].end]
        for block, end in zip(blocks, ends, strict=True):
            cut = lines_of if block.whole else sentences
            ranges = cut(text, block.start, end)
            yield self.measured(text, ranges, room, max(1, room // _PART))

    def measured(
        self, text: str, ranges: list[tuple[int, int]], most: int, part: int
    ) -> list["Piece"]:
        """Ranges with their costs; a range above `most` tokens is halved down to `part` tokens."""
        short = [end - start <= most * _CHARACTERS for start, end in ranges]
        fits = [each for each, is_short in zip(ranges, short, strict=True) if is_short]
        costs = iter(self.cost([text[start:end] for start, end in fits]))
        made = []
        for (start, end), is_short in zip(ranges, short, strict=True):
            cost = next(costs) if is_short else most + 1
            if cost <= most or end - start == 1:
                made.append(Piece(start, end, cost))
            else:
                made += self.measured(text, halves(text, start, end), part, part)
        return made


class Piece(NamedTuple):
    """A sentence or line of a document's text, and how many tokens it has."""

    start: int
    end: int
    cost: int


class _Packer:
    """Fills the chunks of a section, one after the other.

    Args:
        text: of the document.
        chunker: has the overlap, and counts tokens.
        room: tokens of a chunk.
    """

    def __init__(self, text: str, chunker: Chunker, room: int):
        self._text, self._chunker, self._room = text, chunker, room
        self._chunks: list[Chunk] = []
        self._pieces: list[tuple[Block, Piece]] = []  # of the open chunk
        self._used = self._overlapped = 0

    def add(self, block: Block, pieces: list[Piece]) -> None:
        """Adds a block: whole where it fits into a chunk, else piece by piece."""
        total = sum(piece.cost for piece in pieces)
        if total <= self._room:
            if block.whole:  # no overlap begins inside of it
                pieces = [Piece(pieces[0].start, pieces[-1].end, total)]
            self._make_room(total)
            self._take(block, pieces)
        else:
            for piece in pieces:
                self._make_room(piece.cost)
                self._take(block, [piece])

    def finish(self) -> list[Chunk]:
        """Closes the last chunk; all of them, in order."""
        self._close()
        return self._chunks

    def _take(self, block: Block, pieces: list[Piece]) -> None:
        self._pieces += [(block, piece) for piece in pieces]
        self._used += sum(piece.cost for piece in pieces)

    def _make_room(self, cost: int) -> None:
        if self._used + cost > self._room:
            overlap = self._tail()
            self._close()
            if sum(piece.cost for _, piece in overlap) + cost <= self._room:
                for block, piece in overlap:
                    self._take(block, [piece])
                self._overlapped = len(overlap)

    def _close(self) -> None:
        if len(self._pieces) > self._overlapped:
            start, end = self._pieces[0][1].start, self._pieces[-1][1].end
            end = start + len(self._text[start:end].rstrip())
            new = [block for block, _ in self._pieces[self._overlapped :]]
            if start < end:  # else white space alone
                self._chunks.append(Chunk(start, end, _common_headings(new)))
        self._pieces, self._used, self._overlapped = [], 0, 0

    def _tail(self) -> list[tuple[Block, Piece]]:
        """The pieces at the open chunk's end that the overlap has room for, but not all."""
        left, tail = self._chunker.overlap, []
        for number in range(len(self._pieces) - 1, 0, -1):
            block, piece = self._pieces[number]
            if piece.cost > left:
                break
            tail.insert(0, (block, piece))
            left -= piece.cost
        if tail or not left or not self._pieces:
            return tail
        block, piece = self._pieces[-1]
        return [] if block.whole else self._cut_tail(block, piece, left)

    def _cut_tail(self, block: Block, piece: Piece, left: int) -> list[tuple[Block, Piece]]:
        """The end of a long sentence, cut between words."""
        while piece.cost > left and piece.end - piece.start > 1:
            place = halves(self._text, piece.start, piece.end)[-1]
            if place[0] == piece.start:
                return []
            piece = Piece(*place, self._chunker.cost([self._text[slice(*place)]])[0])
        return [(block, piece)] if piece.cost <= left else []


def _joined(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, those of a section that is only a heading in the section below them."""
    made, number = list(blocks), len(blocks) - 1
    while number > 0:
        number -= 1
        block, below = made[number], made[number + 1]
        inner = below.headings[: len(block.headings)] == block.headings
        if block.is_heading and block.section != below.section and inner:
            made[number] = block._replace(section=below.section)
    return made


def _common_headings(blocks: Sequence[Block]) -> tuple[str, ...]:
    """The titles above all of some blocks; headings by themselves count where there is no other."""
    inner = [block.headings for block in blocks if not block.is_heading] or [blocks[-1].headings]
    same = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*inner, strict=False))
    return tuple(level[0] for level in same)
