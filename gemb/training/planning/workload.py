"""What a run computes, its layout on a mesh, and the resulting sizes of its parameters.

`gemb.training.planning.estimate` computes its costs.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import optax

from gemb.models.execution import Execution
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.parallel.mesh import AXES, make_mesh
from gemb.structs import SIDES, Batch
from gemb.training.planning.shapes import Shapes, shapes_of
from gemb.training.state import TrainState, abstract_state, state_shardings


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run that do not change its results.

    Attributes:
        replica, fsdp, tensor: sizes of the mesh.
        query_microbatches, document_microbatches: gradient-cached microbatches of each side.
        execution: execution settings of the model.
    """

    replica: int
    fsdp: int
    tensor: int
    query_microbatches: int = 1
    document_microbatches: int = 1
    execution: Execution = Execution()

    @property
    def mesh(self) -> dict[str, int]:
        """Mesh axis -> size."""
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def devices(self) -> int:
        """Number of devices."""
        return math.prod(self.mesh.values())

    @property
    def parts(self) -> tuple[int, int]:
        """(query microbatches, document microbatches)."""
        return self.query_microbatches, self.document_microbatches

    @property
    def ways(self) -> int:
        """Number of parts that the batch is split into."""
        return self.replica * self.fsdp


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a run computes, independent of devices. Equal only to itself.

    Attributes:
        spec, loss, optimizer: as `make_step` takes them.
        batch: Batch of shapes, over all devices.
    """

    spec: ModelSpec
    loss: Callable
    optimizer: optax.GradientTransformation
    batch: Batch

    __hash__ = object.__hash__

    def __eq__(self, other) -> bool:
        return self is other

    @property
    def towers(self) -> int:
        """Number of towers: 2 if each side has its own weights."""
        return len(self.spec.towers)

    @property
    def sides(self) -> tuple[tuple[TowerSpec, int, int], ...]:
        """(spec, rows, length) of the queries and of the documents."""
        return tuple(
            (getattr(self.spec, side), *getattr(self.batch, side).real.shape) for side in SIDES
        )

    @property
    def inputs(self) -> tuple[Shapes, Shapes]:
        """The shapes of the Inputs of both sides."""
        return shapes_of(self.batch.query), shapes_of(self.batch.document)


def whole_share(work: Workload, settings: Settings) -> float:
    """Share of the layers' and tables' parameters that fsdp does not divide, so not split."""
    here = held(work, settings)
    split = here.split_layers + here.split_tables
    return 0.0 if settings.fsdp == 1 else 1 - split / max(here.layers + here.tables, 1)


def check_divides(work: Workload, settings: Settings) -> bool:
    """Whether rows and microbatches divide over the mesh, and heads and columns over tensor."""
    rows = all(
        rows % (settings.ways * parts) == 0
        for (_, rows, _), parts in zip(work.sides, settings.parts, strict=True)
    )
    stacks = [spec.encoder.stack for spec, *_ in work.sides]
    columns = all(n % settings.tensor == 0 for stack in stacks for n in _columns(stack))
    return rows and columns


def _columns(stack: StackSpec) -> set[int]:
    """Heads of keys and values of each layer, and the inner size of its feed-forward part."""
    return {stack.mlp, stack.kv_heads, *(kv_heads for kv_heads, _ in stack.layer_heads)}


@dataclasses.dataclass(frozen=True)
class Held:
    """State bytes and parameters of one device; parameters of layers and tables in total.

    Attributes:
        state: bytes of parameters and moments on one device.
        params: parameters on one device.
        layers, largest_layer, tables: parameters of all layers, of one, and of tables.
        split_layers, split_tables: the parameters of those that are split over fsdp.
    """

    state: int
    params: int
    layers: int
    largest_layer: int
    tables: int
    split_layers: int
    split_tables: int


def held(work: Workload, settings: Settings) -> Held:
    """What one device holds, and how many parameters are split."""
    state = abstract_on(work, settings.replica, settings.fsdp, settings.tensor)

    def size(leaf) -> int:
        return math.prod(leaf.sharding.shard_shape(leaf.shape))

    layers: dict[str, int] = {}
    tables, split = 0, [0, 0]
    for path, leaf in state.params.items():
        before, found, after = path.partition("/layers/")
        count, is_split = math.prod(leaf.shape), "fsdp" in leaf.sharding.spec
        if found:
            layer = f"{before}/{after.split('/')[0]}"
            layers[layer] = layers.get(layer, 0) + count
            split[0] += count * is_split
        elif path.endswith("/table"):
            tables += count
            split[1] += count * is_split
    return Held(
        sum(size(leaf) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
        sum(map(size, state.params.values())),
        sum(layers.values()),
        max(layers.values(), default=0),
        tables,
        *split,
    )


@functools.lru_cache(maxsize=64)
def abstract_on(work: Workload, replica: int, fsdp: int, tensor: int) -> TrainState:
    """The TrainState of shapes and shardings on an abstract mesh."""
    mesh = make_mesh(replica, fsdp, tensor, devices=replica * fsdp * tensor)
    places = state_shardings(work.spec, work.optimizer, mesh)
    return abstract_state(work.spec, work.optimizer, places)
