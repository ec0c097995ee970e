"""Communication between the processes of a run, outside the training step.

With a single process everything here is a plain call. All processes call every function except
`is_first` in the same order, or they would wait for each other for ever.
"""

import functools
import itertools
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # its barrier is not public
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemb.checks import UserError

_DAY_MILLISECONDS = 24 * 3600 * 1000
_meetings = itertools.count()  # the same order in all processes


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def meet() -> None:
    """Waits for all processes, without a time limit.

    Call it before a program that needs all processes runs for the first time: on CPU the first one
    gives up after 30 seconds, and a compilation or an evaluation may take longer.
    """
    client = distributed.global_state.client
    if client is not None:
        client.wait_at_barrier(f"gemb {next(_meetings)}", _DAY_MILLISECONDS)


def on_first(action: Callable[[], Any]) -> Any:
    """Runs an action in the first process; all processes get its result or error.

    Args:
        action: called in the first process only; returns a JSON-compatible value.

    Returns:
        The returned value, in every process.

    Raises:
        UserError: in every process, if the action raised one.
    """
    if jax.process_count() == 1:
        return action()
    outcome, raised = {}, None
    if is_first():
        try:
            outcome = {"value": action()}
        except UserError as error:
            outcome, raised = {"error": str(error)}, error
    outcome = _broadcast(outcome)
    if "error" in outcome:
        error = raised or UserError(f"process 0 stopped: {outcome['error']}")
        error.shared = True
        raise error
    return outcome["value"]


def _broadcast(value: Any) -> Any:
    """The first process's value, in all processes; a JSON-compatible value."""
    meet()
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = multihost_utils.broadcast_one_to_all(np.resize(text, size))
    return json.loads(text.tobytes())


def any_says(flag: bool) -> bool:
    """Whether the flag is set in any process; waits for all processes."""
    if jax.process_count() == 1:
        return flag
    meet()
    return bool(multihost_utils.process_allgather(np.int32(flag)).any())


class Agreement:
    """A flag that any process sets at any time and that all processes see at the same step.

    The vote of a step is read at the next step, so that no process waits for the others; a single
    process sees its own vote at once.

    Args:
        mesh: the mesh over the devices of all processes.
    """

    def __init__(self, mesh: Mesh):
        self._alone = jax.process_count() == 1
        self._pending = None
        self._each = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        whole = NamedSharding(mesh, PartitionSpec())
        self._any = jax.jit(lambda flags: flags.max(), out_shardings=whole)

    def vote(self, flag: bool) -> bool:
        """Casts this step's vote; returns whether any process set its flag at the previous step."""
        if self._alone:
            return flag
        before, size = self._pending, self._each.mesh.size
        if before is None:
            meet()
        flags = jax.make_array_from_callback(
            (size,), self._each, lambda index: np.full(size, flag, np.int32)[index]
        )
        self._pending = self._any(flags)
        return before is not None and bool(before)


def gather(tree, wanted: bool = True):
    """Copies sharded arrays to this host, one at a time.

    Args:
        tree: a pytree of jax.Array, the same in every process.
        wanted: False if this process only takes part and keeps nothing.

    Returns:
        The pytree of numpy arrays; of None if not wanted.
    """

    meet()

    def fetch(array):
        if not array.is_fully_addressable and not array.is_fully_replicated:
            array = _made_whole(array.sharding.mesh)(array)
        return np.asarray(jax.device_get(array)) if wanted else None

    return jax.tree.map(fetch, tree)


@functools.cache
def _made_whole(mesh: Mesh) -> Callable:
    """Copies an array to every device; compiled once per shape and sharding."""
    return jax.jit(lambda array: array, out_shardings=NamedSharding(mesh, PartitionSpec()))
