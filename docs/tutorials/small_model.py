"""Data and a model for the tutorials that need no network and train in seconds.

The data are functions of Python's own library with their docstrings. The model is a table of token
vectors with random numbers: far weaker than a pretrained encoder, and a hundred times as fast.
"""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = ("asyncio", "concurrent", "email", "http", "json", "logging", "urllib", "xml")


def harvest(output: str) -> None:
    """Runs `gemb harvest` over some packages of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    folders = [str(library / name) for name in PACKAGES if (library / name).is_dir()]
    command = [sys.executable, "-m", "gemb.cli", "harvest", f"--output={output}", *folders]
    subprocess.run(command, check=True, capture_output=True)


def pairs(folder: str) -> list[dict[str, str]]:
    """The training pairs of a harvest."""
    lines = (Path(folder) / "train_stdlib.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def small_model(folder: str, width: int = 128, seed: int = 0):
    """A model with random weights and a vocabulary made of the training pairs."""
    import jax

    import gemb
    from gemb.models.functional import initial_params
    from gemb.models.scratch import from_scratch
    from gemb.processors.text import TextProcessor

    texts = [text for pair in pairs(folder) for text in (pair["query"], pair["document"])]
    processor = TextProcessor(_vocabulary(texts), max_length=64)
    model = from_scratch(processor, layers=0, width=width)
    draw = jax.jit(lambda key: initial_params(model.spec, key))
    return gemb.Embedder(model.with_params(jax.device_get(draw(jax.random.key(seed)))))


def _vocabulary(texts: list[str]) -> str:
    """A tokenizer.json: words and parts of words, lower case, underscores taken as spaces."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    steps = [normalizers.Replace("_", " "), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=4000, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()
