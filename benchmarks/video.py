"""Clips for measurements of video models, and what a model reaches on them.

    python benchmarks/video.py clips --strips DIR --stills DIR --output clips
    gemb evaluate --model=MODEL --tasks=clips --output=results
    python benchmarks/video.py motions --model MODEL --clips DIR

`clips` writes a folder of animations from strips (PNG files whose frames are side by side, in
strips.zip with captions.jsonl.gz): for tests where the stills' folder does not train on the id.
`motions` takes a folder of `gemb.data.sources.moving`, and prints for each pair of opposite
motions how often a clip is nearer to its own caption than to the opposite one, and how often a
caption is nearer to its own clip; chance is 0.5. A tie counts half.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from gemb.data.sources.moving import MOTIONS
from gemb.data.sources.pictures import captioned_videos
from gemb.files import atomic_folder
from gemb.inference.embedder import Embedder


def rows_of(folder: Path) -> list[dict]:
    """The captions of a folder."""
    import gzip

    text = gzip.decompress((folder / "captions.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def write_clips(strips: Path, stills: Path, output: Path) -> dict:
    """Writes the folder of clips; returns how many there are of each split."""
    trained = {row["id"] for row in rows_of(stills) if row["split"] == "train"}
    counts = {"train": 0, "test": 0}
    with (
        atomic_folder(output) as place,
        zipfile.ZipFile(strips / "strips.zip") as given,
        zipfile.ZipFile(place / "clips.zip", "w", zipfile.ZIP_STORED) as clips,
        open(place / "captions.jsonl", "w", encoding="utf-8") as table,
    ):
        for row in rows_of(strips):
            strip = Pillow.open(io.BytesIO(given.read(row["file"]))).convert("RGB")
            side = strip.height
            frames = [
                strip.crop((left, 0, left + side, side)) for left in range(0, strip.width, side)
            ]
            buffer = io.BytesIO()
            frames[0].save(
                buffer, "PNG", save_all=True, append_images=frames[1:], duration=100, loop=0
            )
            name = f"{row['id']}.apng"
            clips.writestr(name, buffer.getvalue())
            split = "train" if row["id"] in trained else "test"
            counts[split] += 1
            line = {"id": row["id"], "file": name, "caption": row["caption"], "split": split}
            table.write(json.dumps(line) + "\n")
    return counts


def motions(model: str, clips: str) -> dict:
    """{pair: [clips, by clip, by caption]} on the clips for tests."""
    embedder, records = Embedder.load(model), captioned_videos(clips, split="test")
    rows = [records[row] for row in range(len(records))]
    own = embedder.encode([row["video"] for row in rows], progress="clips")
    texts = embedder.encode([row["captions"][0] for row in rows], kind="query")
    scores = np.einsum("nd,nd->n", own, texts)
    made = {}
    for pair in MOTIONS:
        here = [place for place, row in enumerate(rows) if row["group"] in pair]
        other = [place + 1 if number % 2 == 0 else place - 1 for number, place in enumerate(here)]
        by_clip = scores[here] - np.einsum("nd,nd->n", own[here], texts[other])
        by_caption = scores[here] - np.einsum("nd,nd->n", own[other], texts[here])
        shares = [
            float(np.where(np.abs(wins) < 1e-6, 0.5, wins > 0).mean())
            for wins in (by_clip, by_caption)
        ]
        made[" / ".join(pair)] = [len(here), *shares]
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = parser.add_subparsers(dest="part", required=True)
    made = parts.add_parser("clips")
    for name in ("--strips", "--stills", "--output"):
        made.add_argument(name, type=Path, required=True)
    asked = parts.add_parser("motions")
    for name in ("--model", "--clips"):
        asked.add_argument(name, required=True)
    options = parser.parse_args()
    if options.part == "clips":
        print(json.dumps(write_clips(options.strips, options.stills, options.output)))
    else:
        print(json.dumps(motions(options.model, options.clips)))


if __name__ == "__main__":
    main()
