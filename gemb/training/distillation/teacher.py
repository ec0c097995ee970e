"""What every teacher does before a run: checks that it fits the student, and joins the data."""

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

ROWS = 4  # of the shapes that a loss is tried on
_CUT_AFTER = 64  # texts before the share of cut ones says something


class Teacher:
    """A teacher that looks its fields up; others override what differs.

    Attributes:
        dim: of the vectors that losses get; 0 where the teacher gives none.
        normalizes: whether they are of unit length.
        models: those that ran or run, which count the texts that they cut.
        objective: the one that reads the teacher's fields, where the default does not.
        role: how the fields with its vectors begin: "teacher", or "guide".
    """

    role = "teacher"

    dim, normalizes, models, objective = 0, True, (), None

    @property
    def identity(self) -> str:
        """Of all that decides its fields."""
        raise NotImplementedError

    def fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """This host's part of the fields, by numpy; called in the thread that makes batches."""
        raise NotImplementedError

    def example_fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """Fields of the same shapes, for a dry run; what is looked up need not be there yet."""
        return self.fields(queries, documents)

    def compute(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """In the compiled step: the batch's fields as losses want them."""
        del params
        return batch.fields

    def open(self, workdir: Path | None) -> None:
        """Opens what is looked up.

        Raises:
            UserError: naming the command that makes what is missing.
        """

    def params(self, mesh: Mesh, abstract: bool = False) -> Any:
        """The parameters that `compute` gets, on the mesh; or only their shapes."""
        del mesh, abstract

    def join(self, spec: ModelSpec, loss: Callable, batches, mesh: Mesh, workdir: Path) -> Any:
        """Adds the teacher's fields to the run's batches; the parameters for the step come back.

        Args:
            spec: the student.
            loss: the run's loss.
            batches: the run's `PairBatches`, before the first batch is taken.
            mesh: where the student is.
            workdir: the run's folder.

        Raises:
            UserError: if teacher, student and loss do not fit, or vectors are missing.
        """
        self.check(spec, loss)
        self.open(workdir)
        batches.annotate_with(self.fields, self.identity)
        return self.params(mesh)

    def rehearse(self, spec: ModelSpec, loss: Callable, batches, mesh: Mesh) -> Any:
        """As `join`, for a dry run: nothing needs to be there but the models."""
        self.check(spec, loss)
        batches.annotate_with(self.example_fields, "")
        return self.params(mesh, abstract=True)

    def check(self, spec: ModelSpec, loss: Callable) -> None:
        """Whether the student's vectors can be held against the teacher's.

        Raises:
            UserError: if only one of them is of unit length, or the loss refuses the widths.
        """
        if not self.dim:
            return
        unit = spec.normalize
        if unit != self.normalizes:
            words = ("are", "are not") if unit else ("are not", "are")
            raise UserError(
                f"teacher: the student's vectors {words[0]} of unit length and the teacher's "
                f"{words[1]}; bind adapt.load.normalize to make them alike"
            )
        check_loss(loss, spec.dim, self.taught())

    def taught(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What losses get of a teacher of vectors, for `ROWS` queries and as many documents."""
        rows = jax.ShapeDtypeStruct((ROWS, self.dim), jnp.float32)
        return {f"{self.role}_query": rows, f"{self.role}_document": rows}

    def report_cuts(self) -> None:
        """Warns, once a model, that its tokenizer cuts texts, and how many."""
        for model in self.models:
            if model.cut and model.seen >= _CUT_AFTER and not model.told:
                model.told = True
                share, lengths = model.cut / model.seen, sorted(set(model.lengths.values()))
                print(
                    f"warning: the teacher {model.name} cuts {share:.1%} of the texts to "
                    f"{' and '.join(map(str, lengths))} tokens and embeds what is left",
                    file=sys.stderr,
                )


class EmbeddingTeacher(Teacher):
    """A teacher with a vector for each text: one model's, or those of several side by side.

    Args:
        models: one or more.
        weights: of several, how much each counts, see `gemb.losses.concatenate_teachers`; all 1 if
            empty.

    Raises:
        UserError: unless there are no weights, or one above zero for each model.
    """

    rounding = ""  # of the vectors, where they are not as computed

    def __init__(self, models: Sequence, weights: Sequence[float] = ()):
        self.models, self._weights = list(models), tuple(weights)
        self.dim = sum(model.dim for model in models)
        self.normalizes = len(models) > 1 or models[0].normalizes
        check_weights(self._weights, [model.dim for model in models])

    @property
    def identity(self) -> str:
        """Fingerprints, lengths, rounding and weights."""
        parts = [
            f"{m.fingerprint} {sorted(m.lengths.items())}{m.rounding}{self.rounding}"
            for m in self.models
        ]
        return "+".join(parts) + (f" {self._weights}" if self._weights else "")

    def concatenated(self, parts: Sequence):
        """The models' [rows, dim] vectors as one; a single model's as they are."""
        if len(parts) == 1:
            return parts[0]
        return losses.concatenate_teachers(*parts, weights=self._weights)


def check_weights(weights: Sequence[float], dims: Sequence[int]) -> None:
    """Concatenates shapes alone, to see whether the weights are those of as many teachers.

    Raises:
        UserError: with what `gemb.losses.concatenate_teachers` says of them.
    """
    rows = [jax.ShapeDtypeStruct((1, dim), jnp.float32) for dim in dims]
    try:
        jax.eval_shape(partial(losses.concatenate_teachers, weights=weights), *rows)
    except ValueError as error:
        raise UserError(f"teacher: {error}") from None


def check_loss(loss: Callable, dim: int, fields: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Calls the loss on shapes alone, to see whether it takes what a teacher gives.

    Args:
        loss: the run's loss.
        dim: of the student's vectors.
        fields: what the loss gets of the teacher, for `ROWS` queries and as many documents.

    Raises:
        UserError: with what the loss says of the teacher, or if it reads nothing of it.
    """
    rows = jax.ShapeDtypeStruct((ROWS, dim), jnp.float32)

    def value(query, document, fields):
        return losses.evaluate(loss, query, document, jnp.arange(ROWS), fields)[0]

    try:
        jax.eval_shape(value, rows, rows, fields)
    except ValueError as error:
        if str(error).startswith(("teacher_", "guide_")):
            raise UserError(f"teacher: {error}") from None
        return  # the step says it
    try:
        jax.eval_shape(value, rows, rows, {})
    except ValueError:  # as it should be: the loss cannot do without
        return
    raise UserError("teacher: the loss reads nothing of it; bind another loss, or no teacher")
