"""Batches as a person reads them: pairs decoded, lengths, padding, rates."""

import json
from collections import defaultdict

import numpy as np

from gemb.data.batches import PairBatches
from gemb.structs import Batch, Tokens

_BARS = " ▁▂▃▄▅▆▇█"
_RATE_BATCHES, _RATE_ROWS = 10_000, 4_000_000
_BINS = 16


def inspect(batches: PairBatches, tokenizer_json: str, pairs: int = 3, count: int = 50) -> str:
    """Describes the next batches of a mixture.

    Args:
        batches: the mixture.
        tokenizer_json: its tokenizer.
        pairs: of each task, how many to show.
        count: batches to count lengths over.

    Returns:
        Text for a terminal.
    """
    decode = _Decoder(tokenizer_json)
    shown: dict[str, list[str]] = {name: [] for name in batches.names}
    seen: dict[str, list[tuple]] = defaultdict(list)
    for plan in batches.plans(count):
        batch = next(batches)
        for number in np.unique(plan.tasks):
            name, rows = batches.names[number], np.flatnonzero(plan.tasks == number)
            seen[name].append((batch, rows))
            for row in rows[: pairs - len(shown[name])]:
                shown[name].append(_pair(batch, int(row), decode))
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


class _Decoder:
    """Ids to text with special tokens left visible, which `Tokenizer.decode` hides."""

    def __init__(self, tokenizer_json: str):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        added = json.loads(tokenizer_json).get("added_tokens") or ()
        self._special = {token["id"]: token["content"] for token in added}

    def __call__(self, tokens: Tokens, row: int) -> str:
        ids, mask = tokens.ids[row], tokens.mask[row]
        pieces, run = [], []
        for token in ids[mask].tolist():
            if token in self._special:
                pieces += [self._tokenizer.decode(run), self._special[token]]
                run = []
            else:
                run.append(token)
        text = " ".join(piece for piece in [*pieces, self._tokenizer.decode(run)] if piece)
        hidden = int((~mask).sum())
        return f"{text!r}" + (f" + {hidden} padding" if hidden else "")


def _pair(batch: Batch, row: int, decode: _Decoder) -> str:
    rows = len(batch.positive)
    count = len(batch.document_id) // rows - 1
    lines = [f"   query     {decode(batch.query, row)}"]
    lines.append(f"   document  {decode(batch.document, row)}")
    for place in range(rows + row * count, rows + (row + 1) * count):
        real = batch.document_mask[place]
        lines.append(f"   negative  {decode(batch.document, place) if real else 'none (masked)'}")
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
        masks = [getattr(batch, side).mask[rows] for batch, rows in seen]
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
