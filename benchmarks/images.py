"""Encoding pictures with a ViT-B/32: gemb, transformers, ONNX Runtime; equal random weights.

    python benchmarks/images.py           # extras: images, export, peers; one JSON line

Pixels are given to all, so only the encoder is measured. They run one after the other in turns of
one process; `cpu` is CPU seconds a picture, `wall` seconds a picture, both medians over the turns;
a ratio is the median over the turns of the other's time over gemb's. All use all cores. The file
for ONNX Runtime is what torch exports of transformers' model.
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


def onnx_session(model, given, folder: str):
    """ONNX Runtime with what torch exports of a model of transformers."""
    import onnxruntime

    class First(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model(pixel_values=pixels).last_hidden_state[:, 0]

    path = f"{folder}/model.onnx"
    torch.onnx.export(
        First(), (given,), path, input_names=["pixels"], output_names=["first"], dynamo=False
    )
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def main() -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(patch_size=32)
    theirs = transformers.ViTModel(config, add_pooling_layer=False).eval()
    pixels = np.random.default_rng(0).normal(size=(ROWS, 224, 224, 3)).astype(np.float32)
    given = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ImageProcessor().save(Path(folder))
        tower = adapt.load(folder).document
        eager = transformers.ViTModel.from_pretrained(
            folder, add_pooling_layer=False, attn_implementation="eager"
        )
        session = onnx_session(eager.eval(), given, folder)
    params = place(tower.params)
    apply = program(functional(ModelSpec.of(tower.spec)).document.embed)
    images = Images(pixels, np.ones(ROWS, bool))

    def ours():
        return np.asarray(apply(params, images))

    def of_torch():
        with torch.inference_mode():
            return theirs(pixel_values=given).last_hidden_state[:, 0].numpy()

    def of_onnx():
        return session.run(None, {"pixels": given.numpy()})[0]

    calls = {"gemb": ours, "torch": of_torch, "onnxruntime": of_onnx}
    row: dict = {"pictures": ROWS, "turns": TURNS}
    for name in ("torch", "onnxruntime"):
        first = calls[name]()
        first = first / np.linalg.norm(first, axis=1, keepdims=True)
        row[f"largest difference from {name}"] = float(np.abs(first - ours()).max())
    turns = [{name: measured(call) for name, call in calls.items()} for _ in range(TURNS)]
    for number, kind in enumerate(("cpu", "wall")):
        for name in calls:
            row[f"{kind} {name}"] = statistics.median(t[name][number] for t in turns) / ROWS
        for name in ("torch", "onnxruntime"):
            ratios = [t[name][number] / t["gemb"][number] for t in turns]
            row[f"{kind} ratio {name}"] = statistics.median(ratios)
    import onnxruntime

    libraries = (jax, torch, transformers, onnxruntime)
    row["versions"] = {library.__name__: library.__version__ for library in libraries}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
