"""One door to all formats: what gin binds as a task's `records`."""

from collections.abc import Sequence
from pathlib import Path

from gemb.checks import UserError, needs, suggest
from gemb.data.sources import columnar, judged, lines, tfrecord
from gemb.data.sources.records import EachText, Joined, Records, digest, found
from gemb.datasets.python_code import harvest, is_harvest

_FORMATS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".tsv": "tsv",
    ".csv": "csv",
    ".txt": "text",
    ".md": "text",
    ".parquet": "arrow",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".array_record": "array_record",
    ".arrayrecord": "array_record",
}


def files(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    unit: str = "line",
    header: Sequence[str] = (),
) -> Records:
    """Records of files: JSON lines, tables, plain text, Parquet, Arrow, TFRecord, ArrayRecord.

    Args:
        paths: a file, a pattern such as "data/*.jsonl.gz", a folder that Hugging Face's
            `save_to_disk` wrote, or a list of these.
        format: "jsonl", "tsv", "csv", "text", "arrow", "tfrecord" or "array_record"; default by the
            file's ending.
        unit: of plain text, what is one record: "line", "paragraph" or "file".
        header: the columns' names of tables without a header line.

    Returns:
        The records, none of them read yet.

    Raises:
        UserError: for a missing or empty file, or an ending without a known format.
    """
    names = [paths] if isinstance(paths, str | Path) else list(paths)
    chosen: list[Path] = []
    for name in names:
        folder = Path(name).expanduser()
        chosen += columnar.dataset_folder(folder) if folder.is_dir() else found(name)
    parts = [_reader(path, format, unit, header) for path in chosen]
    made = parts[0] if len(parts) == 1 else Joined(parts)
    if format or unit != "line" or header:  # the same bytes, other records
        made.fingerprint = digest(made.fingerprint, str(format), unit, *header)
    return made


def each(records: Records, column: str) -> Records:
    """A record for each text of a column that holds lists, such as all positives of a query.

    Args:
        records: the source.
        column: the column of lists.
    """
    return EachText(records, column)


def beir(folder: str, split: str = "train", least_score: int = 1) -> Records:
    """Records {"query", "document", "score"} of a BEIR folder's judgements.

    Args:
        folder: holds corpus, queries and qrels/<split>.tsv.
        split: which judgements.
        least_score: judgements below are left out.
    """
    return judged.Judged(folder, split, least_score)


def python_code(folder: str, output: str) -> Records:
    """Records {"query", "document"} of the documented functions in a folder of Python.

    Args:
        folder: whose Python is harvested when the harvest does not exist yet.
        output: where the harvest is kept; see `gemb.datasets.python_code`.
    """
    if not is_harvest(output):
        harvest([folder], output)
    return files(Path(output) / "train_stdlib.jsonl")


def tfds(name: str, split: str = "train", data_dir: str | None = None) -> Records:
    """Records of a TensorFlow Datasets builder, read through seqio into the cache once.

    Args:
        name: the builder, with its version: "natural_questions/default:0.1.0".
        split: which split.
        data_dir: the folder of prepared or downloaded data; default TFDS's own.
    """
    with needs(f"tfds: {name}", extra="seqio"):
        from gemb.data import seqio_tasks

    return lines.json_lines(seqio_tasks.unpack_tfds(name, split, data_dir))


def _reader(path: Path, format: str | None, unit: str, header: Sequence[str]) -> Records:
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    kind = format or _FORMATS.get(ending.lower())
    if kind is None and ".tfrecord" in path.name:
        kind = "tfrecord"  # TFDS writes name.tfrecord-00000-of-00008
    readers = {
        "jsonl": lines.json_lines,
        "tsv": lambda path: lines.table(path, "\t", header),
        "csv": lambda path: lines.table(path, ",", header),
        "text": lambda path: lines.plain_text(path, unit),
        "arrow": columnar.Columnar,
        "tfrecord": tfrecord.TFRecord,
        "array_record": tfrecord.ArrayRecord,
    }
    if kind not in readers:
        known = f"expected one of {sorted(readers)}{suggest(kind or '', readers)}"
        raise UserError(f"{path}: format {kind!r} is unknown; bind `format`: {known}")
    return readers[kind](path)
