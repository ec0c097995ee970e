"""Encoding pictures with a ViT-B/32: gemb next to transformers, on the same random weights.

    python benchmarks/images.py           # extras: images, peers; one JSON line

Pixels are given to both, so only the encoder is measured. The two run one after the other in turns
of one process; `cpu` is CPU seconds a picture, `wall` seconds a picture, both medians over the
turns, and the ratios are torch's over gemb's. Both use all cores.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import torch
import transformers

from gemb.inference.encode import place, program
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec
from gemb.pretrained import adapt
from gemb.processors.image import ImageProcessor
from gemb.structs import Images

ROWS, TURNS = 16, 7


def measured(call) -> tuple[float, float]:
    """CPU seconds and seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    torch.manual_seed(0)
    theirs = transformers.ViTModel(transformers.ViTConfig(patch_size=32), add_pooling_layer=False)
    theirs = theirs.eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ImageProcessor().save(Path(folder))
        tower = adapt.load(folder).document
    pixels = np.random.default_rng(0).normal(size=(ROWS, 224, 224, 3)).astype(np.float32)
    given = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous()
    params = place(tower.params)
    apply = program(functional(ModelSpec.of(tower.spec)).document.embed)
    images = Images(pixels, np.ones(ROWS, bool))

    def ours():
        return np.asarray(apply(params, images))

    def of_torch():
        with torch.inference_mode():
            return theirs(pixel_values=given).last_hidden_state[:, 0].numpy()

    first = of_torch()
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    difference = float(np.abs(first - ours()).max())
    turns = [(measured(ours), measured(of_torch)) for _ in range(TURNS)]
    row = {"pictures": ROWS, "turns": TURNS, "largest difference": difference}
    for number, name in enumerate(("cpu", "wall")):
        mine, other = (statistics.median(t[side][number] for t in turns) / ROWS for side in (0, 1))
        row |= {f"{name} gemb": mine, f"{name} torch": other, f"{name} ratio": other / mine}
    row["versions"] = {m.__name__: m.__version__ for m in (jax, torch, transformers)}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
