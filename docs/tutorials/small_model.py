"""Data and a model for the tutorials that need no network and train in seconds.

The data are functions of Python's own library with their docstrings. The model is a table of token
vectors with random numbers: far weaker than a pretrained encoder, and a hundred times as fast.
"""

import json
import subprocess
import sys
import sysconfig
from collections import Counter
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
    """A tokenizer.json: frequent words, and letters for the others; lower case, _ is a space."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    lower = normalizers.Sequence([normalizers.Replace("_", " "), normalizers.Lowercase()])
    split = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word for text in texts for word, _ in split.pre_tokenize_str(lower.normalize_str(text))
    )
    frequent = sorted(words, key=lambda word: (-words[word], word))[:4000]
    letters = sorted({letter for word in words for letter in word})
    pieces = ["[PAD]", "[UNK]", *letters, *(f"##{letter}" for letter in letters), *frequent]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = lower, split
    return tokenizer.to_str()
