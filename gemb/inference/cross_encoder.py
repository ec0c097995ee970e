"""Cross-encoders: score a query and a document together, with torch and transformers.

They are used as teachers and for re-scoring. gemb does not train them, so torch runs them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError, needs
from gemb.pretrained.fetch import REQUIRED_FILES, model_folder


class CrossEncoder:
    """A transformers sequence-classification model with one output, read from safetensors.

    Args:
        model: folder, or name of a fetched model.
        batch: pairs per batch.
        max_length: tokens that a pair is cut to.

    Attributes:
        fingerprint: identifies weights, tokenizer, config and length limit.

    Raises:
        UserError: torch or transformers is not installed, or the model cannot be read or has
            several outputs.
    """

    def __init__(self, model: str, *, batch: int = 64, max_length: int = 512):
        folder = Path(model_folder(model))
        self._batch, self._length = batch, max_length
        self.fingerprint = cross_encoder_fingerprint(folder, max_length)
        self._tokenizer, self._model = _load(folder)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """[pairs] float32, the raw outputs for (query, document) pairs."""
        import torch

        order = np.argsort([-len(q) - len(d) for q, d in pairs], kind="stable")
        made = np.empty(len(pairs), np.float32)
        for start in range(0, len(order), self._batch):
            rows = order[start : start + self._batch]
            queries, documents = zip(*(pairs[row] for row in rows), strict=True)
            tokens = self._tokenizer(
                list(queries), list(documents), padding=True, truncation=True,
                max_length=self._length, return_tensors="pt",
            )  # fmt: skip
            with torch.inference_mode():
                made[rows] = self._model(**tokens).logits[:, 0].float().numpy()
        return made


def cross_encoder_fingerprint(folder: Path, max_length: int) -> str:
    """Fingerprint of weights, tokenizer, config and length limit, from the files alone."""
    digest = hashlib.sha256(str(max_length).encode())
    others = {*folder.glob("*.safetensors"), *folder.glob("*.model")}  # shards, SentencePiece
    named = [folder / name for name in REQUIRED_FILES]
    for path in [*named, *sorted(others - set(named))]:
        if path.is_file():
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()[:32]


def _load(folder: Path):
    """The tokenizer and the model of a folder."""
    with needs("a cross-encoder", extra="cross-encoder"):
        import torch  # noqa: F401 - transformers imports without it, and then has no models
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: has no config.json; expected a transformers model")
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{folder}: cannot be read as a cross-encoder: {first}") from None
    if model.config.num_labels != 1:
        raise UserError(
            f"{folder}: a classifier with {model.config.num_labels} classes; a "
            "cross-encoder has one output"
        )
    return tokenizer, model.eval()
