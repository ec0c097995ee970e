"""Adapters: maps from the vectors of one model into the space of another.

    adapter.json         format, version, kind, direction, fingerprints from and to, measurements
    arrays.safetensors   the arrays of the map

A *documents* adapter maps stored vectors of the old model into the new space, a *queries* adapter
queries of the new model into the old one. An adapter buys time for encoding again, never quality.
Fitting is in gemb.analysis.adapting.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import local_folder, read_manifest, reading_arrays, save_arrays
from gemb.identity import Alignment, SpaceError

FORMAT, VERSION = "gemb adapter", 1
MANIFEST = "adapter.json"
DIRECTIONS = ("documents", "queries")
_FIELDS = {"kind": str, "direction": str, "from": str, "to": str, "measured": dict, "about": dict}


@dataclasses.dataclass(frozen=True)
class Adapter:
    """y = (x - mean) weights + shift, plus a residual network if there is one; of unit length.

    Attributes:
        kind: how it was fitted: "rotation", "affine", "low_rank", "rotation_low_rank" or "mlp".
        direction: one of `DIRECTIONS`.
        source: fingerprint of the model whose vectors it reads.
        target: fingerprint of the model into whose space it maps.
        arrays: "mean" [dim], "weights" [dim, dim'], "shift" [dim']; for a network also "hidden"
            [dim, width], "hidden_bias" [width] and "out" [width, dim'].
        measured: what was measured on held-out pairs; at least "cosine" and "rows".
        about: where the vectors came from.
    """

    kind: str
    direction: str
    source: str
    target: str
    arrays: Mapping[str, np.ndarray]
    measured: Mapping = dataclasses.field(default_factory=dict)
    about: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.direction not in DIRECTIONS:
            raise UserError(f"direction: expected one of {DIRECTIONS}, got {self.direction!r}")

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Maps [rows, dim] vectors to [rows, dim'] float32 of unit length.

        Raises:
            UserError: vectors of another width.
        """
        a = self.arrays
        if np.ndim(vectors) != 2 or vectors.shape[1] != len(a["mean"]):
            raise UserError(
                f"adapter: reads vectors of dim {len(a['mean'])}, got shape {np.shape(vectors)}"
            )
        centred = np.asarray(vectors, np.float32) - a["mean"]
        made = centred @ a["weights"] + a["shift"]
        if "hidden" in a:
            made = made + _gelu(centred @ a["hidden"] + a["hidden_bias"]) @ a["out"]
        lengths = np.sqrt(np.einsum("nd,nd->n", made, made))
        return (made / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)

    @property
    def alignment(self) -> Alignment:
        """What a space says of the mapped vectors, see `gemb.identity.declare_space`."""
        rows, cosine = int(self.measured["rows"]), float(self.measured["cosine"])
        return Alignment(self.source, "adapter", cosine, rows)

    def check(self, source: str, target: str, direction: str) -> None:
        """Checks that the adapter maps vectors of one model into the space of another.

        Args:
            source: fingerprint of the model of the vectors.
            target: fingerprint of the model of what they meet.
            direction: one of `DIRECTIONS`.

        Raises:
            SpaceError: it is for other models, or for the other direction.
        """
        if (source, target) != (self.source, self.target):
            raise SpaceError(
                f"adapter: maps vectors of {self.source} to the space of {self.target}, but was "
                f"asked to map {source} to {target}; fit one with `gemb adapter`"
            )
        if direction != self.direction:
            raise SpaceError(
                f"adapter: was fitted on {self.direction}, but was asked to map {direction}; fit "
                f"one with `gemb adapter --{direction}`"
            )

    def save(self, folder: str | Path) -> "Adapter":
        """Writes the adapter as a folder, whole or not at all; returns itself.

        Raises:
            UserError: the folder holds something else, or cannot be written.
        """
        tree = {"format": FORMAT, "version": VERSION, "kind": self.kind}
        tree |= {"direction": self.direction, "from": self.source, "to": self.target}
        tree |= {"measured": dict(self.measured), "about": dict(self.about)}
        place = local_folder("adapter", folder)
        save_arrays(place, MANIFEST, tree, self.arrays, what="an adapter")
        return self

    @classmethod
    def load(cls, folder: str | Path) -> "Adapter":
        """Reads what `save` wrote.

        Raises:
            UserError: no adapter there, or a broken one.
        """
        place = local_folder("adapter", folder)
        about = read_manifest(place / MANIFEST, FORMAT, VERSION, _FIELDS, "gemb adapter")
        with reading_arrays(place) as found:
            arrays = found
        if lacking := {"mean", "weights", "shift"} - set(arrays):
            raise UserError(f"{place}: lacks {', '.join(sorted(lacking))}; fit it again")
        names = ("kind", "direction", "from", "to")
        return cls(*(about[name] for name in names), arrays, about["measured"], about["about"])


def _gelu(x: np.ndarray) -> np.ndarray:
    """The approximation by tanh, as jax.nn.gelu has it."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
