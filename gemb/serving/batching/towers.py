"""Models ready to serve: every shape compiled, and how long each takes."""

import threading
import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from gemb.checks import UserError
from gemb.inference.embedder import Embedder
from gemb.inference.encode import ACCELERATOR_BUDGET, CPU_BUDGET
from gemb.processors.processor import Example
from gemb.processors.text import TextProcessor
from gemb.serving.batching.lanes import Shapes
from gemb.structs import SIDES

_COMPILED = "/jax/core/compile/backend_compile_duration"


class Compiles:
    """Counts programs that are compiled on this thread's account while requests are served.

    Attributes:
        warm: before a tower was ready.
        late: in a request; each costs its clients a second.
    """

    _known: "Compiles | None" = None

    def __init__(self):
        self.warm = self.late = 0
        self._here = threading.local()

    @classmethod
    def counter(cls) -> "Compiles":
        """The one counter of this process."""
        if cls._known is None:
            import jax.monitoring

            cls._known = cls()
            jax.monitoring.register_event_duration_secs_listener(cls._known._heard)
        return cls._known

    def serving(self) -> None:
        """What this thread compiles from now on is late."""
        self._here.serving = True

    def _heard(self, event: str, seconds: float, **_) -> None:
        if event == _COMPILED:
            if getattr(self._here, "serving", False):
                self.late += 1
            else:
                self.warm += 1


class Tower:
    """One tower of a model: dispatches batches of the shapes that were warmed.

    Args:
        apply, params: compiled function and weights, see `Embedder.program`.
        processor: that pads texts.
        dim: of a full vector.
        budget: padded positions in a batch.

    Attributes:
        shapes: that it computes.
        seconds: (rows, length) -> seconds of a batch, as measured by `warm`.
    """

    def __init__(self, apply, params: dict, processor: TextProcessor, dim: int, budget: int):
        self._apply, self._params, self.processor, self.dim = apply, params, processor, dim
        self.shapes = Shapes.upto(processor.limit, budget=budget)
        self.seconds: dict[tuple[int, int], float] = {}

    @property
    def rate(self) -> float:
        """Padded positions per second of the largest batches."""
        rates = [rows * length / self.seconds[rows, length] for rows, length in self.seconds]
        return float(np.median(rates[-5:])) if rates else 10_000.0

    def warm(self) -> None:
        """Compiles every shape, and times it."""
        nothing = [Example("", [], 0)]
        for rows, length in self.shapes.all():
            taken = []
            for _ in range(3):  # the first compiles
                start = time.perf_counter()
                self.read(self.dispatch(nothing, length, rows))
                taken.append(time.perf_counter() - start)
            self.seconds[rows, length] = min(taken)

    def dispatch(self, examples: Sequence[Example], length: int, rows: int):
        """Starts a batch; `read` waits for it."""
        return self._apply(self._params, self.processor.collate(examples, length, rows))

    @staticmethod
    def read(output) -> np.ndarray:
        """[rows, dim] float32."""
        return np.asarray(output, np.float32)


class ServedModel:
    """A text model behind a name.

    Args:
        name: in requests.
        embedder: the model.
        budget: padded positions in a batch; 0 for the default of the device.

    Raises:
        UserError: the model reads something else than texts.
    """

    def __init__(self, name: str, embedder: Embedder, *, budget: int = 0):
        import jax

        self.name, self.embedder = name, embedder
        cpu = jax.default_backend() == "cpu"
        budget = budget or (CPU_BUDGET if cpu else ACCELERATOR_BUDGET)
        made = {}
        for side in SIDES:
            tower = getattr(embedder.model, side)
            if not isinstance(tower.processor, TextProcessor):
                raise UserError(f"{name}: reads {tower.processor.modality}; only texts are served")
            if id(tower) not in made:
                apply, params = embedder.program(side)
                made[id(tower)] = Tower(apply, params, tower.processor, embedder.dim, budget)
        self._sides = {side: made[id(getattr(embedder.model, side))] for side in SIDES}
        self.towers = tuple(made.values())

    @classmethod
    def load(cls, place: str, *, name: str = "", max_length: int = 0, budget: int = 0):
        """Loads a folder or a fetched model, not warm yet."""
        embedder = Embedder.load(place, max_length=max_length or None)
        short = name or str(place).rstrip("/").rpartition("/")[2]
        return cls(short, embedder, budget=budget)

    def warm(self) -> None:
        """Compiles every shape of every tower."""
        for tower in self.towers:
            tower.warm()

    def tower(self, side: str) -> Tower:
        """What encodes a side."""
        return self._sides[side]

    @cached_property
    def dim(self) -> int:
        """Of a full vector."""
        return self.embedder.dim

    @cached_property
    def widths(self) -> list[int]:
        """Widths that may be asked for, widest first."""
        return sorted({self.embedder.dim, *self.embedder.widths}, reverse=True)

    @cached_property
    def fingerprint(self) -> str:
        """The identity of its vectors."""
        return self.embedder.fingerprint

    @cached_property
    def _vocab(self) -> int:
        return self.embedder.model.document.processor.tokenizer().vocab

    def prepare(self, texts: Sequence[str], side: str) -> list[Example]:
        """Tokenizes texts behind the side's prompt."""
        return self.tower(side).processor.prepare(texts, side)

    def given(self, rows: Sequence[Sequence[int]], side: str) -> list[Example]:
        """Examples of token ids that a client made with this model's tokenizer.

        Args:
            rows: ids with special tokens and prompt, as tokenizer.json gives them.
            side: that encodes them.

        Raises:
            UserError: an empty row, one beyond the limit, or an id that the tokenizer never gives.
        """
        processor = self.tower(side).processor
        for number, ids in enumerate(rows):
            if not 0 < len(ids) <= processor.limit:
                raise UserError(
                    f"input {number}: {len(ids)} token ids; expected 1 to {processor.limit}"
                )
            if min(ids) < 0 or max(ids) >= self._vocab:
                raise UserError(
                    f"input {number}: token ids from 0 to {self._vocab - 1} are known; these are "
                    "of another tokenizer"
                )
        hidden = 0
        if not processor.prompts.pooled:
            hidden = processor.tokenizer(processor.prompt(side)).prompt_length
        return [Example("", list(ids), len(ids), hidden) for ids in rows]

    def cut(self, examples: Sequence[Example], side: str) -> int:
        """How many texts were longer than the model reads."""
        processor = self.tower(side).processor
        full = [each for each in examples if each.size >= processor.limit and each.value]
        return processor.count_cut(full, side) if full else 0
