"""Windows from files, and the history of their verdicts."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.analysis.drift.alerts import prometheus
from gemb.analysis.drift.reference import Reference
from gemb.analysis.drift.verdict import Verdict
from gemb.checks import UserError
from gemb.data.sources import reading
from gemb.files import atomic_file
from gemb.store.embeddings import MANIFEST, read_embeddings

HISTORY, METRICS = "history.jsonl", "drift.prom"
_TEXTS = (".jsonl", ".json", ".txt", ".tsv", ".csv", ".gz")


class Window(NamedTuple):
    """Vectors of a period.

    Attributes:
        vectors: [rows, dim] floats.
        texts: of the rows; None if the file has none.
        ids: of the rows, likewise.
        fingerprints: of the model: one for all rows or one per row; "" if unknown.
        time: seconds since 1970 of the file.
    """

    vectors: np.ndarray
    texts: list[str] | None
    ids: list | None
    fingerprints: str | list[str]
    time: float


def read_window(path: str | Path, embedder=None, kind: str = "document") -> Window:
    """Reads vectors, or texts that a model then encodes.

    Args:
        path: a .npy file; a folder of `gemb embed`; or records with a "vector" (and "fingerprint",
            "text", "_id"), or with a "text" that the model encodes.
        embedder: a `gemb.Embedder`, for texts.
        kind: the side that encodes them.

    Raises:
        UserError: a missing or broken file, or texts without a model.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    when = path.stat().st_mtime
    if path.is_dir():
        found = read_embeddings(path, model=None)
        ids = None if isinstance(found.ids, range) else list(found.ids)
        return Window(found.vectors, None, ids, found.about["model"], when)
    if path.suffix == ".npy":
        try:
            return Window(np.load(path, allow_pickle=False), None, None, "", when)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: cannot be read as .npy ({error})") from None
    return _read_records(path, embedder, kind, when)


def _read_records(path: Path, embedder, kind: str, when: float) -> Window:
    source = reading.files(str(path))
    records = [source[row] for row in range(len(source))]
    if not records:
        raise UserError(f"{path}: no records")
    texts = [record.get("text") for record in records]
    ids = [record.get("_id") for record in records]
    ids = None if None in ids else ids
    if "vector" in records[0]:
        try:
            vectors = np.array([record["vector"] for record in records], np.float32)
        except (KeyError, ValueError, TypeError):
            raise UserError(f"{path}: expected a 'vector' of one width in each record") from None
        prints = [str(record.get("fingerprint", "")) for record in records]
        prints = prints if any(prints) else ""
        return Window(vectors, None if None in texts else texts, ids, prints, when)
    if embedder is None:
        raise UserError(f"{path}: texts need a model to encode them; give --model")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{source.where(row)}: expected a 'text'")
    return Window(embedder.encode(texts, kind=kind), texts, ids, embedder.fingerprint, when)


def window_files(place: str | Path) -> list[Path]:
    """The windows of a folder, the oldest first; a file or a folder of vectors is one window.

    Raises:
        UserError: no such place, or a folder without any window.
    """
    place = Path(place)
    if not place.exists():
        raise UserError(f"--window: {place}: no such file or folder")
    if not place.is_dir() or (place / MANIFEST).exists():
        return [place]
    found = [
        path
        for path in place.iterdir()
        if path.suffix in (".npy", *_TEXTS) or (path / MANIFEST).exists()
    ]
    found = [path for path in found if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def judge_files(
    reference: Reference, place: str | Path, history: list[dict], embedder=None, **options
) -> Iterator[tuple[Path, Verdict]]:
    """Judges the windows of a place that the history does not have yet, and adds them to it.

    Args:
        reference: of the stream.
        place: see `window_files`.
        history: rows of `read_history`; grows.
        embedder: a `gemb.Embedder` for texts and canaries.
        **options: "alpha", "repeats", "kind".

    Yields:
        File and verdict.

    Raises:
        UserError: a window that cannot be compared.
    """
    kind = options.pop("kind", "document")
    known = {(row["window"], row["time"]) for row in history}
    for path in window_files(place):
        if (str(path), path.stat().st_mtime) in known:
            continue
        window = read_window(path, embedder, kind)
        verdict = reference.judge(
            window.vectors,
            texts=window.texts,
            ids=window.ids,
            fingerprints=window.fingerprints,
            encode=embedder.encode if embedder is not None else None,
            name=str(path),
            **options,
        )
        history.append({"window": str(path), "time": window.time, **verdict.tree()})
        yield path, verdict


def read_history(folder: Path) -> list[dict]:
    """The rows of OUTPUT/history.jsonl; [] if there is none.

    Raises:
        UserError: a broken file.
    """
    path = folder / HISTORY
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it") from None


def write_history(folder: Path, history: list[dict], last: Verdict) -> None:
    """Writes the history, and the metrics of the last window for Prometheus.

    Raises:
        UserError: the folder cannot be written.
    """
    with atomic_file(folder / HISTORY, sync=True) as temporary:
        lines = (json.dumps(row, default=lambda value: value.tolist()) for row in history)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with atomic_file(folder / METRICS) as temporary:
        temporary.write_text(prometheus(last), encoding="utf-8")


def column_values(path: str | Path, columns: Sequence[str]) -> dict[str, list]:
    """Columns of a file of records; a record without a value has None.

    Args:
        path: a file of any format that training reads.
        columns: their names.

    Raises:
        UserError: a missing or broken file, or a column that no record has.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such file")
    source = reading.files(str(path))
    records = [source[row] for row in range(len(source))]
    made = {name: [record.get(name) for record in records] for name in columns}
    for name, values in made.items():
        if all(value is None for value in values):
            raise UserError(f"{path}: no record has a value in column {name!r}")
    return made
