"""Tasks and their mixture: which records the n-th batch holds, as a function of the seed.

Nothing is read here. A plan names records by their place in their task's endless order, so every
host makes the same plans and takes its own rows of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gemb.checks import UserError, suggest
from gemb.data.forms import Pairs
from gemb.data.randomness import bits, permuted, spread

_SUCH_AS = {"records": "@reading.files()", "form": "@forms.Pairs()"}


@dataclass(frozen=True)
class Task:
    """A source, the form of its pairs, and how its batches are made.

    Attributes:
        records: the source, see `gemb.data.sources.reading`.
        form: how records become pairs, see `gemb.data.forms`.
        columns: the form's name -> the source's column, or a template such as "{title}\\n{text}".
        batch_size: pairs of this task's batches over all hosts; default that of the mixture.
            Only for homogeneous batches.
        query_length: tokens that queries are cut and padded to.
        document_length: tokens that documents are cut and padded to.
        query_prompts: put in front of queries; of several one is drawn for each pair. None: the
            model's own, which it reads when it embeds them.
        document_prompts: put in front of documents, likewise.
        temperature: the field "temperature" of its rows; None leaves it to the loss.
        in_batch: whether documents of other pairs compete; default what the form says.
        neighbours: consecutive records that stay together when the source is shuffled. Where
            neighbours are alike they are each other's hard negatives.
        length_window: batches whose records are sorted by size among themselves, so that a batch
            holds texts of like lengths; 1 sorts nothing. Only for homogeneous batches.
        max_bad_fraction: how many of the records may be broken; those are left out and counted.
    """

    records: Any
    form: Any = field(default_factory=Pairs)
    columns: Mapping[str, str] | None = None
    batch_size: int | None = None
    query_length: int = 32
    document_length: int = 128
    query_prompts: Sequence[str] | None = None
    document_prompts: Sequence[str] | None = None
    temperature: float | None = None
    in_batch: bool | None = None
    neighbours: int = 1
    length_window: int = 1
    max_bad_fraction: float = 0.0

    def __post_init__(self):
        for name, needed in (("records", "fingerprint"), ("form", "admit")):
            value = getattr(self, name)
            if isinstance(value, type) or not hasattr(value, needed):
                raise UserError(
                    f"{name}: got {value!r:.60}; write a reference with its parentheses, such as "
                    f"{name} = {_SUCH_AS[name]}"
                )
        for name in ("neighbours", "length_window", "query_length", "document_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("query_prompts", "document_prompts"):
            prompts = getattr(self, name)
            if prompts is not None and (isinstance(prompts, str) or not len(prompts)):
                raise UserError(f"{name}: expected a list of texts, got {prompts!r}")


class Plan(NamedTuple):
    """What one batch holds.

    Attributes:
        number: of the batch, from 0.
        tasks: [batch] the number of each row's task.
        places: [batch] the row's place in its task's endless order.
    """

    number: int
    tasks: np.ndarray
    places: np.ndarray


def resolve_rates(
    rates: str | Mapping[str, float], sizes: Mapping[str, int], temperature: float = 1.0
) -> np.ndarray:
    """Shares of the tasks.

    share_i = r_i^(1/T) / sum_j r_j^(1/T)

    Args:
        rates: r of each task, or "proportional": its number of records.
        sizes: number of records of each task.
        temperature: T; above 1 flattens the shares.

    Returns:
        [tasks] float64 that sum to 1.

    Raises:
        UserError: for a rate that is not positive, a name unknown or left out.

    Example:
        >>> resolve_rates("proportional", {"a": 1, "b": 100}, temperature=2.0).round(3).tolist()
        [0.091, 0.909]

    Reference: Raffel et al. (T5), 2020, arXiv 1910.10683, section 3.5.2.
    """
    if isinstance(rates, str):
        if rates != "proportional":
            raise UserError(f"rates: expected numbers by name or 'proportional', got {rates!r}")
        rates = sizes
    for name in rates:
        if name not in sizes:
            raise UserError(f"rates: no task is named {name!r}.{suggest(name, sizes)}")
    for name in sizes:
        if name not in rates:
            raise UserError(f"rates: the task {name!r} has no rate")
        if not rates[name] > 0:
            raise UserError(f"rates: the rate of {name} must be above 0, got {rates[name]}")
    if not temperature > 0:
        raise UserError(f"rate_temperature: expected a number above 0, got {temperature}")
    shares = np.array([rates[name] for name in sizes], float) ** (1 / temperature)
    return shares / shares.sum()


class Schedule:
    """Plans of batches, one after the other.

    Args:
        shares: [tasks] as for `resolve_rates`: of batches where they are homogeneous, else of rows.
        batch_sizes: [tasks] rows of each task's batches; of mixed batches all the same.
        homogeneous: whether a batch holds one task.
        seed: of the order of tasks.

    Attributes:
        number: of the next batch.
        taken: [tasks] batches (or rows) of each task that were planned so far.
    """

    def __init__(
        self, shares: np.ndarray, batch_sizes: Sequence[int], homogeneous: bool, seed: int
    ):
        self._ends, self._sizes = np.cumsum(shares)[:-1], np.asarray(batch_sizes)
        self._homogeneous, self._seed = homogeneous, seed
        self.number, self.taken = 0, np.zeros(len(shares), np.int64)

    def next(self) -> Plan:
        """Plans the next batch."""
        draws = 1 if self._homogeneous else int(self._sizes[0])
        turns = self.number * draws + np.arange(draws)
        drawn = np.searchsorted(self._ends, spread(self._seed, turns), side="right")
        if self._homogeneous:
            task, size = drawn[0], self._sizes[drawn[0]]
            tasks = np.full(size, task)
            places = self.taken[task] * size + np.arange(size)
        else:
            tasks, places = drawn, np.empty(draws, np.int64)
            for task in np.unique(drawn):
                here = drawn == task
                places[here] = self.taken[task] + np.arange(here.sum())
        plan = Plan(self.number, tasks, places)
        self.taken = self.taken + np.bincount(drawn, minlength=len(self.taken))
        self.number += 1
        return plan


def record_numbers(places: np.ndarray, size: int, seed: int, *, neighbours: int = 1) -> np.ndarray:
    """The records at some places of a task's endless order: every epoch holds each record once.

    Args:
        places: [n] places, from 0 without end.
        size: records there are.
        seed: of the order.
        neighbours: consecutive records that stay together; what is left over when they do not
            divide `size` ends each epoch.

    Returns:
        [n] numbers in [0, size).
    """
    epochs, inside = np.divmod(places, size)
    groups = size // neighbours
    if not groups:
        return inside
    group, member = np.divmod(inside, neighbours)
    whole = group < groups
    found = permuted(np.where(whole, group, 0), groups, seed, epochs)
    return np.where(whole, found * neighbours + member, inside)


def windowed(places: np.ndarray, batch_size: int, window: int, seed: int, sizes_of) -> np.ndarray:
    """Exchanges places within a window of batches, so that each batch holds records of like size.

    Args:
        places: [batch] the places of one homogeneous batch.
        batch_size: rows.
        window: batches.
        seed: of the order of batches in a window.
        sizes_of: (places) -> sizes of their records.

    Returns:
        [batch] places; over a window each comes once.
    """
    number = int(places[0]) // batch_size
    start = number // window * window
    pool = np.arange(start * batch_size, (start + window) * batch_size)
    pool = pool[np.argsort(sizes_of(pool), kind="stable")].reshape(window, batch_size)
    order = np.argsort(bits(seed, start, np.arange(window)), kind="stable")
    return pool[order[number - start]]
