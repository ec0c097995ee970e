"""Time and memory of the losses, one JSON line a row.

    python benchmarks/losses.py                      # memory at 32,768 rows; compiles, runs nothing
    python benchmarks/losses.py --suite time         # seconds, blockwise against dense
    python benchmarks/losses.py --suite matryoshka   # five widths against a MiniLM-sized train step

`temp_mib` is what XLA sets aside beyond arguments and results (the inputs and their gradients);
`ratio` compares medians of interleaved runs with the row's dense twin.
"""

import argparse
import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from gemb import losses

FORMS = {
    "dense": {},
    "dense symmetric": {"symmetric": True},
    "blockwise": {},
    "blockwise symmetric": {"symmetric": True},
}


def batch_of(rows: int, dim: int):
    """Abstract arguments (query, document, positive, masks, ids) of a batch of pairs."""
    vectors = jax.ShapeDtypeStruct((rows, dim), jnp.float32)
    whole = jax.ShapeDtypeStruct((rows,), jnp.int32)
    truth = jax.ShapeDtypeStruct((rows,), jnp.bool_)
    return vectors, vectors, whole, truth, whole


def gradient_of(name: str, block: int):
    """The jitted mean loss with its gradients to queries and documents."""
    form = losses.Blockwise(block=block) if name.startswith("blockwise") else "dense"
    loss = functools.partial(losses.info_nce, form=form, **FORMS[name])

    def mean(query, document, positive, mask, ids):
        masks = {"query_mask": mask, "document_mask": mask}
        fields = losses.Fields(**masks, query_id=ids, document_id=ids)
        return jnp.sum(loss(query, document, positive, fields=fields)) / jnp.sum(mask)

    return jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))


def measure_memory(rows: int, dim: int, block: int, forms: list[str]) -> None:
    """XLA's temporary bytes of each form."""
    for name in forms:
        compiled = gradient_of(name, block).lower(*batch_of(rows, dim)).compile()
        temp = compiled.memory_analysis().temp_size_in_bytes / 2**20
        show(suite="memory", form=name, rows=rows, dim=dim, block=block, temp_mib=round(temp, 1))


def measure_time(rows: int, dim: int, block: int, repeats: int, forms: list[str]) -> None:
    """Median seconds of each form, and its ratio to the dense form of the same kind."""
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(rows, dim)).astype(np.float32) for _ in range(2)]
    vectors = [jnp.asarray(v / np.linalg.norm(v, axis=1, keepdims=True)) for v in vectors]
    arange = jnp.arange(rows, dtype=jnp.int32)
    arguments = (*vectors, arange, jnp.ones(rows, bool), arange)
    runs = {name: gradient_of(name, block).lower(*batch_of(rows, dim)).compile() for name in forms}
    medians = interleave(
        {name: functools.partial(run, *arguments) for name, run in runs.items()}, repeats
    )
    for name, seconds in medians.items():
        twin = medians.get(name.replace("blockwise", "dense"), seconds)
        ratio = round(seconds / twin, 3)
        show(suite="time", form=name, rows=rows, dim=dim, block=block, seconds=seconds, ratio=ratio)


def measure_matryoshka(batch: int, length: int, repeats: int) -> None:
    """What four more widths add to a train step as heavy as MiniLM's (6 layers of 384)."""
    single = functools.partial(losses.info_nce)
    nested = functools.partial(losses.matryoshka, widths=(384, 192, 96, 48, 24))
    weights = encoder_weights(layers=6, width=384)
    tokens = jnp.asarray(
        np.random.default_rng(0).normal(size=(2 * batch, length, 384)), jnp.float32
    )

    def step(loss, weights, tokens):
        def mean(weights):
            rows = encode(weights, tokens)
            return jnp.mean(loss(rows[:batch], rows[batch:], jnp.arange(batch)))

        return jax.value_and_grad(mean)(weights)

    runs = {
        name: functools.partial(jax.jit(functools.partial(step, loss)), weights, tokens)
        for name, loss in (("one width", single), ("five widths", nested))
    }
    medians = interleave(runs, repeats)
    for name, seconds in medians.items():
        ratio = round(seconds / medians["one width"], 4)
        show(suite="matryoshka", form=name, rows=batch, length=length, seconds=seconds, ratio=ratio)


def encoder_weights(layers: int, width: int) -> list[dict[str, jax.Array]]:
    """Random weights with the matrices of a transformer encoder."""
    rng = np.random.default_rng(1)
    shapes = {"qkv": (width, 3 * width), "out": (width, width)}
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
    return [
        {k: jnp.asarray(rng.normal(size=s) / s[0] ** 0.5, jnp.float32) for k, s in shapes.items()}
        for _ in range(layers)
    ]


def encode(weights, hidden) -> jax.Array:
    """The arithmetic of a transformer encoder with mean pooling; 12 heads."""
    for layer in weights:
        rows, length, width = hidden.shape
        query, key, value = jnp.split(
            (hidden @ layer["qkv"]).reshape(rows, length, 3, 12, width // 12), 3, axis=2
        )
        mixed = jax.nn.dot_product_attention(query[:, :, 0], key[:, :, 0], value[:, :, 0])
        hidden = normalise(hidden + mixed.reshape(hidden.shape) @ layer["out"])
        hidden = normalise(hidden + jax.nn.gelu(hidden @ layer["up"]) @ layer["down"])
    pooled = jnp.mean(hidden, axis=1)
    return pooled / jnp.linalg.norm(pooled, axis=1, keepdims=True)


def normalise(hidden) -> jax.Array:
    """Layer norm without parameters."""
    return jax.nn.standardize(hidden, axis=-1, epsilon=1e-6)


def interleave(runs: dict, repeats: int) -> dict[str, float]:
    """Median seconds of each run; the runs take turns, after one that does not count."""
    seconds = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(values), 4) for name, values in seconds.items()}


def show(**row) -> None:
    """Prints one row, with the device that it was measured on."""
    print(json.dumps(row | {"device": jax.devices()[0].device_kind}), flush=True)


def main() -> None:
    """Parses the flags and runs one suite."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=["memory", "time", "matryoshka"], default="memory")
    parser.add_argument("--rows", type=int, help="batch: 32768 for memory, 16384 for time, else 64")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--block", type=int, default=384, help="rows at a time, blockwise")
    parser.add_argument("--length", type=int, default=64, help="tokens of the matryoshka suite")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    flags = parser.parse_args()
    if flags.suite == "memory":
        measure_memory(flags.rows or 32768, flags.dim, flags.block, flags.forms)
    elif flags.suite == "time":
        measure_time(flags.rows or 16384, flags.dim, flags.block, flags.repeats, flags.forms)
    else:
        measure_matryoshka(flags.rows or 64, flags.length, flags.repeats)


if __name__ == "__main__":
    main()
