"""Pictures a second that the training pipeline decodes, by the number of worker processes.

    python benchmarks/decoding.py                # one JSON line; extra: images

240 JPEGs of 640 x 480 pixels with a caption each, cropped and flipped at random and resized to 224
pixels, in batches of 64. Pipelines with 0, 1 and 2 workers give a batch in turn, in one process, so
that what else the machine does falls on all alike; a ratio is the median over the turns.
"""

import io
import json
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from gemb.data import pipeline
from gemb.data.captioned import Augmentation, Captioned
from gemb.data.mixing import Task
from gemb.data.sources.pictures import captioned
from gemb.processors.image import ImageProcessor
from gemb.structs import Processors

PICTURES, BATCH, TURNS, WORKERS = 240, 64, 7, (0, 1, 2)


def write_photos(folder: Path) -> None:
    """A folder of captioned JPEGs: smooth noise, as large as photos of that size."""
    random = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "images.zip", "w") as images:
        for row in range(PICTURES):
            small = Pillow.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8))
            buffer = io.BytesIO()
            small.resize((640, 480), Pillow.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            images.writestr(f"{row}.jpg", buffer.getvalue())
    lines = (json.dumps({"file": f"{row}.jpg", "caption": "a"}) + "\n" for row in range(PICTURES))
    (folder / "captions.jsonl").write_text("".join(lines))


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        write_photos(Path(place))
        task = Task(captioned(place), Captioned(Augmentation()))
        processor = ImageProcessor()
        made = {
            count: pipeline.mixture(
                Processors(processor, processor), 0, tasks={"photos": task}, batch_size=BATCH,
                workers=count, prefetch=0,
            )
            for count in WORKERS
        }  # fmt: skip
        seconds: dict[int, list[float]] = {count: [] for count in WORKERS}
        for turn in range(TURNS + 1):
            for count, batches in made.items():
                start = time.perf_counter()
                next(batches)
                if turn:  # the first starts the processes
                    seconds[count].append(time.perf_counter() - start)
    row = {"batch": BATCH, "turns": TURNS}
    for count, times in seconds.items():
        row[f"pictures a second, {count} workers"] = round(BATCH / statistics.median(times), 1)
        ratios = [alone / own for alone, own in zip(seconds[0], times, strict=True)]
        row[f"relative, {count} workers"] = round(statistics.median(ratios), 3)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
