"""Clips for measurements of video models, and what a model reaches on them.

    python benchmarks/video.py clips --strips DIR --stills DIR --output clips
    gemb evaluate --model=MODEL --tasks=clips --output=results
    python benchmarks/video.py motions --model MODEL --clips DIR
    python benchmarks/video.py order --stills DIR

`clips` writes a folder of animations from strips (PNG files whose frames are side by side, in
strips.zip with captions.jsonl.gz): for tests where the stills' folder does not train on the id.
`motions` takes a folder of `gemb.data.sources.moving`, and prints for each pair of opposite
motions how often a clip is nearer to its own caption than to the opposite one, and how often a
caption is nearer to its own clip; chance is 0.5. A tie counts half. `order` trains two small models
from nothing on clips of stills, through the training loop, with the motion alone as caption: one
takes the mean over frames, the other has a transformer over them; and it measures both likewise, on
stills that neither has seen.
"""

import argparse
import functools
import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path

import jax
import numpy as np
import optax
from PIL import Image as Pillow

from gemb import losses
from gemb.data import pipeline
from gemb.data.captioned import CaptionedVideos
from gemb.data.mixing import Task
from gemb.data.sources.moving import MOTIONS, moving
from gemb.data.sources.pictures import captioned, captioned_videos
from gemb.files import atomic_folder
from gemb.inference.embedder import Embedder
from gemb.models.encoders.vision import VisionSpec
from gemb.models.model import Model, Tower
from gemb.models.scratch import from_scratch
from gemb.models.spec import StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.pretrained.vision import videos
from gemb.processors.decoding import decode
from gemb.processors.image import ImageProcessor
from gemb.processors.text import of_bytes
from gemb.structs import Video
from gemb.training.experiment import Experiment
from gemb.training.loop import train

SIDE, WIDTH = 32, 32
LAYERS = {"mean": 0, "transformer": 1}


def rows_of(folder: Path) -> list[dict]:
    """The captions of a folder."""
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


class Moving:
    """Records of clips made of stills, in memory: each motion of each still."""

    def __init__(self, stills: list):
        self.rows = [(still, motion) for still in stills for pair in MOTIONS for motion in pair]
        self.fingerprint = f"moving {len(self.rows)}"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict:
        still, motion = self.rows[row]
        return {"captions": motion, "video": Video(moving(still, motion, side=SIDE))}

    def where(self, row: int) -> str:
        """The number of the clip."""
        return f"clip {row}"

    def sizes(self, rows) -> np.ndarray:
        """All are equal."""
        return np.ones(len(rows), np.int64)


def small_model(layers: int) -> Model:
    """Texts by a tiny transformer, frames by a small vision transformer, both untrained."""
    stack = StackSpec(1, WIDTH, 4, 2 * WIDTH, norm_place="pre", norm_epsilon=1e-6, final_norm=True)
    frame = VisionSpec((SIDE, SIDE), 8, stack)
    pictures = Tower(TowerSpec(frame, pooling="mean"), None, ImageProcessor(SIDE, SIDE))
    texts = from_scratch(of_bytes(), width=WIDTH, layers=1).document
    return videos.of_pictures(Model(texts, pictures), frames=8, layers=layers, heads=4)


def order(stills: str, steps: int, names: list[str]) -> dict:
    """{model: {pair: share of unseen clips that are nearer to their own caption}}."""
    parts = {}
    for split in ("train", "test"):
        records = captioned(stills, split=split)
        rows = np.linspace(0, len(records) - 1, 150 if split == "train" else 100).astype(int)
        parts[split] = [decode(records[int(row)]["image"]).picture for row in rows]
    made = {}
    for name in names:
        task = Task(Moving(parts["train"]), CaptionedVideos())
        experiment = Experiment(
            model=small_model(LAYERS[name]),
            data=functools.partial(pipeline.mixture, tasks={"moving": task}, batch_size=48),
            loss=functools.partial(losses.info_nce, temperature=0.1, symmetric=True),
            optimizer=lambda steps: optax.adam(2e-3),
            steps=steps,
            mesh=functools.partial(make_mesh, 1, 1, 1, devices=jax.devices()[:1]),
        )
        with tempfile.TemporaryDirectory() as workdir:
            embedder = Embedder(train(experiment, Path(workdir))[0])
        clips = Moving(parts["test"])
        vectors = embedder.encode([clips[row]["video"] for row in range(len(clips))])
        made[name] = {}
        for first, second in MOTIONS:
            texts = embedder.encode([first, second], kind="query")
            wins = []
            for row, (_, motion) in enumerate(clips.rows):
                if motion in (first, second):
                    scores = texts @ vectors[row]
                    difference = (scores[0] - scores[1]) * (1 if motion == first else -1)
                    wins.append(0.5 if abs(difference) < 1e-6 else float(difference > 0))
            made[name][f"{first} / {second}"] = [len(wins), float(np.mean(wins))]
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
    small = parts.add_parser("order")
    small.add_argument("--stills", required=True)
    small.add_argument("--steps", type=int, default=700)
    small.add_argument("--models", nargs="*", default=list(LAYERS), choices=list(LAYERS))
    options = parser.parse_args()
    if options.part == "order":
        print(json.dumps(order(options.stills, options.steps, options.models)))
    elif options.part == "clips":
        print(json.dumps(write_clips(options.strips, options.stills, options.output)))
    else:
        print(json.dumps(motions(options.model, options.clips)))


if __name__ == "__main__":
    main()
