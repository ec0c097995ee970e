"""iALS: matrix factorisation of implicit feedback by alternating least squares, in JAX.

A row's best vector is the solution of A w = b with A = H'H + a G + r I, where H has the vectors of
its own items and G = V'V all of them. Conjugate gradients reach it without forming A: rows are
padded to a few lengths and each length is one compiled program.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from gemb import checks
from gemb.recommendation.baselines.baseline import interaction_matrix
from gemb.structs import Interactions

_PLACES = 1 << 13  # padded places of one block, so that its vectors stay in the processor's cache
_EXACT_STEPS = 30  # of conjugate gradients from zero, for users of whom only the items are known


class Factors:
    """Item vectors, and what a user's vector is computed with.

    Args:
        items: [items, dim] float32 vectors.
        unobserved: the weight of an item that the user does not have.
        regularisation: of the vectors.
        exponent: how the regularisation grows with a row's events.
    """

    def __init__(
        self, items: np.ndarray, *, unobserved: float, regularisation: float, exponent: float = 1.0
    ):
        self.items = np.asarray(items, np.float32)
        self.unobserved, self.regularisation = unobserved, regularisation
        self.exponent = exponent

    def users(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """[users, dim] float32, the best vectors of users by their items."""
        sides = _Side(histories)
        penalty = _penalties(sides, len(self.items), self._settings())
        zero = jnp.zeros((histories.shape[0], self.items.shape[1]), jnp.float32)
        items = jnp.asarray(self.items)
        return np.asarray(_half(sides, zero, items, penalty, self.unobserved, _EXACT_STEPS))

    def scores(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """[users, items] float32."""
        return self.users(histories) @ self.items.T

    def tensors(self) -> Mapping[str, np.ndarray]:
        """The vectors and the settings."""
        return {"items": self.items, "settings": np.array(self._settings(), np.float64)}

    def _settings(self) -> tuple[float, float, float]:
        return self.unobserved, self.regularisation, self.exponent


def ials(
    events: Interactions,
    users: int,
    items: int,
    *,
    dim: int = 64,
    unobserved: float = 0.1,
    regularisation: float = 0.01,
    exponent: float = 1.0,
    iterations: int = 16,
    steps: int = 3,
    seed: int = 0,
) -> Factors:
    """Fits user and item vectors by turns.

    sum_observed (1 - s)^2 + a sum_all s^2 + r sum_u (n_u + a items)^e |w_u|^2 + the same for items

    Args:
        events: the train events.
        users: how many users the table has.
        items: how many items the catalogue has.
        dim: size of the vectors.
        unobserved: a, the weight of every pair.
        regularisation: r.
        exponent: e, 1 for a regularisation that grows with a row's events, 0 for a constant one.
        iterations: of both sides.
        steps: of conjugate gradients in each, from the vectors of the last iteration.
        seed: of the first vectors.

    Raises:
        ValueError: for sizes below 1, or weights below 0.

    Reference: Hu, Koren and Volinsky, Collaborative filtering for implicit feedback datasets, 2008;
        Rendle et al., Revisiting the performance of iALS on item recommendation benchmarks,
        RecSys 2022; Takács, Pilászy and Tikk, Applications of the conjugate gradient method for
        implicit feedback collaborative filtering, RecSys 2011.
    """
    checks.check(min(dim, iterations, steps) >= 1, "dim, iterations, steps: expected at least 1")
    checks.check(min(unobserved, regularisation) >= 0, "weights: expected 0 or more")
    matrix = interaction_matrix(events, users, items)
    sides = (_Side(matrix), _Side(scipy.sparse.csr_array(matrix.T)))
    settings = (unobserved, regularisation, exponent)
    penalties = [
        _penalties(side, other, settings) for side, other in zip(sides, (items, users), strict=True)
    ]
    rng = np.random.default_rng(seed)
    vectors = [
        jnp.asarray(rng.normal(0, 0.1 / np.sqrt(dim), (count, dim)).astype(np.float32))
        for count in (users, items)
    ]
    for _ in range(iterations):
        for side in (0, 1):
            vectors[side] = _half(
                sides[side], vectors[side], vectors[1 - side], penalties[side], unobserved, steps
            )
    return Factors(
        np.asarray(vectors[1]),
        unobserved=unobserved,
        regularisation=regularisation,
        exponent=exponent,
    )


class _Side:
    """The rows of a matrix as padded blocks of a few lengths.

    Attributes:
        lengths: [rows] float32 entries of each row.
        blocks: (rows [blocks, rows], others [blocks, rows, length]) of each length; places behind
            the last row, and behind a row's last entry, hold the number of rows and of columns.
    """

    def __init__(self, matrix: scipy.sparse.csr_array):
        count, columns = matrix.shape
        lengths = np.diff(matrix.indptr)
        self.lengths = lengths.astype(np.float32)
        padded = np.array([_padded(length) for length in range(int(lengths.max(initial=0)) + 1)])
        self.blocks = []
        for length in np.unique(padded[lengths[lengths > 0]]):
            rows = np.flatnonzero((lengths > 0) & (padded[lengths] == length))
            size = max(1, _PLACES // int(length))
            blocks = -(-len(rows) // size)
            filled = np.full(blocks * size, count, np.int32)
            filled[: len(rows)] = rows
            others = np.full((blocks * size, length), columns, np.int32)
            place = np.repeat(np.arange(len(rows)), lengths[rows])
            starts = np.repeat(matrix.indptr[rows], lengths[rows])
            inside = np.arange(len(place)) - np.repeat(
                np.cumsum(lengths[rows]) - lengths[rows], lengths[rows]
            )
            others[place, inside] = matrix.indices[starts + inside]
            self.blocks.append((filled.reshape(blocks, size), others.reshape(blocks, size, length)))


def _padded(length: int) -> int:
    """The length that a row is padded to: at most a half more than it has."""
    size = 8
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def _penalties(side: _Side, others: int, settings: tuple[float, float, float]) -> jax.Array:
    unobserved, regularisation, exponent = settings
    return jnp.asarray(regularisation * (side.lengths + unobserved * others) ** exponent)


def _half(
    side: _Side,
    vectors: jax.Array,
    others: jax.Array,
    penalty: jax.Array,
    unobserved: float,
    steps: int,
) -> jax.Array:
    """The vectors of one side given the other's; a row without entries becomes 0."""
    padded = jnp.concatenate([others, jnp.zeros((1, others.shape[1]), jnp.float32)])
    gram = unobserved * (others.T @ others)
    made = jnp.zeros_like(vectors)
    for rows, entries in side.blocks:
        made = _solve(made, vectors, padded, gram, penalty, rows, entries, steps=steps)
    return made


