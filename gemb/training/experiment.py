"""The Experiment value: everything that decides what a run trains, and how."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import optax

from gemb.checks import UserError, check, check_widths
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.model import Model
from gemb.models.spec import ModelSpec
from gemb.parallel.mesh import make_mesh
from gemb.processors.undecoded import PICTURES, Undecoded
from gemb.structs import Processors
from gemb.training.objectives.objective import Encoding, Objective
from gemb.training.optimizers import transformation
from gemb.training.row_optimizers import RowTables, WithRows
from gemb.training.step import PAIRS, make_step


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The value that `gemb.training.loop.train` and dry runs take.

    Attributes:
        model: spec, initial parameters (None: random) and processors.
        data: (processors, seed, shard) -> iterator of numpy Batch with get_state and set_state.
        loss: an in-batch loss, see gemb.losses.
        optimizer: (steps) -> optax transformation.
        steps: total number of steps.
        widths: nested widths to record in the trained model; default those of `model`.
        mesh: () -> mesh.
        seed: seed of random parameters, of the data's order and of dropout.
        checkpoint_steps: steps between checkpoints; one is always written at the end.
        keep_checkpoints: how many of the newest checkpoints to keep.
        keep_every: also keep checkpoints whose step is a multiple of this; 0 for none.
        keep_best: a score of the evaluators, such as "sts/spearman": the checkpoint with the
            highest value is also kept, and training returns that model.
        evaluators: name -> (model) -> {score: number}, see gemb.evaluation.in_training.
        evaluate_steps: steps between evaluations; 0 evaluates only after the last step, which is
            always evaluated.
        ema_decay: if above 0, a moving average of the weights with this decay is evaluated and
            returned.
        query_microbatches: gradient-cached microbatches of the queries.
        document_microbatches: gradient-cached microbatches of the documents.
        execution: how to compute the model: dtype, looped or unrolled layers, recomputation,
            attention, dropout.
        skip_bad_steps: how many steps in a row may have a loss or gradient that is not finite;
            such steps change neither weights nor moments. One more stops the run.
        teacher: adds fields to the batches, see gemb.training.distillation.teachers; None for none.
        objective: makes embeddings and fields for the loss from a batch, see
            gemb.training.objectives; default the teacher's, else `pairs`.
        quantize: params -> params for the forward pass and for the returned model, such
            as gemb.training.quantisation.int8_weights; None for unchanged weights.
        rows: tables of ids that are trained by rows, see
            gemb.training.row_optimizers.RowTables: for tables of gigabytes. None for none.
        tracker: where metrics are reported in addition to the run's own files: one of
            gemb.runs.trackers or several in a tuple; None for none.

    Raises:
        UserError: for settings that contradict each other.
    """

    model: Model
    data: Callable
    loss: Callable
    optimizer: Callable
    steps: int
    widths: tuple[int, ...] = ()
    mesh: Callable = make_mesh
    seed: int = 0
    checkpoint_steps: int = 50
    keep_checkpoints: int = 2
    keep_every: int = 0
    keep_best: str = ""
    evaluators: Mapping[str, Callable] | None = None
    evaluate_steps: int = 0
    ema_decay: float = 0.0
    query_microbatches: int = 1
    document_microbatches: int = 1
    execution: Execution = Execution()
    skip_bad_steps: int = 0
    teacher: Any = None
    objective: Objective | None = None
    quantize: Callable | None = None
    rows: RowTables | None = None
    tracker: Any = None

    def __post_init__(self):
        for name in (
            "checkpoint_steps", "keep_checkpoints", "query_microbatches", "document_microbatches"
        ):  # fmt: skip
            value = getattr(self, name)
            check(value >= 1, f"{name}: expected 1 or more, got {value}")
        for tracker in self.trackers:
            fits = hasattr(tracker, "start") and not isinstance(tracker, type)
            check(fits, f"tracker: expected such as @trackers.Wandb(), got {tracker!r:.60}")
        check(self.steps >= 0, f"steps: expected 0 or more, got {self.steps}")
        _ = self.spec
        if hasattr(self.teacher, "attach"):
            self.teacher.attach(self.model)
        needed = getattr(self.teacher, "objective", None)
        if needed and self.objective and type(self.objective) is not type(needed):
            raise UserError(
                "objective: this teacher needs its own objective; do not bind OBJECTIVE"
            )
        if self.quantize and any(p.endswith("/lora_a") for p in functional(self.spec).shapes):
            raise UserError(
                "quantize: does not work with LoRA, whose weights are merged after training"
            )

        if self.rows and (self.ema_decay or self.skip_bad_steps or self.quantize):
            raise UserError(
                "rows: do not work with ema_decay, skip_bad_steps or quantize, which read whole "
                "tables"
            )

    @functools.cached_property
    def spec(self) -> ModelSpec:
        """The model's spec, with the widths of the experiment."""
        widths = check_widths("widths", self.widths or self.model.spec.widths, self.model.spec.dim)
        return self.model.spec.with_widths(widths)

    @functools.cached_property
    def trained_by(self) -> Objective:
        """The objective in use: the experiment's, the teacher's, or the default."""
        return self.objective or getattr(self.teacher, "objective", None) or PAIRS

    @property
    def trackers(self) -> tuple:
        """The trackers as a tuple."""
        if isinstance(self.tracker, tuple | list):
            return tuple(self.tracker)
        return () if self.tracker is None else (self.tracker,)

    @functools.cached_property
    def encoding(self) -> Encoding:
        """The functions and settings with which objectives embed."""
        microbatches = (self.query_microbatches, self.document_microbatches)
        return Encoding(functional(self.spec), self.execution, *microbatches)

    @functools.cached_property
    def transform(self) -> optax.GradientTransformation | WithRows:
        """The optax transformation that updates the parameters."""
        dense = transformation(
            self.optimizer,
            steps=self.steps,
            ema_decay=self.ema_decay,
            skip_bad_steps=self.skip_bad_steps,
            trained=self.trained_by.trained(self.model, self.teacher),
        )
        return self.rows.join(dense, self.spec) if self.rows else dense

    def step(self, places=None) -> Callable:
        """The compiled step, see `gemb.training.step.make_step`; places: shardings of the state."""
        return make_step(
            self.encoding,
            self.loss,
            self.transform,
            objective=self.trained_by,
            teacher=self.teacher,
            quantize=self.quantize,
            seed=self.seed,
            out_shardings=places,
        )

    def batches(self, shard: tuple[int, int] = (0, 1)):
        """The run's data, for one of several hosts: shard is (index, count)."""
        processors = self.model.processors
        if not self.trained_by.runs_encoder:
            processors = Processors(
                *(Undecoded(p) if p.modality in (*PICTURES, "video") else p for p in processors)
            )
        return self.data(processors, self.seed, shard)
