"""iALS: matrix factorisation of implicit feedback by alternating least squares, in JAX.

A row's best vector is the solution of A w = b with A = H'H + a G + r I, where H has the vectors of
its own items and G = V'V all of them. Conjugate gradients reach it without forming A. The entries
of rows are cut into pieces of one length, and rows are put into blocks with about equally many
pieces, so that one compiled program solves all blocks of a side, each within the processor's
cache.
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

_PIECE = 8  # entries of a piece
_ROWS = 64  # of a block, so that the vectors of its entries stay in the processor's cache
_EXACT_STEPS = 30  # of conjugate gradients from zero, for users of whom only the items are known


class Factors:
    """Item vectors, and what a user's vector is computed with.

    Args:
        items: [items, dim] float32 vectors.
        unobserved: the weight of an item that the user does not have.
        regularisation: of the vectors.
        exponent: how the regularisation grows with a row's events.
    """

    kind = "factors"

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

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[users, items] float32."""
        return self.users(histories) @ self.items.T

    def tensors(self) -> Mapping[str, np.ndarray]:
        """The vectors and the settings."""
        return {"items": self.items, "settings": np.array(self._settings(), np.float64)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "Factors":
        """The model of saved tensors."""
        unobserved, regularisation, exponent = map(float, tensors["settings"])
        return cls(
            tensors["items"],
            unobserved=unobserved,
            regularisation=regularisation,
            exponent=exponent,
        )

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
    """The rows of a matrix in blocks; a row without entries is in none.

    Attributes:
        lengths: [rows] float32 entries of each row.
        rows: [blocks, rows of a block] int32; the number of rows where there is none.
        owners: [blocks, pieces] int32, the place in its block of the row that has a piece.
        entries: [blocks, pieces, _PIECE] int32 columns; the number of columns where there is none.
    """

    def __init__(self, matrix: scipy.sparse.csr_array):
        count, columns = matrix.shape
        lengths = np.diff(matrix.indptr)
        self.lengths = lengths.astype(np.float32)
        pieces = -(-lengths // _PIECE)
        order = np.argsort(-pieces, kind="stable")[: np.count_nonzero(pieces)]
        longest = max(int(pieces.max(initial=1)), 1)
        blocks = max(min(-(-len(order) // _ROWS), int(pieces.sum()) // longest), 1)
        # dealt out in alternating directions, the longest first: blocks get about equal numbers
        turn, place = np.divmod(np.arange(len(order)), blocks)
        block = np.where(turn % 2, blocks - 1 - place, place)
        ends = np.zeros((int(turn.max(initial=0)) + 1, blocks), np.int64)
        ends[turn, block] = pieces[order]
        ends = ends.cumsum(axis=0)
        self.rows = np.full((blocks, len(ends)), count, np.int32)
        self.rows[block, turn] = order
        self.owners = np.full((blocks, int(ends[-1].max())), len(ends), np.int32)
        self.entries = np.full((*self.owners.shape, _PIECE), columns, np.int32)
        first, of_block, slot = np.zeros((3, count), np.int64)
        first[order], of_block[order], slot[order] = ends[turn, block] - pieces[order], block, turn
        row = np.repeat(np.arange(count), lengths)
        inside = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], lengths)
        piece = first[row] + inside // _PIECE
        self.entries[of_block[row], piece, inside % _PIECE] = matrix.indices
        self.owners[of_block[row], piece] = slot[row]


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
    blocks = (side.rows, side.owners, side.entries)
    return _solve(vectors, others, penalty, jnp.float32(unobserved), blocks, steps=steps)


@functools.partial(jax.jit, static_argnames="steps")
def _solve(vectors, others, penalty, unobserved, blocks, *, steps: int):
    """The best vectors by conjugate gradients, block after block."""
    padded = jnp.concatenate([others, jnp.zeros((1, others.shape[1]), jnp.float32)])
    gram = unobserved * (others.T @ others)

    def solve_block(made, block):
        rows, owners, entries = block
        near = padded[entries]  # [pieces, _PIECE, dim]; 0 behind a row's last entry
        start = vectors.at[rows].get(mode="fill", fill_value=0)
        ridge = penalty.at[rows].get(mode="fill", fill_value=1)[:, None]

        def summed(parts):  # [pieces, dim] -> [rows, dim]
            return jax.ops.segment_sum(parts, owners, len(rows), indices_are_sorted=True)

        def product(vector):  # A vector, without A
            shares = jnp.einsum("pld,pd->pl", near, vector[owners])
            own = summed((near * shares[:, :, None]).sum(axis=1))
            return own + vector @ gram + ridge * vector

        found = _conjugate_gradients(product, summed(near.sum(axis=1)), start, steps)
        return made.at[rows].set(found, mode="drop"), None

    return jax.lax.scan(solve_block, jnp.zeros_like(vectors), blocks)[0]


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
