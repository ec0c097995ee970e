"""The encoder of features: tables of ids, numbers and vectors of a record to one vector.

Both sides are one encoder, so that they can share tables: the items of a user's history can have
the vectors that the items themselves have.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.execution import Execution
from gemb.models.layers import Linear, dropout, parameter, unit_length
from gemb.models.spec import StackSpec
from gemb.models.stack import Stack
from gemb.parallel.rules import constrain
from gemb.structs import SIDES, Features

POOLS = ("mean", "root", "attention", "causal")
TOPS = ("sum", "mlp", "cross")


@dataclasses.dataclass(frozen=True)
class Part:
    """What the encoder does with one column.

    Attributes:
        name: of the column.
        table: of the rows of a column of ids; "" for a column of numbers.
        size: numbers of a column of numbers.
        pool: how several rows become one vector: "mean", "root" (their sum over the root of their
            count), "attention" (a learned weight for each row), "causal" (the last output of a
            causal transformer over them).
        drop: share of the records whose part is left out in training, so that the others must do
            without it; like `dropout`, only where the execution has dropout.
        drop_rows: share of single rows that are left out, likewise.
    """

    name: str
    table: str = ""
    size: int = 0
    pool: str = "root"
    drop: float = 0.0
    drop_rows: float = 0.0

    def __post_init__(self):
        check(bool(self.table) != bool(self.size), f"{self.name}: expected a table or a size")
        check(self.pool in POOLS, f"{self.name}: pool: expected one of {POOLS}, got {self.pool!r}")
        for name in ("drop", "drop_rows"):
            value = getattr(self, name)
            check(0 <= value < 1, f"{self.name}: {name}: expected 0 to 1, got {value}")


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of the encoder.

    Attributes:
        parts: one for each column.
        top: "sum" of all parts; "mlp" over all parts side by side; "cross": DCN-v2's layers
            x <- x0 * (W x + b) + x over them, then a linear map.
        layers: sizes of the hidden layers of "mlp", or how many there are of "cross" as their
            length.

    Reference of "cross": Wang et al., DCN V2, WWW 2021, arXiv 2008.13535.
    """

    parts: tuple[Part, ...]
    top: str = "sum"
    layers: tuple[int, ...] = ()

    def __post_init__(self):
        check(self.top in TOPS, f"top: expected one of {TOPS}, got {self.top!r}")


@dataclasses.dataclass(frozen=True)
class Wide:
    """Trailing coordinates of all vectors that are a linear model's, next to the deep part.

    The query's are the sum of its history's rows over the root of their count; the document's are
    its own row. Both have tables of their own that training does not change.

    Attributes:
        width: how many coordinates.
        query, document: names of the parts whose ids they use; both have one vocabulary.

    Reference: Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016,
        arXiv 1606.07792: a linear model remembers pairs, the deep one generalises. There both
        are trained together; here the deep one is trained alone (see docs/concepts/two_towers.md).
    """

    width: int
    query: str
    document: str


@dataclasses.dataclass(frozen=True)
class FeaturesSpec:
    """The spec of a features encoder.

    Attributes:
        tables: (name, rows) of each table; row 0 is padding.
        query, document: the sides.
        width: size of all vectors, the wide part included.
        history: the transformer of parts with the pool "causal"; None without them.
        untrained: leading rows of each table that start at zero: padding and unknown values.
        wide: the wide part; the other coordinates, the deep part, then have unit length.
    """

    tables: tuple[tuple[str, int], ...]
    query: Side
    document: Side
    width: int
    history: StackSpec | None = None
    untrained: int = 2
    wide: Wide | None = None

    modality: ClassVar[str] = "features"
    stack: ClassVar[None] = None

    @property
    def deep(self) -> int:
        """Coordinates of the deep part."""
        return self.width - (self.wide.width if self.wide else 0)

    def part(self, side: str, name: str) -> Part:
        """The part of a side with this name.

        Raises:
            ValueError: if there is none.
        """
        found = [part for part in getattr(self, side).parts if part.name == name]
        check(bool(found), f"{side}: there is no part {name!r}")
        return found[0]

    def __post_init__(self):
        known = dict(self.tables)
        for side in SIDES:
            for part in getattr(self, side).parts:
                found = not part.table or part.table in known
                check(found, f"{part.name}: there is no table {part.table!r}")
                stacked = part.pool != "causal" or self.history is not None
                check(stacked, f"{part.name}: history: expected a StackSpec for the causal pool")
        if self.wide:
            check(0 < self.wide.width < self.width, "wide: expected 1 to width - 1 coordinates")
            rows = {known[self.part(side, getattr(self.wide, side)).table] for side in SIDES}
            check(len(rows) == 1, "wide: expected a history and ids of one vocabulary")

    def build(self, key: jax.Array) -> "FeaturesEncoder":
        """Builds the encoder with random weights."""
        return FeaturesEncoder(self, key)


