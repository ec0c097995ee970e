"""Splits work into pieces that are saved, so that a killed run continues at the next piece."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from gemb.files import atomic_file


class Piece(NamedTuple):
    """The result of a piece.

    Attributes:
        outputs: file name -> its JSON-compatible rows.
        notes: JSON-compatible counts and samples for the report.
    """

    outputs: Mapping[str, Iterable[dict]]
    notes: dict


class Chunks:
    """The pieces of one task in a folder.

    Args:
        folder: its name must change whenever the result would change.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def run(
        self, total: int, size: int, make: Callable[[int, int], Piece], label: str
    ) -> list[dict]:
        """Makes the missing pieces.

        Args:
            total: number of items.
            size: items per piece.
            make: (start, stop) -> Piece; it must be deterministic.
            label: label of the progress bar; "" for none.

        Returns:
            The notes of all pieces, in order.
        """
        notes = []
        with tqdm(total=total, desc=label, disable=not label) as bar:
            for start in range(0, total, size):
                stop = min(start + size, total)
                done = self.folder / f"{start:012d}-{stop:012d}.json"
                if not done.exists():
                    self._keep(make(start, stop), done)
                notes.append(json.loads(done.read_text(encoding="utf-8")))
                bar.update(stop - start)
        return notes

    def join(self, name: str, final: Path) -> None:
        """Joins one output of all pieces into a file, which appears when it is complete."""
        with atomic_file(final) as temporary, open(temporary, "wb") as whole:
            for notes in sorted(self.folder.glob("*.json")):
                with open(_part(notes, name), "rb") as piece:
                    shutil.copyfileobj(piece, whole)

    def remove(self) -> None:
        """Removes the pieces after the work is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, piece: Piece, done: Path) -> None:
        """Writes the notes last: a piece with notes is complete."""
        for name, rows in piece.outputs.items():
            write_rows(_part(done, name), rows)
        with atomic_file(done) as temporary:
            temporary.write_text(json.dumps(piece.notes), encoding="utf-8")


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """Writes JSON lines atomically."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, default=str) + "\n"
            try:
                file.write(line)
            except UnicodeEncodeError:  # half of a surrogate pair, which JSON can only escape
                file.write(json.dumps(row, default=str) + "\n")


def _part(notes: Path, name: str) -> Path:
    return notes.with_suffix(f".{name}")
