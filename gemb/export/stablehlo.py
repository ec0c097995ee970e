"""A tower as a StableHLO program with its weights inside, which `jax.export` reads."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from gemb.export.program import program
from gemb.models.model import Tower

NAME = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(tower: Tower, folder: Path) -> Path:
    """Writes model.stablehlo: any batch, any length up to the limit, on any of PLATFORMS.

    Returns:
        Its path.
    """
    made = program(tower)
    params = {path: jnp.asarray(value, jnp.float32) for path, value in tower.params.items()}

    def call(*inputs):
        return dict(zip(made.outputs, made.call(params, *inputs), strict=True))

    exported = export.export(jax.jit(call), platforms=PLATFORMS)(*made.shapes())
    path = folder / NAME
    path.write_bytes(exported.serialize())
    return path


class StableHloEncoder:
    """An exported file, called by JAX.

    Args:
        path: the file.
        tower: not read; encoders of other formats want it.
    """

    def __init__(self, path: Path, tower: Tower | None = None):
        self._call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """[batch, length] arrays in the order of the program's inputs -> one array an output."""
        outputs = self._call(*(jnp.asarray(value, jnp.int32) for value in inputs))
        widest_first = sorted(outputs.values(), key=lambda vectors: -vectors.shape[1])
        return [np.asarray(vectors) for vectors in widest_first]
