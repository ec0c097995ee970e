"""Encoding with EmbeddingGemma 2's shape: gemb and transformers; equal random weights.

    python benchmarks/embedding_gemma.py           # extras: images, peers; one JSON line per set

Tokens and pixels are given to both, so only the model is measured: a picture of 800 x 600 pixels
(266 visual tokens of 2,394 patches), a text of 502 tokens, one of 2,048, and 32 texts of 24 tokens.
They run one after the other in turns of one process; times are medians over the turns in seconds,
the ratio is the median over the turns of transformers' time over gemb's. The audio encoder is
left out.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import torch
import transformers
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from gemb.inference.encode import place, program
from gemb.models.execution import Execution
from gemb.models.functional import functional, kernels_for_encoding
from gemb.models.spec import ModelSpec
from gemb.pretrained import adapt
from gemb.structs import Image, Tokens
from gemb.tokenizers import byte_tokenizer_json

TURNS = 5
LENGTHS = {"text of 502 tokens": (1, 502), "text of 2,048 tokens": (1, 2048)}
LENGTHS["32 texts of 24 tokens"] = (32, 24)


def write_model(folder: Path):
    """A model with random weights, whose attention is neither even nor on one token."""
    torch.manual_seed(0)
    config = transformers.EmbeddingGemma2Config(
        vision_config={"model_type": "gemma4_vision"}, audio_config=None
    )
    model = transformers.EmbeddingGemma2Model(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn_like(weight) * 0.04
            weight.copy_(1 + 8 * drawn if "norm" in name else drawn)
            if "q_norm" in name or "k_norm" in name:
                weight.mul_(0.25)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(byte_tokenizer_json(), encoding="utf-8")
    settings = {"image_processor_type": "Gemma4ImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


def inputs_of(tower) -> dict[str, tuple]:
    """{set: (gemb's Inputs, transformers' arguments)}"""
    random = np.random.default_rng(0)
    made = {}
    picture = random.integers(0, 256, (600, 800, 3)).astype(np.uint8)
    read = Gemma4ImageProcessorPil()([PIL.Image.fromarray(picture)], return_tensors="pt")
    count = int(read.pop("num_soft_tokens_per_image")[0])
    ids = torch.tensor([[1, 255_999, *[258_880] * count, 258_882, 2]])
    examples = tower.processor.prepare([Image(picture)], "document")
    patches = tower.processor.collate(examples, 0)
    made["picture"] = patches, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **read}
    for name, shape in LENGTHS.items():
        drawn = random.integers(3, 259, shape).astype(np.int32)
        given = {"input_ids": torch.tensor(drawn).long()}
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        made[name] = Tokens(drawn, np.ones(shape, bool)), given
    return made


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        theirs = write_model(Path(folder))
        tower = adapt.load(folder, max_length=2048).document
    params = place(kernels_for_encoding(tower.params, Execution()))
    apply = program(functional(ModelSpec.of(tower.spec)).document.embed)
    versions = {library.__name__: library.__version__ for library in (jax, torch, transformers)}

    def of_torch(given):
        with torch.inference_mode():
            pooled = theirs(**given).last_hidden_state.mean(1)
            return torch.nn.functional.normalize(pooled).numpy()

    def of_gemb(inputs):
        return np.asarray(apply(params, inputs))

    for name, (inputs, given) in inputs_of(tower).items():
        difference = np.abs(of_gemb(inputs) - of_torch(given)).max()
        times: dict[str, list[float]] = {"gemb": [], "transformers": []}
        for _ in range(TURNS):
            for library, call, values in (
                ("gemb", of_gemb, inputs),
                ("transformers", of_torch, given),
            ):
                start = time.perf_counter()
                call(values)
                times[library].append(time.perf_counter() - start)
        row = {"set": name, "turns": TURNS, "largest difference": float(difference)}
        row |= {library: statistics.median(values) for library, values in times.items()}
        pairs = zip(times["transformers"], times["gemb"], strict=True)
        row["ratio"] = statistics.median(other / own for other, own in pairs)
        print(json.dumps(row | {"versions": versions}), flush=True)


if __name__ == "__main__":
    main()
