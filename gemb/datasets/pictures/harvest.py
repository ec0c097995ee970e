"""Pictures with captions into one folder, whole or not at all.

    images.zip       the pictures, not compressed again
    captions.jsonl   {"id", "file", "caption", "captions", "labels", "group", "split", "source"}
    licences.txt     where the pictures come from, and under which terms
    harvest.json     counts by source and split, and the fingerprint of the content

"captions" are all captions of a picture, "caption" the first of them, "labels" those in other
languages by code. Pictures with one caption are all in one split, which a hash of it decides.
"""

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from gemb.checks import UserError
from gemb.files import atomic_folder
from gemb.processors.decoding import decode
from gemb.structs import Image

MANIFEST = "harvest.json"
CAPTIONS = "captions.jsonl"
IMAGES = "images.zip"
_FORMAT = "gemb pictures"
_VERSION = 1
_TEST_SHARE = 0.2
_BICUBIC = 3  # Pillow's number of the filter
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the zip, so that equal harvests are equal


class Picture(NamedTuple):
    """One picture that a source gives.

    Attributes:
        name: unique in its source, of letters, digits and `/._-`; without an ending.
        content: the bytes of a picture file.
        captions: one or more.
        labels: language -> caption.
        group: a class or a topic; "" for none.
    """

    name: str
    content: bytes
    captions: tuple[str, ...]
    labels: dict[str, str] = {}  # noqa: RUF012
    group: str = ""


class PictureSource(NamedTuple):
    """Where pictures come from.

    Attributes:
        name: short; the first part of ids.
        licence: one line.
        credit: the text that the licence asks for, or the origin.
        pictures: in a fixed order; may raise UserError.
        count: how many there are about, for the progress bar.
    """

    name: str
    licence: str
    credit: str
    pictures: Iterable[Picture]
    count: int


def harvest(sources: list[PictureSource], output: str | Path, *, size: int = 256) -> dict:
    """Writes a folder of captioned pictures.

    Args:
        sources: at least one; names are distinct.
        output: the folder to make; an old harvest is replaced when the new one is whole.
        size: pixels of the longer side at most; larger pictures are made smaller.

    Returns:
        The content of harvest.json.

    Raises:
        UserError: for a place that holds something else, no picture at all, or a place that cannot
            be written. Pictures that cannot be read are left out and counted.
    """
    output = Path(output)
    if output.exists() and not is_pictures(output) and (output.is_file() or any(output.iterdir())):
        raise UserError(f"{output} exists and holds no pictures: name another folder")
    counts: dict[str, Counter] = {source.name: Counter() for source in sources}
    digest = hashlib.sha256()
    with atomic_folder(output) as folder:
        with (
            zipfile.ZipFile(folder / IMAGES, "w", zipfile.ZIP_STORED) as images,
            open(folder / CAPTIONS, "w", encoding="utf-8") as captions,
        ):
            for row, content in _rows(sources, size, counts):
                images.writestr(zipfile.ZipInfo(row["file"], _EPOCH), content)
                line = json.dumps(row, ensure_ascii=False)
                captions.write(line + "\n")
                digest.update(line.encode() + hashlib.sha256(content).digest())
        if not sum(count["train"] + count["test"] for count in counts.values()):
            left = sum(count["unreadable"] for count in counts.values())
            raise UserError(f"no picture with a caption was found ({left} could not be read)")
        made = {
            "format": _FORMAT,
            "version": _VERSION,
            "size": size,
            "sources": {
                source.name: {"licence": source.licence, **counts[source.name]}
                for source in sources
            },
            "fingerprint": digest.hexdigest()[:32],
        }
        notes = (f"{source.name}: {source.licence}\n{source.credit}\n" for source in sources)
        (folder / "licences.txt").write_text("\n".join(notes), encoding="utf-8")
        (folder / MANIFEST).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return made


def is_pictures(folder: str | Path) -> bool:
    """Whether a folder is such a harvest."""
    try:
        made = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
        return made["format"] == _FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def split_of(caption: str) -> str:
    """ "train" or "test": one in five captions, by a hash of the letters alone.

    Example:
        >>> split_of("A dog") == split_of("a  DOG.")
        True
    """
    plain = " ".join("".join(c if c.isalnum() else " " for c in caption.casefold()).split())
    share = int.from_bytes(hashlib.sha256(plain.encode()).digest()[:8], "big") / 2**64
    return "test" if share < _TEST_SHARE else "train"


def _rows(
    sources: list[PictureSource], size: int, counts: dict[str, Counter]
) -> Iterator[tuple[dict, bytes]]:
    taken: set[str] = set()
    for source in sources:
        bar = tqdm(source.pictures, f"harvest {source.name}", source.count, unit="picture")
        for picture in bar:
            try:
                ending, content = shrunk(picture.content, size, picture.name)
            except UserError:
                counts[source.name]["unreadable"] += 1
                continue
            file = f"{source.name}/{picture.name}{ending}"
            if file in taken:
                counts[source.name]["same name"] += 1
                continue
            taken.add(file)
            split = split_of(picture.captions[0])
            counts[source.name][split] += 1
            row = {
                "id": f"{source.name}/{picture.name}",
                "file": file,
                "caption": picture.captions[0],
                "captions": list(picture.captions),
                "labels": picture.labels,
                "group": picture.group,
                "split": split,
                "source": source.name,
            }
            yield row, content


def shrunk(content: bytes, size: int, name: str) -> tuple[str, bytes]:
    """(ending, bytes) of a picture whose longer side has at most `size` pixels.

    A small JPEG or PNG stays as it is. Others become PNG, photos JPEG.

    Raises:
        UserError: for a picture that cannot be read.
    """
    made = decode(Image(content), name=name)
    kind, picture = made.facts["format"], made.picture
    small = max(picture.size) <= size
    if small and kind in ("JPEG", "PNG"):
        return (".jpg" if kind == "JPEG" else ".png"), content
    if not small:
        factor = size / max(picture.size)
        sides = [max(1, round(side * factor)) for side in picture.size]
        picture = picture.resize(sides, _BICUBIC)
    buffer = io.BytesIO()
    if kind in ("JPEG", "MPO", "WEBP"):
        picture.save(buffer, "JPEG", quality=90)
        return ".jpg", buffer.getvalue()
    picture.save(buffer, "PNG", optimize=True)
    return ".png", buffer.getvalue()
