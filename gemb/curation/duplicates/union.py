"""Groups of things that belong together, from pairs of them."""

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def groups(count: int, edges: Iterable[tuple[int, int]] | np.ndarray) -> np.ndarray:
    """The connected components of a graph.

    Args:
        count: how many things there are.
        edges: [edges, 2] numbers of two things that belong together.

    Returns:
        [count] the number of each thing's group: that of the group's first member.

    Example:
        >>> groups(5, [(3, 1), (4, 3)]).tolist()
        [0, 1, 2, 1, 1]
    """
    edges = np.asarray(edges if isinstance(edges, np.ndarray) else list(edges), np.int64)
    edges = edges.reshape(-1, 2)
    ones = np.ones(len(edges), np.int8)
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return first[labels]
