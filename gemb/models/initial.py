"""Random initial weights, by family."""

from collections.abc import Callable

import jax

from gemb.models.spec import StackSpec

STDDEV = 0.02  # BERT's and most others' initializer_range


def normal(stddev: float = STDDEV) -> Callable:
    """(key, shape) -> normal values with this standard deviation."""
    return lambda key, shape: stddev * jax.random.normal(key, shape)


def initial(spec: StackSpec, part: str) -> Callable:
    """The initialiser of a part of a stack.

    normal:     standard deviation 0.02 everywhere (BERT, Llama, Qwen, Gemma, ...)
    modernbert: truncated at two deviations; outputs into the residual stream are divided by
                sqrt(2 layers)
    t5:         1 for tokens; by fan-in elsewhere, for queries also by the root of the head size

    Args:
        spec: the stack.
        part: "token", "relative", "query", "key", "value", "output", "gate", "up" or "down".

    Returns:
        (key, shape) -> array.

    Reference: Raffel et al., "T5", 2020, arXiv 1910.10683; Warner et al., "Smarter, Better, Faster,
        Longer" (ModernBERT), 2024, arXiv 2412.13663.
    """
    if spec.init == "t5":
        return normal(_t5_stddev(spec, part))
    if spec.init == "modernbert":
        writes = part in ("output", "down")
        stddev = STDDEV / (2 * spec.layers) ** 0.5 if writes else STDDEV
        return lambda key, shape: stddev * jax.random.truncated_normal(key, -2, 2, shape)
    return normal()


def _t5_stddev(spec: StackSpec, part: str) -> float:
    inner = spec.heads * spec.head_size
    fan_in = {
        "token": 1,
        "query": spec.width * spec.head_size,
        "output": inner,
        "down": spec.mlp,
    }
    return fan_in.get(part, spec.width) ** -0.5