@functools.partial(jax.jit, static_argnames="steps", donate_argnums=0)
def _solve(made, vectors, padded, gram, penalty, rows, entries, *, steps: int):
    """Conjugate gradients for the rows of all blocks of one length, block after block."""

    def solve_block(made, block):
        row, entry = block
        near = padded[entry]  # [rows, length, dim]; 0 behind the last entry
        start = vectors.at[row].get(mode="fill", fill_value=0)
        ridge = penalty.at[row].get(mode="fill", fill_value=1)[:, None]

        def product(vector):  # A vector, without A
            shares = jnp.einsum("rld,rd->rl", near, vector)
            return jnp.einsum("rld,rl->rd", near, shares) + vector @ gram + ridge * vector

        found = _conjugate_gradients(product, near.sum(axis=1), start, steps)
        return made.at[row].set(found, mode="drop"), None

    return jax.lax.scan(solve_block, made, (rows, entries))[0]


def _conjugate_gradients(product, target: jax.Array, start: jax.Array, steps: int) -> jax.Array:
    """Solves product(x) = target for each row, from `start`."""
    rest = target - product(start)

    def step(_, state):
        solution, rest, direction, size = state
        moved = product(direction)
        length = size / jnp.maximum((direction * moved).sum(axis=1, keepdims=True), 1e-30)
        solution = solution + length * direction
        rest = rest - length * moved
        new = (rest * rest).sum(axis=1, keepdims=True)
        direction = rest + new / jnp.maximum(size, 1e-30) * direction
        return solution, rest, direction, new

    size = (rest * rest).sum(axis=1, keepdims=True)
    return jax.lax.fori_loop(0, steps, step, (start, rest, rest, size))[0]
