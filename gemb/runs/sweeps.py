"""Lists of gin bindings for configs/sweeps: grids, random draws, and products of both.

A sweep is a pure function `sweep() -> list[dict[str, object]]`, one dict of bindings per member;
`launch/sweep.py` turns it into commands. Nothing here imports gin or JAX.
"""

import ast
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

Member = dict[str, object]
Draw = Callable[[Random], object]


def grid(choices: Mapping[str, Iterable[object]]) -> list[Member]:
    """Every combination of the choices; the last name varies fastest.

    Args:
        choices: name of a macro or parameter -> its values.

    Example:
        >>> grid({"LEARNING_RATE": [1e-4, 2e-4], "experiment.Experiment.seed": range(2)})[1]
        {'LEARNING_RATE': 0.0001, 'experiment.Experiment.seed': 1}
    """
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def random(
    count: int, choices: Mapping[str, Draw | Sequence[object]], *, seed: int = 0
) -> list[Member]:
    """Independent draws; a larger `count` keeps the draws of a smaller one and adds more.

    Args:
        count: number of members.
        choices: name -> `uniform(...)`, `log_uniform(...)`, another function of a Random, or
            values, one of which is drawn.
        seed: seed of the draws.

    Example:
        >>> random(1, {"LEARNING_RATE": log_uniform(1e-5, 1e-3), "WIDTHS": [(384,), (384, 96)]})
        [{'LEARNING_RATE': 0.000488, 'WIDTHS': (384, 96)}]
    """
    rng = Random(seed)

    def draw(choice):
        return choice(rng) if callable(choice) else rng.choice(list(choice))

    return [{name: draw(choice) for name, choice in choices.items()} for _ in range(count)]


def uniform(low: float, high: float) -> Draw:
    """A uniform number in [low, high], to three significant digits, to keep names short."""
    return lambda rng: _short(rng.uniform(low, high))


def log_uniform(low: float, high: float) -> Draw:
    """A number in [low, high] with a uniform logarithm, to three significant digits.

    Raises:
        ValueError: unless 0 < low <= high.
    """
    if not 0 < low <= high:
        raise ValueError(f"log_uniform: expected 0 < low <= high, got {low} and {high}")
    return lambda rng: _short(math.exp(rng.uniform(math.log(low), math.log(high))))


def product(*sweeps: Sequence[Member]) -> list[Member]:
    """Combines every member of one sweep with every member of the others.

    Raises:
        ValueError: if two of the sweeps bind the same name.

    Example:
        >>> product([{"STEPS": 10}], grid({"BATCH_SIZE": [64, 128]}))
        [{'STEPS': 10, 'BATCH_SIZE': 64}, {'STEPS': 10, 'BATCH_SIZE': 128}]
    """
    joined = []
    for members in itertools.product(*sweeps):
        names = [name for member in members for name in member]
        if len(names) > len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"product: {twice} is bound by two of the sweeps")
        joined.append({name: value for member in members for name, value in member.items()})
    return joined


def gin_params(member: Member) -> list[str]:
    """The member's bindings as values of `--gin_param`.

    Raises:
        ValueError: for a value that gin cannot read.

    Example:
        >>> gin_params({"STEPS": 10, "LOSS": "@losses.info_nce", "WIDTHS": (8, 4)})
        ['STEPS = 10', 'LOSS = @losses.info_nce', 'WIDTHS = (8, 4)']
    """
    return [f"{name} = {_literal(name, value)}" for name, value in member.items()]


def _literal(name: str, value: object) -> str:
    """A Python literal; text that begins with @ or % is a gin reference to a function or macro."""
    if isinstance(value, str) and value[:1] in ("@", "%"):
        return value
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        value = value.item()  # gin cannot read the repr of a numpy number
    text = repr(value)
    try:
        readable = ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        readable = False
    if not readable:
        raise ValueError(f"{name}: expected numbers, texts, tuples, lists or dicts, got {text}")
    return text


def _short(value: float) -> float:
    return float(f"{value:.3g}")
