"""The full pass over a corpus on the devices: every row is scored, the k best are kept.

The corpus is cut into chunks of one size, each split over the devices by rows, and the queries into
blocks of few sizes, so that a pass compiles once for each k and block size, however many calls
come. A corpus within `device_bytes` is placed on the devices once; a larger one stays where it is
(in memory, or in a file that numpy maps) and passes through them chunk by chunk, its best hits
merged on the way. The caller knows what a row's numbers mean (float32, bfloat16, int8 codes).
"""

from functools import cache

import numpy as np

_QUERY_BLOCKS = (1, 8, 64, 256)
_GROUP = 32  # rows whose best stands for all of them in the first round of a top-k


class Scan:
    """Scores all rows by inner product and keeps the k best, equal scores by the lower index.

    Args:
        rows: [rows, dim] float32, float16, bfloat16 or int8; converted to float32 on the device.
            Not checked here.
        chunk_rows: rows scored at a time, all devices together.
        device_bytes: the largest corpus that is kept on the devices.
        devices: jax devices to split each chunk over; default all of this process.
    """

    def __init__(self, rows: np.ndarray, *, chunk_rows: int, device_bytes: int, devices=None):
        import jax

        self._rows = rows
        self._devices = tuple(devices or jax.local_devices())
        step = len(self._devices) * _GROUP
        wanted = min(chunk_rows, len(rows))
        self._chunk = -(-wanted // step) * step if wanted >= step else wanted
        if self._chunk % len(self._devices):
            self._devices = self._devices[:1]  # too few rows to be worth a split
        self._placed = list(self._place()) if rows.nbytes <= device_bytes else None

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best rows of each query.

        Args:
            queries: [queries, dim] float32.
            k: at most the number of rows.

        Returns:
            Scores [queries, k] float32, best first, and row numbers [queries, k] int32.
        """
        blocks = list(_blocks(queries))
        if not blocks:
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int32)
        merge = _compiled(self._devices)
        best = [_nothing(len(block), k) for block in blocks]
        for number, chunk in enumerate(self._placed or self._place()):
            start = np.int32(number * self._chunk)
            for i, block in enumerate(blocks):
                best[i] = merge(*best[i], block, chunk, start, np.int32(len(self._rows)), k)
        scores, indices = (np.concatenate(parts) for parts in zip(*best, strict=True))
        return scores[: len(queries)], indices[: len(queries)]

    def _place(self):
        """Yields the chunks on the devices, the last one filled up with zeros."""
        import jax

        for start in range(0, len(self._rows), self._chunk):
            chunk = np.asarray(self._rows[start : start + self._chunk])
            if chunk.dtype == np.float64:
                chunk = chunk.astype(np.float32)
            missing = self._chunk - len(chunk)
            chunk = np.pad(chunk, ((0, missing), (0, 0))) if missing else chunk
            yield jax.device_put(chunk, _sharding(self._devices))


def _blocks(queries: np.ndarray):
    """Yields the queries in blocks of the sizes in _QUERY_BLOCKS, filled up with zeros."""
    for start in range(0, len(queries), _QUERY_BLOCKS[-1]):
        block = queries[start : start + _QUERY_BLOCKS[-1]]
        size = next(size for size in _QUERY_BLOCKS if size >= len(block))
        yield np.pad(block, ((0, size - len(block)), (0, 0)))


def _nothing(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int32)


@cache
def _mesh(devices):
    from gemb.parallel.mesh import make_mesh

    return make_mesh(replica=len(devices), devices=devices)


def _sharding(devices):
    from jax.sharding import NamedSharding, PartitionSpec

    return NamedSharding(_mesh(devices), PartitionSpec("replica"))


@cache
def _compiled(devices):
    """The jitted merge of what was found before with one chunk, split over the devices."""
    import jax
    import jax.numpy as jnp
    from jax import lax
    from jax.sharding import NamedSharding, PartitionSpec

    def shard(queries, chunk, start, rows, k):
        found = jnp.matmul(queries, chunk.T.astype(jnp.float32), precision=lax.Precision.HIGHEST)
        first = start + lax.axis_index("replica") * chunk.shape[0]
        index = first + lax.broadcasted_iota(jnp.int32, found.shape, 1)
        # -0 would rank below 0, and break a tie the wrong way round.
        found = jnp.where(index < rows, jnp.where(found == 0, 0.0, found), -jnp.inf)
        top, place = _top(found, min(k, chunk.shape[0]))
        return top, first + place

    def merge(scores, indices, queries, chunk, start, rows, k):
        whole, split = PartitionSpec(), PartitionSpec("replica")
        of_each = PartitionSpec(None, "replica")
        top, place = jax.shard_map(
            lambda *arrays: shard(*arrays, k),
            mesh=_mesh(devices),
            in_specs=(whole, split, whole, whole),
            out_specs=(of_each, of_each),
        )(queries, chunk, start, rows)
        scores = jnp.concatenate([scores, top], axis=1)
        indices = jnp.concatenate([indices, place], axis=1)
        # top_k is stable: earlier chunks and devices, which hold the lower indices, win ties.
        scores, place = lax.top_k(scores, k)
        return scores, jnp.take_along_axis(indices, place, axis=1)

    whole = NamedSharding(_mesh(devices), PartitionSpec())
    return jax.jit(merge, static_argnames="k", out_shardings=whole)


def _top(scores, k: int):
    """lax.top_k in two rounds where that is quicker: the best groups, then the best in them.

    A score among the k best is in one of the k groups with the highest maxima, or k better
    scores would be elsewhere; groups are runs of rows, so equal scores still go to the lower row.
    """
    import jax.numpy as jnp
    from jax import lax

    queries, rows = scores.shape
    if rows % _GROUP or rows < 4 * k * _GROUP:
        return lax.top_k(scores, k)
    groups = scores.reshape(queries, -1, _GROUP)
    _, best = lax.top_k(groups.max(axis=2), k)
    best = jnp.sort(best, axis=1)
    kept = jnp.take_along_axis(groups, best[:, :, None], axis=1).reshape(queries, -1)
    top, place = lax.top_k(kept, k)
    return top, jnp.take_along_axis(best, place // _GROUP, axis=1) * _GROUP + place % _GROUP
