"""Spaces: which vectors may be compared, and models that declare the space of an earlier one."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping

from gemb.checks import UserError
from gemb.identity.fingerprints import model_fingerprint, tower_fingerprint
from gemb.structs import SIDES

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# Why a later model's vectors belong to an earlier model's space.
WAYS = ("frozen_tower", "frozen_vectors", "adapter")
SPACE = "space"  # the key of gemb.json


class SpaceError(UserError):
    """Vectors of two spaces that were about to be compared."""


@dataclasses.dataclass(frozen=True)
class Space:
    """What makes two vectors comparable.

    The precision of stored vectors and the time of their making are not part of it.

    Attributes:
        query, document: fingerprints of the towers; equal where both sides are one tower.
        dim: size of a vector; each nested width is a space of its own.
        normalized: whether vectors have unit length.
        similarity: one of `SIMILARITIES`.

    Raises:
        UserError: a value of another type, or one that is not known.

    Example:
        >>> space = Space("q", "d", 96, True)
        >>> len(space.id), space.id == dataclasses.replace(space, dim=48).id
        (32, False)
    """

    query: str
    document: str
    dim: int
    normalized: bool
    similarity: str = "cosine"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if type(getattr(self, field.name)) is not field.type:
                raise UserError(
                    f"space: {field.name}: expected {field.type.__name__}, got "
                    f"{getattr(self, field.name)!r:.40}"
                )
        if self.dim < 1 or not self.query or not self.document:
            raise UserError(f"space: needs two fingerprints and a positive dim, got {self}")
        if self.similarity not in SIMILARITIES:
            raise UserError(
                f"space: similarity: expected one of {SIMILARITIES}, got {self.similarity!r}"
            )

    @functools.cached_property
    def id(self) -> str:
        """32 hexadecimal digits; two spaces with one id are the same."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def __str__(self) -> str:
        kind = "unit " if self.normalized else ""
        towers = self.query[:12]
        if self.document != self.query:
            towers += f" and {self.document[:12]}"
        return f"{self.id[:12]} ({kind}vectors of dim {self.dim}, {self.similarity}, of {towers})"

    @classmethod
    def read(cls, tree: object, where: str) -> "Space":
        """The space of a JSON object.

        Args:
            tree: what `dataclasses.asdict` gave.
            where: file and key, for messages.

        Raises:
            UserError: it is not a space.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(tree, Mapping) or set(tree) != names:
            raise UserError(f"{where}: expected a space with {sorted(names)}, got {tree!r:.80}")
        try:
            return cls(**tree)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None


def check_same_space(left: Space | str, right: Space | str, where: str) -> None:
    """Checks that vectors of two spaces may meet.

    Args:
        left, right: spaces, or their ids.
        where: what was about to compare them; the message begins with it.

    Raises:
        SpaceError: they are not the same; names both.
    """
    if _id(left) != _id(right):
        raise SpaceError(
            f"{where}: vectors of space {left} cannot be compared with vectors of space {right}; "
            "their scores would be noise: use vectors of one space"
        )


def _id(space: Space | str) -> str:
    return space if isinstance(space, str) else space.id


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How well a model's vectors match an earlier model's space, which it declares as its own.

    Attributes:
        model: fingerprint of the model that declares it.
        way: one of `WAYS`: a tower that was not trained, training against frozen old vectors, or
            an adapter.
        cosine: mean cosine of its vectors with the earlier model's vectors of the same inputs.
        rows: how many inputs that was measured on.

    Raises:
        UserError: an unknown way, or no measurement.
    """

    model: str
    way: str
    cosine: float
    rows: int

    def __post_init__(self):
        if self.way not in WAYS:
            raise UserError(f"space: way: expected one of {WAYS}, got {self.way!r}")
        number = isinstance(self.cosine, int | float) and math.isfinite(self.cosine)
        if not number or not -1 <= self.cosine <= 1:
            raise UserError(f"space: cosine: expected a number in [-1, 1], got {self.cosine!r}")
        if type(self.rows) is not int or self.rows < 1:
            raise UserError(
                f"space: rows: expected the number of inputs that the cosine was measured on, got "
                f"{self.rows!r}"
            )


def declare_space(manifest: Mapping, space: Space, alignment: Alignment) -> dict:
    """A model's manifest in which the model declares an existing space as its own.

    Args:
        manifest: the content of gemb.json.
        space: of the earlier model.
        alignment: as it was measured.

    Returns:
        The content to write.
    """
    declared = {"space": dataclasses.asdict(space), **dataclasses.asdict(alignment)}
    return {**manifest, SPACE: declared}


def model_space(
    model, dim: int | None = None, similarity: str = "cosine"
) -> tuple[Space, Alignment | None]:
    """The space of a model's vectors: its own, or the one that its manifest declares.

    Args:
        model: a `gemb.models.model.Model`.
        dim: the nested width that is kept; None for the full one.
        similarity: that its vectors are compared by.

    Returns:
        The space; and the alignment, None where the space is the model's own.

    Raises:
        UserError: the declaration cannot be read, or is not for this model, width or similarity.
    """
    spec = model.spec
    query, document = (tower_fingerprint(getattr(model, side)) for side in SIDES)
    normalized = bool(spec.query.normalize and spec.document.normalize)
    own = Space(query, document, dim or spec.dim, normalized, similarity)
    if SPACE not in model.manifest:
        return own, None
    space, alignment = _declared(model.manifest[SPACE])
    if alignment.model != model_fingerprint(model):
        raise UserError(
            f"gemb.json: {SPACE}: declared for the model with fingerprint {alignment.model}, but "
            f"this one has {model_fingerprint(model)}; measure its alignment, or delete the entry"
        )
    shape = ("dim", "normalized", "similarity")
    if any(getattr(space, name) != getattr(own, name) for name in shape):
        raise SpaceError(
            f"gemb.json: {SPACE}: the model declares space {space}, but its vectors are of {own}"
        )
    return space, alignment


def _declared(tree: object) -> tuple[Space, Alignment]:
    where = f"gemb.json: {SPACE}"
    names = {"space", *(field.name for field in dataclasses.fields(Alignment))}
    if not isinstance(tree, Mapping) or set(tree) != names:
        raise UserError(f"{where}: expected an object with {sorted(names)}, got {tree!r:.80}")
    fields = dict(tree)
    space = Space.read(fields.pop("space"), where)
    try:
        return space, Alignment(**fields)
    except UserError as error:
        raise UserError(f"gemb.json: {error}") from None
