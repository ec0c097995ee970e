"""Baselines that score an item by the sum of its weights to the user's items: X W.

item-kNN, RP3beta and EASE differ in W. X is the matrix of users and items, of 0 and 1.
"""

import os
from collections.abc import Mapping

import numpy as np
import scipy.linalg
import scipy.sparse

from gemb import checks
from gemb.recommendation.baselines.baseline import interaction_matrix
from gemb.structs import Interactions

_SPARSE = ("data", "indices", "indptr")
_BYTES = 24  # of EASE for each pair of items, while it is fitted


class ItemWeights:
    """Scores X W.

    Args:
        weights: [items, items] W, dense or sparse: what having the row's item adds to the column's.
    """

    kind = "item weights"

    def __init__(self, weights: np.ndarray | scipy.sparse.csr_array):
        self.weights = weights

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[users, items] float32."""
        made = histories @ self.weights
        return made.toarray() if scipy.sparse.issparse(made) else np.asarray(made, np.float32)

    def tensors(self) -> Mapping[str, np.ndarray]:
        """W, as a matrix or as the three arrays of a sparse one."""
        if not scipy.sparse.issparse(self.weights):
            return {"weights": self.weights}
        return {name: getattr(self.weights, name) for name in _SPARSE}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "ItemWeights":
        """The model of saved tensors."""
        if "weights" in tensors:
            return cls(tensors["weights"])
        size = len(tensors["indptr"]) - 1
        parts = tuple(tensors[name] for name in _SPARSE)
        return cls(scipy.sparse.csr_array(parts, shape=(size, size)))


def item_knn(
    events: Interactions, users: int, items: int, *, neighbours: int = 200, shrink: float = 5.0
) -> ItemWeights:
    """Cosine of items as sets of users: w_ij = common / (sqrt(n_i n_j) + shrink).

    Args:
        events: the train events.
        users: how many users the table has.
        items: how many items the catalogue has.
        neighbours: rows of W kept for each column, the largest; 0: all.
        shrink: added below, so that pairs of rare items count less.

    Reference: Sarwar et al., Item-based collaborative filtering, WWW 2001; Deshpande and Karypis,
        Item-based top-n recommendation algorithms, 2004.
    """
    checks.check(shrink >= 0, f"shrink: expected 0 or more, got {shrink}")
    matrix = interaction_matrix(events, users, items)
    common = _without_diagonal(matrix.T @ matrix)
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    norm = np.sqrt(counts[common.coords[0]] * counts[common.coords[1]])
    common.data /= (norm + shrink).astype(np.float32)
    return ItemWeights(_largest(common.tocsc(), neighbours))


def rp3beta(
    events: Interactions,
    users: int,
    items: int,
    *,
    alpha: float = 1.0,
    beta: float = 0.5,
    neighbours: int = 200,
) -> ItemWeights:
    """Random walks of three steps, with popular items held back: W = P_iu^a P_ui^a / n_j^b.

    P_ui and P_iu are the shares of a user's and of an item's events.

    Args:
        events: the train events.
        users: how many users the table has.
        items: how many items the catalogue has.
        alpha: power of the shares.
        beta: power of the popularity of the item that is recommended.
        neighbours: columns of W kept for each row, the largest; 0: all.

    Reference: Paudel et al., Updatable, accurate, diverse, and scalable recommendations for
        interactive applications, 2017.
    """
    matrix = interaction_matrix(events, users, items)
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    lengths = np.asarray(matrix.sum(axis=1)).ravel()
    from_item = scipy.sparse.diags_array(_power(counts, -alpha)) @ matrix.T
    from_user = scipy.sparse.diags_array(_power(lengths, -alpha)) @ matrix
    walks = _without_diagonal(from_item @ from_user)
    walks.data *= _power(counts, -beta)[walks.coords[1]]
    return ItemWeights(_largest(walks.tocsr(), neighbours).tocsr())


def ease(events: Interactions, users: int, items: int, *, penalty: float = 100.0) -> ItemWeights:
    """The linear model of an item by all others, in closed form.

    P = (X'X + penalty I)^-1, W = -P / diag(P) by columns, diag(W) = 0

    It takes 24 bytes for each pair of items while it is fitted, and 4 after it.

    Args:
        events: the train events.
        users: how many users the table has.
        items: how many items the catalogue has.
        penalty: lambda, how strongly weights are held near 0.

    Raises:
        ValueError: for a penalty that is not above 0.
        UserError: for more items than the machine's memory can hold pairs of.

    Reference: Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019.
    """
    checks.check(penalty > 0, f"penalty: expected a number above 0, got {penalty}")
    needed, there = _BYTES * items**2, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise checks.UserError(
            f"EASE: {items:,} items need {needed / 2**30:,.0f} GiB of memory, and this machine has "
            f"{there / 2**30:,.0f}"
        )
    matrix = interaction_matrix(events, users, items)
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices(items)] += penalty
    factor, _ = scipy.linalg.lapack.dpotrf(gram, lower=False, clean=False)
    upper, _ = scipy.linalg.lapack.dpotri(factor, lower=False)  # the upper half of P
    inverse = np.triu(upper) + np.triu(upper, 1).T
    weights = (inverse / -np.diag(inverse)).astype(np.float32)
    weights[np.diag_indices(items)] = 0.0
    return ItemWeights(weights)


def _without_diagonal(matrix) -> scipy.sparse.coo_array:
    found = scipy.sparse.coo_array(matrix)
    off = found.coords[0] != found.coords[1]
    rows, columns = (axis[off] for axis in found.coords)
    return scipy.sparse.coo_array((found.data[off], (rows, columns)), shape=found.shape)


def _power(counts: np.ndarray, power: float) -> np.ndarray:
    """counts^power, 0 where the count is 0."""
    made = np.zeros(len(counts), np.float32)
    some = counts > 0
    made[some] = counts[some] ** power
    return made


def _largest(matrix, count: int):
    """Keeps the `count` largest entries of each row (csr) or column (csc); 0: all of them."""
    if not count:
        return matrix.tocsr()
    group = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, group))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - matrix.indptr[group[order]]
    found = matrix.tocoo()
    kept = place < count
    rows, columns = (axis[kept] for axis in found.coords)
    return scipy.sparse.csr_array((found.data[kept], (rows, columns)), shape=matrix.shape)
