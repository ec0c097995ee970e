"""A corpus to search, of any format: ids, texts and what else its rows hold."""

from pathlib import Path

from gemb.checks import UserError
from gemb.data.preprocess.texts import titled_text
from gemb.data.sources import beir, reading

_TABLES = ("corpus.jsonl", "corpus.jsonl.gz")


def read_corpus(place: str | Path) -> tuple[list[str], list[str], list[dict]]:
    """Reads a corpus: a folder with corpus.jsonl (BEIR's, or of `gemb documents`) or any source.

    Args:
        place: such a folder, or what `gemb.data.sources.reading.files` takes. A record's "text"
            is read, behind its "title" where it has one; its "_id" is its id, else its number.

    Returns:
        Ids, texts and the records without these.

    Raises:
        UserError: naming file and line, for a broken record, an id that occurs twice, or no text
            at all.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        tables = any((folder / name).is_file() for name in _TABLES)
        saved = any(any(folder.glob(pattern)) for pattern in ("*.arrow", "*/*.arrow"))
        return _read(place) if saved and not tables else beir.read_corpus(folder)
    named = folder.exists() or folder.suffix or set("*?[") & set(str(place))
    return _read(place) if named else beir.read_corpus(folder)


def _read(place: str | Path) -> tuple[list[str], list[str], list[dict]]:
    records = reading.files(place)
    texts: dict[str, str] = {}
    metadata = []
    for row in range(len(records)):
        try:
            record = records[row]
            if not record:  # a blank line
                continue
            name = str(record.get("_id", row))
            text = titled_text(record)
            if name in texts:
                raise ValueError(f"the _id {name!r} occurs twice")
        except ValueError as error:
            raise UserError(f"{records.where(row)}: {error}") from None
        texts[name] = text
        metadata.append({key: value for key, value in record.items() if key not in ("_id", "text")})
    if not texts:
        raise UserError(f"{place}: the corpus is empty; there is nothing to search")
    return list(texts), list(texts.values()), metadata
