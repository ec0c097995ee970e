"""What is exported of a tower: token ids and a mask in, its vectors at every nested width out."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.layers import unit_length
from gemb.models.model import Tower
from gemb.models.spec import ModelSpec
from gemb.structs import Tokens

IDS, MASK, POOLED = "input_ids", "attention_mask", "pooled_mask"


class Program(NamedTuple):
    """A tower as one function.

    Attributes:
        call: (params, *inputs) -> one [batch, width] float32 for each of `outputs`.
        inputs: names; each is [batch, length] int32. The pooled mask, of models whose pooler does
            not see prompts, is 1 where the pooler looks.
        outputs: names -> width, widest first.
        max_length: the longest length.
    """

    call: Callable
    inputs: tuple[str, ...]
    outputs: dict[str, int]
    max_length: int

    def shapes(self) -> list[jax.ShapeDtypeStruct]:
        """Of the inputs, with symbolic sizes `batch` and `length`."""
        limits = ("batch >= 1", "length >= 1", f"length <= {self.max_length}")
        sizes = export.symbolic_shape("batch, length", constraints=limits)
        return [jax.ShapeDtypeStruct(sizes, jnp.int32)] * len(self.inputs)


def program(tower: Tower) -> Program:
    """The program of a tower: encoder, pooler, projection and normalisation."""
    spec, processor = tower.spec, tower.processor
    embed = functional(ModelSpec.of(spec)).document.embed
    execution = Execution(attention="plain")  # runs on every platform
    widths = tuple(dict.fromkeys((spec.dim, *spec.widths)))

    def call(params, ids, mask, pooled=None):
        looked = None if pooled is None else pooled > 0
        vectors = embed(params, Tokens(ids, mask > 0, looked), execution)
        parts = (jax.lax.slice_in_dim(vectors, 0, width, axis=1) for width in widths[1:])
        return vectors, *(unit_length(part) if spec.normalize else part for part in parts)

    inputs = (IDS, MASK) if processor.prompts.pooled else (IDS, MASK, POOLED)
    names = {f"embedding_{width}": width for width in widths}
    return Program(call, inputs, names, processor.max_length)
