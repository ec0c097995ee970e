"""The optional arrays of a batch that losses read in addition to embeddings, as one value.

Their names, shapes and meanings, and where each comes from. They are checked in
gemb.losses.inputs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from gemb import checks


class Fields(NamedTuple):
    """The optional arrays of a batch that losses read; None for missing ones.

    Every loss reads `query_mask`, `document_mask` and `weights`; its docstring names what else it
    reads. Other fields change nothing, so one value serves all the losses of a sum. A dict with
    these names will do as well.

    Attributes:
        query_mask: [batch] bool, True where a query is real. A row whose query or positive is
            masked costs exactly 0 and sends no gradient.
        document_mask: [candidates] bool, True where a document is real; others do not compete.
        weights: [batch] floats that multiply the losses; no gradient flows to them.
        query_id: [batch] integers, equal for equal texts; None: all queries differ.
        document_id: [candidates] integers, equal for equal texts. A document whose text is a
            positive of the same query text is not used as its negative; None: no text is compared.
        in_batch: [batch] bool, False for queries that compete with their own hard negatives alone
            (classification-style tasks).
        temperature: [] float, learned, or that of the batch's task: replaces the loss's option.
        bias: [] float, learned: replaces the loss's option.
        scores: [batch] floats, the grade of each pair.
        guide_query: [batch, guide dim] floats, a guide model's unit-length vectors.
        guide_document: [candidates, guide dim] floats, likewise.
        teacher_query: [batch, teacher dim] floats, the teacher's unit-length vectors.
        teacher_document: [candidates, teacher dim] floats, likewise.
        teacher_scores: [batch, candidates] floats, the teacher's score of each query and document.
        query_layerwise: [batch] floats, each query's `hidden_state_distance` to the teacher.
        document_layerwise: [candidates] floats, likewise.
        query_layers: [layers, batch, dim] floats, unit-length embeddings pooled from earlier
            layers.
        document_layers: [layers, candidates, dim] floats, likewise.
        classifiers: one [classes, width] array of floats for each nested width.
        log_q: [candidates] floats, the logarithm of the probability with which each document comes
            to be a candidate (logQ correction); it is subtracted from the document's logits, and
            no gradient flows to it. A constant added to all of them changes nothing.
        known_positives: [batch, known] integers, ids of documents that are positives of each
            query beyond this batch, filled up with -1. They are not used as its negatives.
        key: a JAX random key, for losses that draw.

    Example:
        >>> import jax.numpy as jnp
        >>> from gemb import losses
        >>> fields = losses.Fields(query_mask=jnp.asarray([True, False]))
        >>> losses.alignment(jnp.eye(2), -jnp.eye(2), jnp.arange(2), fields=fields)
        Array([4., 0.], dtype=float32)
    """

    query_mask: jax.Array | None = None
    document_mask: jax.Array | None = None
    weights: jax.Array | None = None
    query_id: jax.Array | None = None
    document_id: jax.Array | None = None
    in_batch: jax.Array | None = None
    temperature: jax.Array | float | None = None
    bias: jax.Array | float | None = None
    scores: jax.Array | None = None
    guide_query: jax.Array | None = None
    guide_document: jax.Array | None = None
    teacher_query: jax.Array | None = None
    teacher_document: jax.Array | None = None
    teacher_scores: jax.Array | None = None
    query_layerwise: jax.Array | None = None
    document_layerwise: jax.Array | None = None
    query_layers: jax.Array | None = None
    document_layers: jax.Array | None = None
    classifiers: Sequence[jax.Array] | None = None
    log_q: jax.Array | None = None
    known_positives: jax.Array | None = None
    key: jax.Array | None = None

    @classmethod
    def of(cls, named: "Fields | Mapping") -> "Fields":
        """`Fields` as they are, or made of a mapping from names to arrays.

        Raises:
            ValueError: for a name that is not a field.

        Example:
            >>> Fields.of({"temprature": 0.1})
            Traceback (most recent call last):
            ...
            gemb.checks.ArgumentError: fields: unknown 'temprature'. Did you mean temperature?
        """
        if isinstance(named, cls):
            return named
        if not isinstance(named, Mapping):
            kind = type(named).__name__
            raise checks.ArgumentError(f"fields: expected losses.Fields or a dict, got {kind}")
        for name in named:
            if name not in cls._fields:
                hint = checks.suggest(name, cls._fields)
                raise checks.ArgumentError(f"fields: unknown {name!r}.{hint}")
        return cls(**named)


NO_FIELDS = Fields()

# name -> (dtype check, shape as dimension names; None is any size). `classifiers` and `key`, which
# are not single arrays of numbers, are checked by the losses that read them.
SHAPES = {
    "query_mask": (checks.check_bool, ("batch",)),
    "document_mask": (checks.check_bool, ("candidates",)),
    "weights": (checks.check_floating, ("batch",)),
    "query_id": (checks.check_integer, ("batch",)),
    "document_id": (checks.check_integer, ("candidates",)),
    "in_batch": (checks.check_bool, ("batch",)),
    "temperature": (checks.check_floating, ()),
    "bias": (checks.check_floating, ()),
    "scores": (checks.check_floating, ("batch",)),
    "guide_query": (checks.check_floating, ("batch", None)),
    "guide_document": (checks.check_floating, ("candidates", None)),
    "teacher_query": (checks.check_floating, ("batch", None)),
    "teacher_document": (checks.check_floating, ("candidates", None)),
    "teacher_scores": (checks.check_floating, ("batch", "candidates")),
    "query_layerwise": (checks.check_floating, ("batch",)),
    "document_layerwise": (checks.check_floating, ("candidates",)),
    "query_layers": (checks.check_floating, (None, "batch", "dim")),
    "document_layers": (checks.check_floating, (None, "candidates", "dim")),
    "log_q": (checks.check_floating, ("candidates",)),
    "known_positives": (checks.check_integer, ("batch", None)),
}

# name -> (what it is, who gives it), for the error of a loss that cannot do without
_GUIDE = ("the guide's vectors", "set TEACHER to teachers.guide, or use info_nce")
_TEACHER = ("the teacher's vectors", "set TEACHER to a teacher of vectors")
_LAYERWISE = (
    "the distances of token vectors",
    "set TEACHER to teachers.layerwise",
)
_LAYERS = (
    "the embeddings of earlier layers",
    "set OBJECTIVE to objectives.earlier_layers, or use matryoshka",
)
GIVEN_BY = {
    "scores": ("a grade for each pair", "train on graded pairs, gemb.data.forms.Graded"),
    "guide_query": _GUIDE,
    "guide_document": _GUIDE,
    "teacher_query": _TEACHER,
    "teacher_document": _TEACHER,
    "query_layerwise": _LAYERWISE,
    "document_layerwise": _LAYERWISE,
    "query_layers": _LAYERS,
    "document_layers": _LAYERS,
    "log_q": (
        "the log-probability of each candidate",
        "train on interactions, gemb.recommendation.links",
    ),
    "key": ("a JAX random key", "the training step gives one"),
}


def missing(name: str) -> checks.ArgumentError:
    """The error of a loss that needs a field that is None."""
    what, giver = GIVEN_BY[name]
    return checks.ArgumentError(f"{name}: expected {what} in `fields`, got None; {giver}")