class FeaturesEncoder(nnx.Module):
    """Tables, one map per column of numbers, and what joins the parts of each side."""

    def __init__(self, spec: FeaturesSpec, key: jax.Array):
        keys = iter(jax.random.split(key, 4 + 2 * len(spec.tables) + 4 * _parts(spec)))
        width, axes = spec.deep, ("rows", "dim")
        scale = width**-0.5
        tables, pools, maps, tops = {}, {}, {}, {}
        for name, rows in spec.tables:
            drawn = scale * jax.random.normal(next(keys), (rows, width))
            known = (jnp.arange(rows) >= spec.untrained)[:, None]
            tables[name] = parameter(jnp.where(known, drawn, 0), *axes)
        for side in SIDES:
            for part in getattr(spec, side).parts:
                if part.pool == "attention":
                    rows = dict(spec.tables)[part.table]
                    pools[f"{side}_{part.name}"] = parameter(jnp.zeros(rows), "rows")
                if part.size:
                    maps[f"{side}_{part.name}"] = Linear(
                        part.size, width, ("width", "dim"), key=next(keys),
                        initial=lambda key, shape: scale * jax.random.normal(key, shape),
                    )  # fmt: skip
            tops[side] = Top(getattr(spec, side), width, next(keys))
        self.tables, self.pools = nnx.Dict(tables), nnx.Dict(pools)
        self.maps, self.tops = nnx.Dict(maps), nnx.Dict(tops)
        if spec.wide:
            rows = dict(spec.tables)[spec.part("query", spec.wide.query).table]
            empty = jnp.zeros((rows, spec.wide.width))
            self.wide = nnx.Dict({side: parameter(empty, *axes) for side in SIDES})
        if spec.history is not None:
            self.history = Stack(spec.history, key=next(keys))
        self.spec = spec

    def __call__(
        self,
        inputs: Features,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes records of one side: [rows, 1, width].

        Raises:
            ValueError: for `every_layer`, or columns that are not those of a side.
        """
        check(not every_layer, "every_layer: a features encoder has no layers")
        side = side_of(inputs.columns)
        parts = getattr(self.spec, side).parts
        names = {f"{side}/{part.name}" for part in parts}
        check(set(inputs.columns) == names, f"columns: expected {sorted(names)}")
        keys = [None] * (len(parts) + 1) if key is None else jax.random.split(key, len(parts) + 1)
        made = []
        for part, own in zip(parts, keys[1:], strict=True):
            vector = self._part(side, part, inputs.columns[f"{side}/{part.name}"], execution, own)
            made.append(_left_out(vector, part.drop, own))
        x = dropout(self.tops[side](made), execution.dropout, keys[0])
        if self.spec.wide:
            x = jnp.concatenate([unit_length(x), self._wide(side, inputs.columns, key)], axis=1)
        return x[:, None]

    def _wide(self, side: str, columns: Mapping[str, jax.Array], key) -> jax.Array:
        """[rows, wide]; 0 with a key: the linear model knows the events that are trained on."""
        array = columns[f"{side}/{getattr(self.spec.wide, side)}"]
        if key is not None:
            return jnp.zeros((len(array), self.spec.wide.width))
        table = jax.lax.stop_gradient(self.wide[side].get_value())
        rows = jnp.take(constrain(table, "rows", "dim"), array, axis=0)
        return _root_sum(rows, (array > 0).astype(table.dtype))

    def _part(self, side, part: Part, array, execution, key) -> jax.Array:
        if part.size:
            return self.maps[f"{side}_{part.name}"](array.astype(jnp.float32))
        real = array > 0
        if key is not None and part.drop_rows:
            kept = jax.random.bernoulli(jax.random.fold_in(key, 1), 1 - part.drop_rows, array.shape)
            real = real & kept
        table = self.tables[part.table].get_value()
        if array.shape[1] == 1:
            return jnp.where(
                real, jnp.take(constrain(table, "rows", "dim"), array[:, 0], axis=0), 0
            )
        vectors = jnp.take(constrain(table, "rows", "dim"), array, axis=0)
        if part.pool == "causal":
            return self._last(vectors, real, execution, key)
        weights = real.astype(vectors.dtype)
        if part.pool == "attention":
            weights = weights * jnp.exp(self.pools[f"{side}_{part.name}"].get_value()[array])
        if part.pool == "root":
            return _root_sum(vectors, weights)
        total = jnp.einsum("bl,bld->bd", weights, vectors)
        if part.pool == "mean":
            return total / jnp.maximum(weights.sum(1), 1)[:, None]
        return total * jax.lax.rsqrt(jnp.maximum(jnp.square(weights).sum(1), 1e-6))[:, None]

    def _last(self, vectors, real, execution, key) -> jax.Array:
        """[rows, width]: the transformer's output at the last real place; 0 without any."""
        states = self.history(vectors.astype(execution.dtype), real, execution, key)
        last = jnp.argmax(jnp.where(real, jnp.arange(real.shape[1]), -1), axis=1)
        found = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
        return jnp.where(real.any(1)[:, None], found, 0).astype(jnp.float32)

    def pooled(self, inputs: Features) -> jax.Array:
        """[rows, 1] bool: the one position."""
        return inputs.real


class Top(nnx.Module):
    """Joins the parts [rows, width] of a side to one vector [rows, width]."""

    def __init__(self, spec: Side, width: int, key: jax.Array):
        inputs, axes = len(spec.parts) * width, ("width", "dim")
        keys = jax.random.split(key, len(spec.layers) + 1)

        def linear(size, outputs, key):
            spread = size**-0.5
            draw = lambda key, shape: spread * jax.random.normal(key, shape)  # noqa: E731
            return Linear(size, outputs, axes, key=key, initial=draw)

        made = []
        if spec.top == "cross":
            made = [linear(inputs, inputs, own) for own in keys[:-1]]
        elif spec.top == "mlp":
            sizes = (inputs, *spec.layers)
            made = [
                linear(a, b, own) for a, b, own in zip(sizes, sizes[1:], keys[:-1], strict=False)
            ]
            inputs = sizes[-1]
        self.hidden = nnx.List(made)
        if spec.top != "sum":
            self.out = linear(inputs, width, keys[-1])
        self.top = spec.top

    def __call__(self, parts: list[jax.Array]) -> jax.Array:
        if self.top == "sum":
            return sum(parts)
        x0 = x = jnp.concatenate(parts, axis=1)
        for layer in self.hidden:
            x = x0 * layer(x) + x if self.top == "cross" else jax.nn.relu(layer(x))
        return self.out(x)


def side_of(columns: Mapping[str, jax.Array]) -> str:
    """The side whose columns these are, by their names "SIDE/COLUMN".

    Raises:
        ValueError: for columns of both sides.
    """
    found = {name.split("/")[0] for name in columns}
    check(len(found) == 1 and found <= set(SIDES), f"columns: of sides {sorted(found)}")
    return found.pop()


def _parts(spec: FeaturesSpec) -> int:
    return len(spec.query.parts) + len(spec.document.parts)


def _root_sum(vectors: jax.Array, weights: jax.Array) -> jax.Array:
    """[rows, width] sums of [rows, places, width] over the root of how many places are real."""
    total = jnp.einsum("bl,bld->bd", weights, vectors)
    return total * jax.lax.rsqrt(jnp.maximum(weights.sum(1), 1))[:, None]


def _left_out(vector: jax.Array, share: float, key: jax.Array | None) -> jax.Array:
    if key is None or not share:
        return vector
    kept = jax.random.bernoulli(jax.random.fold_in(key, 2), 1 - share, (vector.shape[0], 1))
    return jnp.where(kept, vector, 0)
