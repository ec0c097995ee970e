"""The metrics of a step: read from the device, recorded, and shown in the progress bar."""

import resource
import time

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from gemb.models.spec import ModelSpec
from gemb.parallel.placement import data_shard
from gemb.runs.records import Records
from gemb.structs import Batch
from gemb.training.bad_steps import BadSteps
from gemb.training.planning.chips import peak_flops
from gemb.training.planning.shapes import encoder_flops, shapes_of


class Meter:
    """Reads, checks and records the metrics of each step.

    Args:
        bar: the progress bar.
        records: where rows are written; None in processes that do not write.
        bad: handles steps that are not finite.
        spec: the model; None if no encoder runs.
        devices: the mesh.
    """

    def __init__(
        self,
        bar: tqdm,
        records: Records | None,
        bad: BadSteps,
        spec: ModelSpec | None,
        devices: Mesh,
    ):
        self._bar, self._records, self._bad, self._spec = bar, records, bad, spec
        self._parts = data_shard(devices)[1]
        peak = peak_flops(devices.devices.flat[0].device_kind)
        self._peak = peak and peak * devices.size
        self._waited, self._clock = 0.0, time.perf_counter()

    def restart(self) -> None:
        """Leaves out the time since the last row, which was not training."""
        self._waited, self._clock = 0.0, time.perf_counter()

    def wait_for(self, batches) -> Batch:
        """The next batch; records how long it took."""
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        return batch

    def read(self, step: int, batch: Batch, metrics: dict) -> dict[str, float]:
        """The row of a step: its metrics, rates and memory.

        "mfu" is the encoders' useful FLOPs as a share of the chips' bfloat16 peak
        (see `encoder_flops`); it is there only for chips whose peak is known.

        Raises:
            UserError: if more bad steps in a row occur than are allowed.
        """
        row = {name: float(value) for name, value in jax.device_get(metrics).items()}
        seconds = time.perf_counter() - self._clock
        tokens = int(batch.query.real.sum() + batch.document.real.sum())
        row["pairs_per_second"] = len(batch.positive) * self._parts / seconds
        row["tokens_per_second"] = tokens * self._parts / seconds
        if self._spec:
            sides = shapes_of(batch.query), shapes_of(batch.document)
            flops = encoder_flops(self._spec, *sides) * self._parts / seconds
            row["model_tflops_per_second"] = flops / 1e12
            if self._peak:
                row["mfu"] = flops / self._peak
        row["data_wait_fraction"] = min(1.0, self._waited / seconds)
        row["memory_mib"] = _peak_bytes() / 2**20
        self.restart()
        self._bad.look_at(step, batch, row)
        return row

    def write(self, step: int, row: dict[str, float]) -> None:
        """Records a row and advances the progress bar."""
        if self._records:
            self._records.write(step, row)
        self._bar.set_postfix(
            loss=f"{row['loss']:.3f}",
            pairs_s=f"{row['pairs_per_second']:.1f}",
            tokens_s=f"{row['tokens_per_second']:.0f}",
            refresh=False,
        )
        self._bar.update(1)


def _peak_bytes() -> int:
    """Peak memory of this process's fullest device; of the process itself on CPU."""
    devices = [device.memory_stats() or {} for device in jax.local_devices()]
    peak = max(stats.get("peak_bytes_in_use", 0) for stats in devices)
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux gives KiB
