"""Optimizers of tables of ids, which touch only the rows of a batch.

The dense parameters of a model keep their usual optimizer. See gemb.parallel.lookup.
`make_table_step` is a step over one table; `RowTables` puts tables of a model into the training
loop: a batch's distinct rows are taken out of each table, the model reads these in its place, and
only they are updated.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gemb.checks import UserError, check
from gemb.models.encoders.features import FeaturesSpec
from gemb.models.spec import ModelSpec
from gemb.parallel import lookup
from gemb.structs import SIDES, Batch, Features

_TABLES = "features/tables/"


class RowAdagrad(NamedTuple):
    """Row-wise Adagrad: one number of state for each row.

    a_r <- a_r + mean_d g_rd^2;  w_r <- w_r - rate g_r / sqrt(a_r + epsilon)

    Attributes:
        rate: learning rate.
        epsilon: added under the root.
        initial: a_r before the first step.

    Reference: Duchi et al., Adaptive Subgradient Methods, JMLR 2011; by rows: Naumov et al., Deep
        Learning Recommendation Model, 2019, arXiv 1906.00091.
    """

    rate: float = 0.05
    epsilon: float = 1e-8
    initial: float = 0.0

    def init(self, table: jax.Array) -> jax.Array:
        """[rows] float32, with the layout of the table."""
        return jnp.full_like(table[:, 0], self.initial, dtype=jnp.float32)

    def rows(self, values: jax.Array, state: jax.Array, gradient: jax.Array):
        """The new values [n, dim] and state [n] of some rows."""
        state = state + jnp.mean(jnp.square(gradient), axis=1)
        step = self.rate * gradient / jnp.sqrt(state + self.epsilon)[:, None]
        return values - step, state


def make_table_step(
    loss: Callable[[jax.Array, jax.Array], jax.Array], optimizer: RowAdagrad, mesh: Mesh
) -> Callable:
    """A compiled step over one table: look up, loss, gradient of the taken rows, update.

    Args:
        loss: (vectors with the shape of the ids and a last axis, rest) -> scalar.
        optimizer: of the rows.
        mesh: of the table.

    Returns:
        (table, state, ids, rest) -> (table, state, loss); table and state are donated. The time and
        the memory of a step do not depend on the rows of the table.

    Raises:
        ValueError: for a rate that is not above 0.
    """
    check(optimizer.rate > 0, f"rate: expected above 0, got {optimizer.rate}")

    def step(table, state, ids, rest):
        taken = lookup.take(table, ids, mesh)

        def value(vectors):
            return loss(vectors[taken.place], rest)

        total, gradient = jax.value_and_grad(value)(taken.vectors)
        table, state = lookup.update(optimizer.rows, table, state, taken.ids, gradient, mesh)
        return table, state, total

    return jax.jit(step, donate_argnums=(0, 1))


@dataclasses.dataclass(frozen=True)
class RowTables:
    """Tables of a model that are trained by rows, for `Experiment.rows`.

    Attributes:
        optimizer: of their rows. Its learning rate has no schedule.
        tables: regular expression of their names; "" for all tables of the model.
    """

    optimizer: RowAdagrad = dataclasses.field(default_factory=RowAdagrad)
    tables: str = ""

    def columns(self, spec: ModelSpec) -> dict[str, tuple[str, ...]]:
        """Path of each table -> the columns that read it.

        Raises:
            UserError: for a model without such tables, or tables whose rows have weights.
        """
        encoder = spec.query.encoder
        if not isinstance(encoder, FeaturesSpec):
            raise UserError("rows: only models over features have tables of ids")
        made: dict[str, tuple[str, ...]] = {}
        for side in SIDES:
            for part in getattr(encoder, side).parts:
                if part.table and re.search(self.tables, part.table):
                    if part.pool == "attention":
                        raise UserError(
                            f"rows: the column {part.name!r} has a weight for each row of "
                            f"{part.table!r} (pool 'attention'); choose another pool"
                        )
                    path = _TABLES + part.table
                    made[path] = (*made.get(path, ()), f"{side}/{part.name}")
        if not made:
            raise UserError(f"rows: no table of the model matches {self.tables!r}")
        return made

    def join(self, dense: optax.GradientTransformation, spec: ModelSpec) -> "WithRows":
        """The optimizer of the whole model: `dense` for all but the tables."""
        check(self.optimizer.rate > 0, f"rate: expected above 0, got {self.optimizer.rate}")
        columns = self.columns(spec)

        def init(params: Mapping) -> RowState:
            rest = {path: value for path, value in params.items() if path not in columns}
            rows = {path: self.optimizer.init(params[path]) for path in columns}
            return RowState(dense.init(rest), rows)

        return WithRows(init, dense, self.optimizer, columns)


class RowState(NamedTuple):
    """The optimizer's state of a model with tables that are trained by rows.

    Attributes:
        dense: optax's state of all other parameters.
        rows: path of a table -> [rows] float32.
    """

    dense: optax.OptState
    rows: dict[str, jax.Array]


class WithRows(NamedTuple):
    """Takes the place of an optax transformation in `gemb.training.step`.

    Attributes:
        init: params -> RowState.
        dense: the transformation of the other parameters.
        optimizer: of rows.
        columns: path of each table -> the columns that read it.
    """

    init: Callable[[Mapping], RowState]
    dense: optax.GradientTransformation
    optimizer: RowAdagrad
    columns: dict[str, tuple[str, ...]]

    def shardings(
        self, places: Mapping, moments: Any, shapes: Mapping, mesh: Mesh
    ) -> tuple[dict, RowState]:
        """The layouts of parameters and state: rows over all devices.

        Args:
            places: path -> layout of each parameter.
            moments: layouts of the dense state.
            shapes: path -> anything with a shape.
            mesh: the mesh.

        Raises:
            UserError: for a table whose rows do not divide over the devices.
        """
        for path in self.columns:
            rows = shapes[path].shape[0]
            if rows % mesh.size:
                raise UserError(
                    f"rows: {rows:,} rows of {path.removeprefix(_TABLES)!r} do not divide over "
                    f"{mesh.size} devices; bind towers.from_links.pad_rows to a multiple of them"
                )
        split = lookup.table_sharding(mesh)
        return dict(places) | dict.fromkeys(self.columns, split), RowState(
            moments, dict.fromkeys(self.columns, split)
        )

    def taken(
        self, params: dict, batch: Batch, mesh: Mesh
    ) -> tuple[dict, Batch, dict[str, lookup.Taken]]:
        """Parameters with a batch's distinct rows in place of the tables, and the batch for them.

        Row 0, which is padding, is always the first of the rows.
        """
        sides = {side: dict(getattr(batch, side).columns) for side in SIDES}
        params, found = dict(params), {}
        for path, names in self.columns.items():
            table = params[path]
            arrays = [sides[name.split("/")[0]][name] for name in names]
            ids = jnp.concatenate([array.ravel() for array in arrays])
            padding = jnp.zeros(-len(ids) % mesh.size or mesh.size, ids.dtype)
            taken = lookup.take(table, jnp.concatenate([padding, ids]), mesh, spread=False)
            places, start = taken.place[len(padding) :], 0
            for name, array in zip(names, arrays, strict=True):
                size = math.prod(array.shape)
                part = places[start : start + size]
                sides[name.split("/")[0]][name] = part.reshape(array.shape)
                start += size
            params[path], found[path] = taken.vectors, taken
        given = {side: Features(columns) for side, columns in sides.items()}
        return params, batch._replace(**given), found

    def updated(
        self,
        params: dict,
        state: RowState,
        gradients: dict,
        taken: Mapping[str, lookup.Taken],
        mesh: Mesh,
    ) -> tuple[dict, RowState]:
        """The parameters and the state after a step; gradients of tables are those of `taken`."""
        rest = {path: value for path, value in params.items() if path not in self.columns}
        slopes = {path: gradients[path] for path in rest}
        updates, dense = self.dense.update(slopes, state.dense, rest)
        made, rows = dict(optax.apply_updates(rest, updates)), {}
        for path, found in taken.items():
            made[path], rows[path] = lookup.update(
                self.optimizer.rows, params[path], state.rows[path], found.ids, gradients[path],
                mesh, spread=False,
            )  # fmt: skip
        return made, RowState(dense, rows)
