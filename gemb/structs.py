"""Values that cross package borders, and the glossary of dimension names.

Only plain containers belong here: no arithmetic, no JAX import. Every docstring in gemb spells
shapes with these names:

    batch     queries in the global batch         candidates  documents scored against each query
    length    token positions with padding        width       hidden size of the encoder
    dim       size of an embedding                heads       attention heads
    layers    transformer layers                  vocab       tokens the tokenizer knows
    classes   labels of a classifier              patches, frames   positions of images, video

`candidates = batch * (1 + negatives)`: the positives come first, in the order of the queries, and
`positive[i]` is the index of query i's positive, so hard negatives are no special case.

The words of versions (space, generation, refresh, release) are in `gemb.identity`.
"""

import hashlib
import os
from typing import Any, NamedTuple, Protocol

Array = Any  # a numpy.ndarray on the host, a jax.Array on devices

SIDES = ("query", "document")


class Inputs(Protocol):
    """What an encoder reads: a NamedTuple of arrays whose first axis is the rows.

    Each modality has its own; only its processor and its encoder look into it.

    Attributes:
        real: [rows, positions] bool, True where a position is not padding.
    """

    real: Array


class Tokens(NamedTuple):
    """Tokenized texts, one per row: the Inputs of text encoders.

    Attributes:
        ids: [batch, length] int32 token ids.
        mask: [batch, length] bool, True where a token is real.
        pooled: [batch, length] bool, True where the pooler looks; None: at all real tokens.
    """

    ids: Array
    mask: Array
    pooled: Array | None = None

    @property
    def real(self) -> Array:
        """The mask."""
        return self.mask


class Images(NamedTuple):
    """Pictures of one size, one per row: the Inputs of image encoders.

    Attributes:
        pixels: [batch, height, width, 3] float32, red, green, blue, scaled as the model wants.
        mask: [batch] bool, False for rows that only fill the batch up.
    """

    pixels: Array
    mask: Array

    @property
    def real(self) -> Array:
        """[batch, 1] bool: the mask."""
        return self.mask[:, None]


class Patches(NamedTuple):
    """Pictures of any size as lists of square patches, one picture or clip per row.

    Attributes:
        values: [batch, patches, patch * patch * 3] float32, scaled; row, column, colour inside.
        row, column: [batch, patches] int32, where in its picture a patch stands.
        frame: [batch, patches] int32, in which picture of a clip; 0 everywhere for a picture.
        mask: [batch, patches] bool, True where a patch is real.
    """

    values: Array
    row: Array
    column: Array
    frame: Array
    mask: Array

    @property
    def real(self) -> Array:
        """The mask."""
        return self.mask


class Clips(NamedTuple):
    """Videos as frames of one size, one video per row: the Inputs of video encoders.

    Attributes:
        pixels: [batch, frames, height, width, 3] float32, as of `Images`; or, where the frames were
            encoded before, their vectors [batch, frames, width].
        mask: [batch, frames] bool, True where a frame is real.
    """

    pixels: Array
    mask: Array

    @property
    def real(self) -> Array:
        """The mask."""
        return self.mask


class Visual(NamedTuple):
    """Vectors of the parts of pictures, from an image encoder: Inputs of vision-language encoders.

    Attributes:
        values: [batch, parts, width of the image encoder] float32.
        mask: [batch, parts] bool, True where a part is real.
    """

    values: Array
    mask: Array

    @property
    def real(self) -> Array:
        """The mask."""
        return self.mask


class _Media:
    """A file of some kind, not yet read; equal sources are equal values.

    Args:
        source: a path, or the bytes of a file, or values that the kind of file decodes to.

    Attributes:
        source: as given.
    """

    __slots__ = ("source",)

    def __init__(self, source: Any):
        if isinstance(source, _Media):
            raise TypeError(f"expected a path, bytes or pixels, got {source!r}")
        self.source = source

    def content(self) -> bytes:
        """What identifies the value: the path, or a digest of its bytes or pixels."""
        source = self.source
        if isinstance(source, str | os.PathLike):
            return os.fsencode(source)
        if isinstance(source, bytes | bytearray | memoryview):
            return hashlib.sha256(source).digest()
        about = [getattr(source, name, "") for name in ("shape", "dtype", "size", "mode")]
        data = source.tobytes() if hasattr(source, "tobytes") else repr(source).encode()
        return hashlib.sha256(f"{about}".encode() + data).digest()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.content() == self.content()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.content()))

    def __repr__(self) -> str:
        source = self.source
        shown = source if isinstance(source, str | os.PathLike) else type(source).__name__
        return f"gemb.{type(self).__name__}({shown!r})"


class Image(_Media):
    """A picture: a value that a model embeds. A plain string is always a text, never a path.

    Args:
        source: a path; the bytes of a file; a Pillow image; or an array [height, width] or
            [height, width, 1, 3 or 4] of uint8 or uint16, colours red, green, blue (and alpha).

    Example:
        >>> Image("a.jpg")
        gemb.Image('a.jpg')
    """

    __slots__ = ()


class Video(_Media):
    """A video or an animation: a value that a model embeds.

    Args:
        source: a path; the bytes of a file; or a list of frames, each what `Image` takes.

    Example:
        >>> Video("a.mp4")
        gemb.Video('a.mp4')
    """

    __slots__ = ()


class Features(NamedTuple):
    """Named values of users or items, one record per row: the Inputs of feature encoders.

    Attributes:
        columns: "SIDE/COLUMN" -> [rows, ...]: int32 rows of a table, 0 for padding, or float32
            numbers; every record has every column of its side.
    """

    columns: dict[str, Array]

    @property
    def real(self) -> Array:
        """[rows, 1] bool, all True: a record is one position."""
        first = next(iter(self.columns.values()))[:, :1]
        return first == first


class Prompts(NamedTuple):
    """What a model reads before its texts.

    Attributes:
        query: before queries.
        document: before documents.
        pooled: whether the pooler sees the tokens of prompts.
    """

    query: str = ""
    document: str = ""
    pooled: bool = True


NO_PROMPTS = Prompts()


class Processors(NamedTuple):
    """The processors of a model's sides; one and the same where both sides are one tower.

    Attributes:
        query: makes Inputs of queries.
        document: makes Inputs of documents.
    """

    query: Any
    document: Any


class Batch(NamedTuple):
    """One training batch of pairs.

    Attributes:
        query: Inputs of `batch` rows.
        document: Inputs of `candidates` rows.
        positive: [batch] int32, the index among the candidates of each query's positive.
        query_id: [batch] int32, a hash of the query: equal queries have equal ids.
        document_id: [candidates] int32, a hash of the document.
        query_mask: [batch] bool, False for rows that only fill the batch up.
        document_mask: [candidates] bool, likewise.
        fields: name -> array [batch, ...] or [candidates, ...] for losses that want more, such as
            "guide_query" or "teacher_document"; None for no such fields.
    """

    query: Inputs
    document: Inputs
    positive: Array
    query_id: Array
    document_id: Array
    query_mask: Array
    document_mask: Array
    fields: dict[str, Array] | None = None


class Interactions(NamedTuple):
    """What users did with items, one event per place of the arrays.

    Attributes:
        user: [events] int32 rows of the table of users.
        item: [events] int32 rows of the table of items.
        weight: [events] float32, how much an event counts; 1 where the data has no weights.
        time: [events] float64 seconds since 1970; None where the data has no times.
    """

    user: Array
    item: Array
    weight: Array
    time: Array | None = None
