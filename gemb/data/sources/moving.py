"""Clips whose meaning is in the order of their frames: pictures that move, grow or fade.

A folder for `gemb.data.sources.pictures.captioned_videos`, and the evaluation kind `videos`:

    clips.zip        animations (APNG, without loss)
    captions.jsonl   {"id", "file", "caption", "captions", "group", "split"}; group: the motion
    licences.txt     that of the pictures

Each picture gives a motion and its opposite. These have the same frames in the opposite order, so a
model that only takes the mean over frames gives both the same vector.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from gemb.checks import UserError, require
from gemb.data.preprocess.texts import texts_of
from gemb.data.sources.pictures import captioned
from gemb.datasets.pictures.ensure import ensure_pictures
from gemb.files import atomic_folder, cache_dir
from gemb.processors.decoding import decode, pillow

MOTIONS = (("moves left", "moves right"), ("grows", "shrinks"), ("fades in", "fades out"))
_SHORT, _MILLISECONDS = 0.25, 100
_SHARE = 0.6  # of the side that a picture has when it moves
_LANCZOS = 1  # Pillow's number of the filter
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the zip


def moving(picture, motion: str, *, frames: int = 8, side: int = 64) -> list:
    """The frames of a clip.

    Args:
        picture: a Pillow image in mode RGB.
        motion: one of the names in MOTIONS.
        frames: how many.
        side: height and width of each.

    Returns:
        Pillow images, on white.

    Raises:
        ValueError: for an unknown motion.
    """
    blank = pillow().Image.new
    pair = next((pair for pair in MOTIONS if motion in pair), None)
    if pair is None:
        raise ValueError(f"motion: expected one of {MOTIONS}, got {motion!r}")
    made = []
    for number in range(frames):
        share = number / max(1, frames - 1)
        size = _SHORT + (1 - _SHORT) * share if pair[0] == "grows" else _SHARE
        factor = size * side / max(picture.size)
        sides = [max(1, round(length * factor)) for length in picture.size]
        small, canvas = picture.resize(sides, _LANCZOS), blank("RGB", (side, side), "white")
        if pair[0] == "fades in":
            small = pillow().Image.blend(blank("RGB", small.size, "white"), small, share)
        free = side - small.width
        left = round(free * (1 - share)) if pair[0] == "moves left" else free // 2
        canvas.paste(small, (left, (side - small.height) // 2))
        made.append(canvas)
    return made if motion == pair[0] else made[::-1]


def make_clips(
    folder: str | Path, output: str | Path, *, limit: int = 0, side: int = 64, frames: int = 8
) -> dict[str, int]:
    """Writes a folder of clips, two of each picture of a captioned folder.

    Args:
        folder: as of `gemb harvest-pictures`.
        output: the folder to make; an old one is replaced when the new one is whole.
        limit: so many pictures of each split, evenly spaced; 0 for all.
        side: height and width of a clip.
        frames: of a clip.

    Returns:
        {split: clips}.

    Raises:
        UserError: for a folder without captioned pictures, or a place that cannot be written.
    """
    require("PIL", "drawing clips", extra="images")
    records, counts = captioned(str(folder)), {}
    with atomic_folder(Path(output)) as place:
        with (
            zipfile.ZipFile(place / "clips.zip", "w", zipfile.ZIP_STORED) as clips,
            open(place / "captions.jsonl", "w", encoding="utf-8") as table,
        ):
            for row in tqdm(_chosen(records, limit), "clips", unit="picture"):
                record = records[row]
                caption, name = texts_of(record, "captions")[0], str(record.get("id", row))
                picture = decode(record["image"], name=name).picture
                pair = MOTIONS[zlib.crc32(name.encode()) % len(MOTIONS)]
                for motion in pair:
                    drawn = moving(picture, motion, frames=frames, side=side)
                    file = f"{name} {motion}.apng".replace(" ", "_")
                    clips.writestr(zipfile.ZipInfo(file, _EPOCH), _animation(drawn))
                    text, split = f"{caption} {motion}", str(record.get("split", "train"))
                    line = {"id": f"{name} {motion}", "file": file, "caption": text}
                    line |= {"captions": [text], "group": motion, "split": split}
                    table.write(json.dumps(line, ensure_ascii=False) + "\n")
                    counts[split] = counts.get(split, 0) + 1
        licence = Path(folder).expanduser() / "licences.txt"
        if licence.is_file():
            (place / "licences.txt").write_bytes(licence.read_bytes())
    return counts


def ensure_clips(limit: int = 600, side: int = 64) -> str:
    """The clips of OpenMoji's drawings in the cache, made on first use; returns their folder.

    Args:
        limit: so many drawings of each split, evenly spaced.
        side: height and width of a clip.
    """
    folder = cache_dir() / "pictures" / f"moving-{limit}-{side}"
    if not (folder / "captions.jsonl").is_file():
        make_clips(ensure_pictures(), folder, limit=limit, side=side)
    return str(folder)


def _chosen(records, limit: int) -> list[int]:
    """Rows of each split, evenly spaced."""
    splits: dict[str, list[int]] = {}
    for row in range(len(records)):
        try:
            splits.setdefault(str(records[row].get("split", "train")), []).append(row)
        except (ValueError, KeyError) as error:
            raise UserError(f"{records.where(row)}: {error}") from None
    steps = {split: max(1, len(rows) // limit) if limit else 1 for split, rows in splits.items()}
    return sorted(
        row
        for split, rows in splits.items()
        for row in (rows[:: steps[split]][:limit] if limit else rows)
    )


def _animation(frames: list) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "PNG", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0
    )
    return buffer.getvalue()
