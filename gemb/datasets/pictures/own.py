"""Pictures of the user's own folder, with captions in a table or in the names of files."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

from gemb.checks import UserError
from gemb.datasets.pictures.harvest import Picture, PictureSource
from gemb.datasets.pictures.installed import words_of

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
_TABLES = ("captions.jsonl", "captions.tsv", "captions.csv")


def own_folder(folder: str | Path, licence: str = "the user's own") -> PictureSource:
    """Pictures below a folder.

    With a captions.jsonl, .tsv or .csv in it, the columns "file" and "caption" (or "captions", a
    list) count. Else the caption is the file's name without numbers, and where that leaves nothing
    or a camera's name such as IMG, the name of its folder.

    Args:
        folder: hidden files and folders are skipped.
        licence: recorded with the pictures.

    Raises:
        UserError: for a missing folder, a table that names a missing file, or no picture.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UserError(f"{place}: no such folder")
    tables = [place / name for name in _TABLES if (place / name).is_file()]
    if tables:
        named = _of_table(place, tables[0])
    else:
        files = sorted(
            p for p in place.rglob("*") if p.suffix.lower() in ENDINGS and _shown(p, place)
        )
        named = [(file, (_caption(file, place),)) for file in files]
    named = [(file, captions) for file, captions in named if captions[0]]
    if not named:
        raise UserError(f"{place}: no pictures with captions there ({', '.join(ENDINGS)})")

    def read() -> Iterator[Picture]:
        for file, captions in named:
            name = re.sub(r"[^\w./-]+", "-", str(file.relative_to(place).with_suffix("")))
            group = file.parent.name if file.parent != place else ""
            yield Picture(name, file.read_bytes(), captions, {}, group)

    name = re.sub(r"[^\w-]+", "-", place.absolute().name) or "own"
    return PictureSource(name, licence, f"from {place.absolute()}", read(), len(named))


def _of_table(place: Path, path: Path) -> list[tuple[Path, tuple[str, ...]]]:
    found = []
    for line, record in _records(path):
        try:
            captions = record.get("captions") or [record["caption"]]
            file = (place / record["file"]).resolve()
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}:{line}: expected file and caption ({error})") from None
        if not file.is_file() or not file.is_relative_to(place.resolve()):
            raise UserError(f"{path}:{line}: no file {record['file']!r:.80} in {place}")
        texts = tuple(str(caption).strip() for caption in captions)
        found.append((place / file.relative_to(place.resolve()), texts))
    return found


def _records(path: Path) -> Iterator[tuple[int, dict]]:
    """(line, record) of a table."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, json.loads(line)
            else:
                rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                yield from ((rows.line_num, row) for row in rows)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _shown(path: Path, place: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(place).parts)


def _caption(file: Path, place: Path) -> str:
    words = words_of(file.stem)
    camera = re.fullmatch(r"(?i)(img|dsc|dscn|image|photo|picture|pic|p|scan|screenshot)?", words)
    if camera and file.parent != place:
        return words_of(file.parent.name)
    return words
