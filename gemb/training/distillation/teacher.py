"""The base of all teachers: checks that they fit the student, and adds fields to the batches."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gemb import losses
from gemb.checks import UserError
from gemb.models.spec import ModelSpec
from gemb.structs import Batch

ROWS = 4  # rows of the shapes on which a loss is tried
_CUT_AFTER = 64  # texts to see before the share of cut texts is reported


class Teacher:
    """A teacher that looks up its fields; other teachers override methods.

    Attributes:
        dim: coordinates of the vectors that losses get; 0 if the teacher gives no vectors.
        normalizes: whether the vectors have unit length.
        models: the models, which count the texts that they cut.
        objective: the objective that reads the teacher's fields, if the default does not.
        role: the prefix of the fields with its vectors: "teacher" or "guide".
    """

    role = "teacher"

    dim, normalizes, models, objective = 0, True, (), None

    @property
    def identity(self) -> str:
        """Identifies everything that decides the teacher's fields."""
        raise NotImplementedError

    def fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """This host's fields as numpy arrays; called in the thread that makes batches."""
        raise NotImplementedError

    def example_fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """Fields of the same shapes, for a dry run; the caches need not exist yet."""
        return self.fields(queries, documents)

    def compute(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """The batch's fields in the form that losses read; runs inside the compiled step."""
        del params
        return batch.fields

    def attach(self, model: Any) -> None:
        """Called by an experiment with the model that it trains; most teachers do not look at it.

        Raises:
            UserError: for a model that the teacher does not fit.
        """

    def open(self, workdir: Path | None) -> None:
        """Opens the caches.

        Raises:
            UserError: if a cache is missing; the message names the command that fills it.
        """

    def params(self, mesh: Mesh, abstract: bool = False) -> Any:
        """The parameters for `compute`, on the mesh; or only their shapes."""
        del mesh, abstract

    def join(self, spec: ModelSpec, loss: Callable, batches, mesh: Mesh, workdir: Path) -> Any:
        """Adds the teacher's fields to the run's batches; returns the parameters for the step.

        Args:
            spec: the student.
            loss: the run's loss.
            batches: the run's `PairBatches`, before the first batch is taken.
            mesh: the student's mesh.
            workdir: the run's folder.

        Raises:
            UserError: if teacher, student and loss do not fit, or vectors are missing.
        """
        self.check(spec, loss)
        self.open(workdir)
        batches.annotate_with(self.fields, self.identity)
        return self.params(mesh)

    def rehearse(self, spec: ModelSpec, loss: Callable, batches, mesh: Mesh) -> Any:
        """As `join`, for a dry run: only the models need to exist."""
        self.check(spec, loss)
        batches.annotate_with(self.example_fields, "")
        return self.params(mesh, abstract=True)

    def check(self, spec: ModelSpec, loss: Callable) -> None:
        """Checks that the student's vectors can be compared with the teacher's.

        Raises:
            UserError: if only one of them has unit length, or the loss refuses the widths.
        """
        if not self.dim:
            return
        unit = spec.normalize
        if unit != self.normalizes:
            words = ("are", "are not") if unit else ("are not", "are")
            raise UserError(
                f"teacher: the student's vectors {words[0]} of unit length, but the teacher's "
                f"{words[1]}; bind adapt.load.normalize to make them alike"
            )
        check_loss(loss, spec.dim, self.taught())

    def taught(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Example fields of a teacher with vectors, for `ROWS` queries and as many documents."""
        rows = jax.ShapeDtypeStruct((ROWS, self.dim), jnp.float32)
        return {f"{self.role}_query": rows, f"{self.role}_document": rows}

    def report_cuts(self) -> None:
        """Warns once per model if its tokenizer cuts texts, with their share."""
        for model in self.models:
            if model.cut and model.seen >= _CUT_AFTER and not model.warned:
                model.warned = True
                share, lengths = model.cut / model.seen, sorted(set(model.lengths.values()))
                print(
                    f"warning: the teacher {model.name} cuts {share:.1%} of the texts to "
                    f"{' and '.join(map(str, lengths))} tokens and ignores the rest",
                    file=sys.stderr,
                )


class EmbeddingTeacher(Teacher):
    """A teacher with one vector per text, from one model or concatenated from several.

    Args:
        models: one or more.
        weights: relative weights of several models, see `gemb.losses.concatenate_teachers`; all 1
            if empty.

    Raises:
        UserError: unless weights are empty, or one number above 0 per model.
    """

    rounding = ""  # how the vectors were rounded, if they were

    def __init__(self, models: Sequence, weights: Sequence[float] = ()):
        self.models, self._weights = list(models), tuple(weights)
        self.dim = sum(model.dim for model in models)
        self.normalizes = len(models) > 1 or models[0].normalizes
        check_weights(self._weights, [model.dim for model in models])

    @property
    def identity(self) -> str:
        """Fingerprints, lengths, rounding and weights as text."""
        parts = [
            f"{m.fingerprint} {sorted(m.lengths.items())}{m.rounding}{self.rounding}"
            for m in self.models
        ]
        return "+".join(parts) + (f" {self._weights}" if self._weights else "")

    def concatenated(self, parts: Sequence):
        """Concatenates the models' [rows, dim] vectors; a single model's are unchanged."""
        if len(parts) == 1:
            return parts[0]
        return losses.concatenate_teachers(*parts, weights=self._weights)


def check_weights(weights: Sequence[float], dims: Sequence[int]) -> None:
    """Concatenates shapes only, to check that weights and teachers match in number.

    Raises:
        UserError: with the message of `gemb.losses.concatenate_teachers`.
    """
    rows = [jax.ShapeDtypeStruct((1, dim), jnp.float32) for dim in dims]
    try:
        jax.eval_shape(partial(losses.concatenate_teachers, weights=weights), *rows)
    except ValueError as error:
        raise UserError(f"teacher: {error}") from None


def check_loss(loss: Callable, dim: int, fields: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Calls the loss on shapes only, to check that it accepts and reads the teacher's fields.

    Args:
        loss: the run's loss.
        dim: of the student's vectors.
        fields: what the loss gets of the teacher, for `ROWS` queries and as many documents.

    Raises:
        UserError: with the loss's message, or if the loss reads none of the teacher's fields.
    """
    rows = jax.ShapeDtypeStruct((ROWS, dim), jnp.float32)

    def value(query, document, fields):
        return losses.evaluate(loss, query, document, jnp.arange(ROWS), fields)[0]

    try:
        jax.eval_shape(value, rows, rows, fields)
    except ValueError as error:
        if str(error).startswith(("teacher_", "guide_")):
            raise UserError(f"teacher: {error}") from None
        return  # the step reports it
    try:
        jax.eval_shape(value, rows, rows, {})
    except ValueError:  # expected: the loss needs the teacher's fields
        return
    raise UserError(
        "teacher: the loss does not read the teacher's fields; bind another loss, or no teacher"
    )
