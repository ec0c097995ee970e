"""Work in pieces that are kept: a run that was killed goes on at the first piece not finished."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from gemb.files import atomic_file


class Piece(NamedTuple):
    """What became of a piece.

    Attributes:
        outputs: file name -> its rows, which JSON can hold.
        notes: counts and samples for the report, which JSON can hold.
    """

    outputs: Mapping[str, Iterable[dict]]
    notes: dict


class Chunks:
    """Pieces of one piece of work in a folder.

    Args:
        folder: changes its name whenever the outcome would change.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def run(
        self, total: int, size: int, make: Callable[[int, int], Piece], label: str
    ) -> list[dict]:
        """Makes the pieces that are not there yet.

        Args:
            total: how many things there are to do.
            size: how many make a piece.
            make: (start, stop) -> Piece; the same again for the same numbers.
            label: of the progress bar; "" for none.

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
        """Puts one output of all pieces end to end, under its name when it is whole."""
        with atomic_file(final) as temporary, open(temporary, "wb") as whole:
            for notes in sorted(self.folder.glob("*.json")):
                with open(_part(notes, name), "rb") as piece:
                    shutil.copyfileobj(piece, whole)

    def remove(self) -> None:
        """Removes the pieces, when what they were for is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, piece: Piece, done: Path) -> None:
        """The notes come last: a piece with notes is whole."""
        for name, rows in piece.outputs.items():
            write_rows(_part(done, name), rows)
        with atomic_file(done) as temporary:
            temporary.write_text(json.dumps(piece.notes), encoding="utf-8")


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """Writes JSON lines, whole or not at all."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, default=str) + "\n"
            try:
                file.write(line)
            except UnicodeEncodeError:  # half of a surrogate pair, which JSON can only escape
                file.write(json.dumps(row, default=str) + "\n")


def _part(notes: Path, name: str) -> Path:
    return notes.with_suffix(f".{name}")
