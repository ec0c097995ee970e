"""The text of a dry run on chips that are not attached."""

import math

import jax
import numpy as np

from gemb.checks import UserError
from gemb.models.functional import functional
from gemb.structs import Batch
from gemb.training.experiment import Experiment
from gemb.training.planning import chips
from gemb.training.planning.advice import Verdict, advise, bindings, judge
from gemb.training.planning.dry_run import sharding_table
from gemb.training.planning.workload import Settings, Workload, check_divides, whole_share
from gemb.training.state import state_shardings

UTILISATION = 0.4
_GIB, _TERA = 2**30, 1e12


def dry_run_on_chips(experiment: Experiment, on: str, *, utilisation: float = UTILISATION) -> str:
    """Describes a run on named chips without having them, and without allocating arrays.

    Args:
        experiment: the run; one batch is read for its shapes.
        on: NAME:COUNT, see gemb.training.planning.chips.
        utilisation: assumed share of the peak at which matrix products run.

    Raises:
        UserError: for unknown chips, a mesh or batch that does not divide over them, or parts that
            are not supported: a teacher, an objective other than the default, an encoder that is
            not a transformer.
    """
    chip, count = chips.parse(on)
    if not 0 < utilisation <= 1:
        raise UserError(f"--utilisation: expected a share in (0, 1], got {utilisation}")
    _check_counted(experiment)
    batch = next(experiment.batches())
    work = Workload(experiment.spec, experiment.loss, experiment.transform, _shapes_of(batch))
    devices = experiment.mesh(devices=count)
    settings = Settings(
        **devices.shape,
        query_microbatches=experiment.query_microbatches,
        document_microbatches=experiment.document_microbatches,
        execution=experiment.execution,
    )
    table = sharding_table(work.spec, state_shardings(work.spec, work.optimizer, devices))
    return f"{describe(work, settings, chip, utilisation)}\n\n{table}"


def _check_counted(experiment: Experiment) -> None:
    if experiment.teacher is not None:
        raise UserError("--chips: teachers are not supported; remove the teacher")
    if experiment.objective is not None:
        raise UserError(
            "--chips: only the default objective is supported; do not bind an objective"
        )
    for tower in experiment.spec.towers.values():
        if tower.encoder.stack is None:
            kind = tower.encoder.modality
            raise UserError(
                f"--chips: the {kind} encoder is not a transformer, which --chips does not support"
            )


def _shapes_of(batch: Batch) -> Batch:
    """The batch with shapes instead of arrays."""
    arrays = jax.tree.map(np.asarray, batch)
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arrays)


def describe(work: Workload, settings: Settings, chip: chips.Chip, utilisation: float) -> str:
    """The text of a dry run.

    Raises:
        UserError: for a batch that does not divide over the mesh.
    """
    if not check_divides(work, settings):
        (_, queries, _), (_, documents, _) = work.sides
        raise UserError(
            f"--chips: {queries:,} queries and {documents:,} documents in "
            f"{settings.query_microbatches} and {settings.document_microbatches} microbatches do "
            f"not divide over replica x fsdp = {settings.ways}, or heads over tensor = "
            f"{settings.tensor}; choose BATCH_SIZE, microbatches or other mesh.make_mesh.*"
        )
    verdict = judge(work, settings, chip, utilisation)
    count = sum(math.prod(s.shape) for s in functional(work.spec).shapes.values())
    (_, queries, short), (_, documents, long) = work.sides
    rows = [
        ("parameters", f"{count:,}"),
        ("chips", _chips(settings, chip)),
        ("batch", f"{queries:,} x {short} queries, {documents:,} x {long} documents"),
        ("microbatches", f"{settings.query_microbatches}, {settings.document_microbatches}"),
        *((name, f"{b / _GIB:8.2f} GiB per device") for name, b in verdict.memory.items()),
        ("total", f"{_total(verdict)}, of {verdict.usable / _GIB:.2f} usable"),
        ("fits", "yes" if verdict.fits else "no"),
        *([] if verdict.fits else _advice(work, settings, chip, utilisation)),
        ("FLOPs", f"{verdict.executed / _TERA:,.1f} T per step and device"),
        ("", f"{verdict.useful / _TERA:,.1f} T without recomputation"),
        *(("receives", f"{b / _GIB:8.2f} GiB of {name}") for name, b in verdict.traffic.items()),
        *([("step", timing(verdict, utilisation))] if verdict.fits else []),
        *_remarks(work, settings),
    ]
    return "\n".join(f"{name:<16}{text}" for name, text in rows)


def timing(verdict: Verdict, utilisation: float) -> str:
    """The time of a step and its parts."""
    arithmetic = f"{verdict.arithmetic_seconds:.3g} s of arithmetic at {utilisation:.0%} of peak"
    traffic = f"{verdict.traffic_seconds:.3g} s of communication at the full rate of the links"
    return (
        f"{verdict.seconds:.3g} s, MFU {verdict.mfu:.0%}: {arithmetic} in parallel with {traffic}"
    )


def _chips(settings: Settings, chip: chips.Chip) -> str:
    each = f"{chip.flops / _TERA:g} bfloat16 TFLOP/s and {chip.memory / 1e9:g} GB each"
    return f"{settings.devices} x {chip.name}, {each}, as {settings.mesh}"


def _remarks(work: Workload, settings: Settings) -> list[tuple[str, str]]:
    remarks = []
    share = whole_share(work, settings)
    if share > 0.05:
        remarks.append(
            f"fsdp = {settings.fsdp} does not divide {share:.0%} of the weights; they are not split"
        )
    if not settings.execution.rounding:
        remarks.append(
            "the peak is for bfloat16, but dtype is float32, which is slower on every chip"
        )
    return [("remark", remark) for remark in remarks]


def _total(verdict: Verdict) -> str:
    return f"{sum(verdict.memory.values()) / _GIB:8.2f} GiB"


def _advice(work, settings: Settings, chip, utilisation: float) -> list[tuple[str, str]]:
    better = advise(work, settings, chip)
    after = judge(work, better, chip, utilisation)
    changes = [("change", line) for line in bindings(settings, better)]
    total = _total(after).strip()
    if after.fits:
        return [*changes, ("then", f"{total}; {timing(after, utilisation)}")]
    most = max(after.memory, key=after.memory.get)
    remedy = {
        "loss": "a blockwise loss (losses.info_nce.form = 'blockwise') or a smaller BATCH_SIZE",
        "embeddings": "a smaller BATCH_SIZE",
        "activations": "shorter texts",
    }.get(most, "more chips, or an optimizer with less state (lion, adafactor)")
    return [*changes, ("then", f"{total}, still too much, mostly {most}: use {remedy}")]
