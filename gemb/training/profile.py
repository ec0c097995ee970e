"""Traces chosen steps for TensorBoard's profiler."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from gemb.checks import UserError


def parse_steps(text: str) -> tuple[int, int] | None:
    """Parses "10:15" or "10" as (first, last) step; '' is None.

    Raises:
        UserError: for anything else.
    """
    if not text:
        return None
    first, _, last = text.partition(":")
    try:
        steps = int(first), int(last or first)
    except ValueError:
        steps = (0, 0)
    if not 1 <= steps[0] <= steps[1]:
        raise UserError(f"--profile_steps: expected FIRST:LAST such as 10:15, got {text!r}")
    return steps


@contextlib.contextmanager
def profiled(workdir: Path, steps: tuple[int, int] | None) -> Iterator[Callable[[int, Any], None]]:
    """Yields a function to call before each step, with the step and the arrays it starts from.

    The trace is written to the run's tensorboard/. It starts and ends with an idle device, so it
    contains complete steps; in a resumed run, the remaining ones.

    Args:
        workdir: the run's folder.
        steps: (first, last) step of the trace; None for none.
    """
    tracing = False

    def at_step(step: int, state: Any) -> None:
        nonlocal tracing
        if steps and not tracing and steps[0] <= step <= steps[1]:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(workdir / "tensorboard"))
            tracing = True
        elif tracing and step == steps[1] + 1:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            tracing = False

    try:
        yield at_step
    finally:
        if tracing:
            jax.profiler.stop_trace()
