"""Batches as a person reads them: pairs decoded, lengths, padding, rates."""

from collections import defaultdict

import numpy as np

from gemb.data.batches import PairBatches
from gemb.structs import Batch, Processors

_BARS = " ▁▂▃▄▅▆▇█"
_RATE_BATCHES, _RATE_ROWS = 10_000, 4_000_000
_BINS = 16


def inspect(batches: PairBatches, pairs: int = 3, count: int = 50) -> str:
    """Describes the next batches of a mixture.

    Args:
        batches: the mixture.
        pairs: of each task, how many to show.
        count: batches to count lengths over.

    Returns:
        Text for a terminal.
    """
    shown: dict[str, list[str]] = {name: [] for name in batches.names}
    seen: dict[str, list[tuple]] = defaultdict(list)
    for plan in batches.plans(count):
        batch = next(batches)
        for number in np.unique(plan.tasks):
            name, rows = batches.names[number], np.flatnonzero(plan.tasks == number)
            seen[name].append((batch, rows))
            for row in rows[: pairs - len(shown[name])]:
                shown[name].append(_pair(batch, int(row), batches.processors))
    parts = [_rates(batches)]
    for name in batches.names:
        facts = batches.description["tasks"][name]
        parts.append(
            f"== {name}: {facts['pairs']:,} of {facts['records']:,} records give pairs, "
            f"{facts['bad']:,} bad, {facts['unfit']:,} unfit"
        )
        parts += shown[name] or [f"   did not come in {count} batches"]
        if seen[name]:
            parts.append(_lengths(seen[name]))
    return "\n".join(parts)


def _pair(batch: Batch, row: int, processors: Processors) -> str:
    query, document = (processor.describe for processor in processors)
    rows = len(batch.positive)
    count = len(batch.document_id) // rows - 1
    lines = [f"   query     {query(batch.query, row)}"]
    lines.append(f"   document  {document(batch.document, row)}")
    for place in range(rows + row * count, rows + (row + 1) * count):
        real = batch.document_mask[place]
        lines.append(f"   negative  {document(batch.document, place) if real else 'none (masked)'}")
    fields = {name: array[row] for name, array in (batch.fields or {}).items()}
    if fields:
        lines.append("   " + ", ".join(f"{name} {value}" for name, value in fields.items()))
    return "\n".join(lines) + "\n"


def _rates(batches: PairBatches) -> str:
    [first] = batches.plans(1)
    plans = batches.plans(min(_RATE_BATCHES, max(_RATE_ROWS // len(first.tasks), 1)))
    drawn = np.bincount(
        np.concatenate([plan.tasks for plan in plans]), minlength=len(batches.names)
    )
    per_batch = np.bincount([plan.tasks[0] for plan in plans], minlength=len(batches.names))
    counts = per_batch if batches.homogeneous else drawn
    lines = [f"rates over {len(plans):,} batches   asked   seen"]
    for name, count in zip(batches.names, counts, strict=True):
        asked = batches.description["tasks"][name]["rate"]
        lines.append(f"   {name:<24.24} {asked:>8.2%} {count / counts.sum():>7.2%}")
    return "\n".join(lines)


def _lengths(seen: list[tuple]) -> str:
    lines = []
    for side in ("query", "document"):
        masks = [getattr(batch, side).real[rows] for batch, rows in seen]
        sizes = np.concatenate([mask.sum(axis=1) for mask in masks])
        padding = 1 - sizes.sum() / sum(mask.size for mask in masks)
        longest = max(mask.shape[1] for mask in masks)
        bins = np.histogram(sizes, _BINS, (0, longest + 1))[0]
        bars = "".join(_BARS[int(np.ceil(8 * n / bins.max()))] for n in bins)
        shapes = sorted({mask.shape[1] for mask in masks})
        lines.append(
            f"   {side:<9} {bars} 0 to {longest} tokens, median {int(np.median(sizes))}, "
            f"{padding:.0%} padding, padded to {', '.join(map(str, shapes))}"
        )
    return "\n".join(lines)
