"""Optimizers of tables of ids, which touch only the rows of a batch.

The dense parameters of a model keep their usual optimizer. See gemb.parallel.lookup.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gemb.checks import check
from gemb.parallel import lookup


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
