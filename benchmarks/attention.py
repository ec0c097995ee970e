"""Attention over long texts on a CPU: in blocks, all scores at once, and torch's; in turns.

    python benchmarks/attention.py           # extra: peers; one JSON line per shape

Times are medians over the turns in milliseconds of one layer's attention for one text, without its
linear maps; a ratio is the median over the turns of the other's time over the blocks'. torch runs
scaled_dot_product_attention with the same mask.
"""

import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch

from gemb.models import attention

TURNS = 5
# heads, size of a head, length, window: ViT at 2,520 patches, ModernBERT, EmbeddingGemma 2
SHAPES = (
    (12, 64, 1024, 0),
    (12, 64, 2520, 0),
    (12, 64, 8192, 0),
    (12, 64, 2048, 65),
    (12, 64, 8192, 65),
    (4, 256, 2048, 513),
    (4, 256, 8192, 513),
)


def attended(query, key, value, mask, window: int, blocks: bool):
    """One layer's attention, with or without blocks."""
    seen = attention.view(mask, causal=False, window=window, relative=None, backend="plain")
    if blocks:
        return attention.attend(query, key, value, seen)
    return attention._plain(query, key, value, seen.bias)


def main() -> None:
    random = np.random.default_rng(0)
    for heads, size, length, window in SHAPES:
        parts = [
            (random.normal(size=(1, heads, length, size)) * size**-0.25).astype(np.float32)
            for _ in range(3)
        ]
        mask = jnp.ones((1, length), bool)
        given = [torch.tensor(part) for part in parts]
        gap = torch.arange(length)[:, None] - torch.arange(length)
        near = gap.abs() < window if window else None

        def of_torch(given=given, near=near):
            with torch.inference_mode():
                return torch.nn.functional.scaled_dot_product_attention(
                    *given, attn_mask=near, scale=1.0
                )

        calls = {"torch": of_torch}
        for name in ("blocks", "at once"):
            run = jax.jit(
                lambda *x, mask=mask, window=window, name=name: attended(
                    *x, mask, window, name == "blocks"
                )
            )
            calls[name] = lambda run=run, parts=parts: run(*parts).block_until_ready()
        first = {name: np.asarray(call()) for name, call in calls.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(TURNS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(1000 * (time.perf_counter() - start))
        row: dict = {"heads": heads, "size": size, "length": length, "window": window}
        for name, found in first.items():
            row[name] = round(statistics.median(times[name]), 1)
            if name != "blocks":
                row[f"difference from {name}"] = float(np.abs(found - first["blocks"]).max())
                pairs = zip(times[name], times["blocks"], strict=True)
                row[f"ratio {name}"] = round(statistics.median(a / b for a, b in pairs), 2)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
