"""Parquet, Arrow and Hugging Face datasets on disk as records. The only importer of pyarrow.

Arrow files are mapped and read in place. Parquet is compressed by columns, so it is turned into
Arrow in the cache once, a piece at a time.
"""

import bisect
from pathlib import Path

import numpy as np

from gemb.checks import UserError, needs
from gemb.data.sources import records
from gemb.files import atomic_file, cache_dir

_ROWS = 4096  # rows that one piece of a converted file holds
_CACHED = "cache-*.arrow"  # what `map` and `filter` leave beside a saved dataset


class Columnar:
    """The rows of one Arrow file (file or stream format), or of a Parquet file.

    Args:
        path: a `.arrow`, `.feather` or `.parquet` file.

    Raises:
        UserError: if pyarrow is not installed or the file is broken.
    """

    def __init__(self, path: Path):
        self.path, arrow = Path(path), _pyarrow()
        try:
            plain = _as_arrow(self.path) if self.path.suffix.lower() == ".parquet" else self.path
            self._pieces = _open(plain)
        except (arrow.ArrowException, OSError) as error:
            raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
        self._ends = np.cumsum([len(piece) for piece in self._pieces]).tolist()
        key = records.identity(self.path)
        _, notes = records.kept("content", key, lambda: (np.zeros(0), self._notes()))
        self.fingerprint = notes["fingerprint"]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, row: int) -> dict:
        number = bisect.bisect_right(self._ends, row)
        inside = int(row) - (self._ends[number - 1] if number else 0)
        piece = self._pieces[number]
        try:
            cells = [column[inside].as_py() for column in piece.columns]
        except UnicodeDecodeError as error:
            raise ValueError(f"invalid UTF-8 at byte {error.start}") from None
        return dict(zip(piece.schema.names, cells, strict=True))

    def where(self, row: int) -> str:
        return f"{self.path}: row {row}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        raise UserError(f"{self.path}: length_window needs the sizes of records; write JSON lines")

    def _notes(self) -> dict:
        return {"fingerprint": records.content_digest(self.path)}


def dataset_folder(folder: Path) -> list[Path]:
    """The Arrow files of a dataset saved by Hugging Face's `save_to_disk`, in their order.

    Raises:
        UserError: for a folder that holds none, naming the splits where it holds those.
    """
    files = [path for path in sorted(folder.glob("*.arrow")) if not path.match(_CACHED)]
    if not files:
        splits = {path.parent.name for path in folder.glob("*/*.arrow") if not path.match(_CACHED)}
        hint = f"; name one of its splits: {sorted(splits)}" if splits else ""
        raise UserError(f"{folder}: no .arrow files in it{hint}")
    return files


def _open(path: Path) -> list:
    arrow = _pyarrow()
    source = arrow.memory_map(str(path))
    if source.read(6) == b"ARROW1":
        reader = arrow.ipc.open_file(source)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]
    source.seek(0)
    return list(arrow.ipc.open_stream(source))


def _as_arrow(path: Path) -> Path:
    arrow = _pyarrow()

    plain = cache_dir() / "data" / "unpacked" / f"{records.identity(path)}-{path.stem}.arrow"
    if not plain.exists():
        file = arrow.parquet.ParquetFile(path)
        new = arrow.ipc.new_stream  # the file format refuses dictionaries that change
        with atomic_file(plain) as path, new(str(path), file.schema_arrow) as writer:
            for piece in file.iter_batches(batch_size=_ROWS):
                writer.write_batch(piece)
    return plain


def _pyarrow():
    with needs("reading Parquet and Arrow", extra="data"):
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    return pyarrow


def write_parquet(path: str | Path, columns: dict) -> None:
    """Writes a Parquet file; an existing one is replaced in one step.

    Args:
        path: the file.
        columns: name -> array or list of one length.

    Raises:
        MissingExtra: pyarrow is not installed.
        UserError: the place cannot be written.
    """
    arrow = _pyarrow()
    with atomic_file(path) as temporary:
        arrow.parquet.write_table(arrow.table(columns), temporary)
