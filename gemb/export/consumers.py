"""Other programs that compute a model's folder here: each gives vectors, or says why it cannot."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import needs
from gemb.export.folder import FORMATS, export, read_manifest
from gemb.export.tokens import FileTokens
from gemb.models.block import ACTIVATIONS
from gemb.models.model import Model, Tower
from gemb.models.poolers import POOLERS


class Case(NamedTuple):
    """A prompt of a folder: its name, the side that encodes after it, and its text."""

    name: str
    side: str
    prompt: str


Encode = Callable[[list[str], Case, int], np.ndarray]  # (texts, case, width) -> [texts, width]


class NotForThis(Exception):
    """A model that a program does not take, with the reason."""


def sentence_transformers(folder: Path, model: Model) -> Encode:
    """sentence-transformers, which finds the prompts itself, by `truncate_dim`."""
    with needs("sentence-transformers", extra="peers"):
        from sentence_transformers import SentenceTransformer
    if model.document.origin.manifest.get("heads") or _learned(model):
        raise NotForThis("a learned pooler, which only gemb computes")
    peer = SentenceTransformer(str(folder), device="cpu")

    def encode(texts, case, width):
        given = {"truncate_dim": width, "show_progress_bar": False}
        given["normalize_embeddings"] = getattr(model, case.side).spec.normalize
        calls = {"query": peer.encode_query, "document": peer.encode_document}
        if case.name not in calls:
            given["prompt_name"] = case.name
        return np.asarray(calls.get(case.name, peer.encode)(texts, **given), np.float32)

    return encode


def transformers(folder: Path, model: Model) -> Encode:
    """AutoTokenizer and AutoModel; pooling, projection and norm by the folder's description."""
    with needs("transformers", extra="peers"):
        import torch
        from transformers import AutoModel, AutoTokenizer
    if _learned(model):
        raise NotForThis("a learned pooler, which only gemb computes")
    parts = {}
    for start, tower in model.towers.items():
        if not tower.spec.encoder.stack.layers:
            raise NotForThis("transformers has no static models")
        place = str(folder / start)
        tokenizer = AutoTokenizer.from_pretrained(place)
        tokenizer.padding_side = "right"
        parts[start.rstrip("/")] = tokenizer, AutoModel.from_pretrained(place).eval().float()

    def encode(texts, case, width):
        tower = getattr(model, case.side)
        tokenizer, network = parts.get(case.side) or parts[""]
        limit = {"truncation": True, "max_length": tower.processor.max_length}
        rows = [
            tokenizer([case.prompt + text], return_tensors="pt", **limit) for text in texts
        ]  # one at a time, without padding
        with torch.no_grad():
            states = [
                network(input_ids=row["input_ids"], attention_mask=row["attention_mask"])
                for row in rows
            ]
        hidden = [np.asarray(state.last_hidden_state) for state in states]
        skipped = 0 if tower.processor.prompts.pooled else _prompt_length(tower, case)
        return np.concatenate([_finished(tower, one, skipped, width) for one in hidden])

    return encode


def onnx_runtime(folder: Path, model: Model) -> Encode:
    """ONNX Runtime, on what `gemb export` writes of the folder."""
    with needs("ONNX Runtime", extra="export"):
        import onnxruntime  # noqa: F401
    kept = tempfile.TemporaryDirectory(prefix="gemb-verify-")
    output = Path(kept.name) / "onnx"
    export(str(folder), output, form="onnx", texts=20)
    parts = {}
    for start, tower in model.towers.items():
        place = output / start
        manifest = read_manifest(place)
        run = FORMATS["onnx"].encoder(place / manifest["file"], tower)
        parts[start.rstrip("/")] = place, manifest, run

    def encode(texts, case, width):
        place, manifest, run = parts.get(case.side) or parts[""]
        assert kept.name  # lives as long as what reads it
        hidden = manifest["prompt_tokens"]
        length = {case.side: _prompt_length(getattr(model, case.side), case)}
        tokens = FileTokens(place, {case.side: case.prompt}, None if hidden is None else length)
        at = list(manifest["outputs"].values()).index(width)
        return np.concatenate([run(*tokens([text], case.side))[at] for text in texts])

    return encode


CONSUMERS = {
    "sentence-transformers": sentence_transformers,
    "transformers": transformers,
    "ONNX Runtime": onnx_runtime,
}


def _learned(model: Model) -> bool:
    return any(tower.spec.pooling not in POOLERS for tower in model.towers.values())


def _prompt_length(tower: Tower, case: Case) -> int:
    return tower.processor.tokenizer(case.prompt).prompt_length


def _finished(tower: Tower, hidden: np.ndarray, skipped: int, width: int) -> np.ndarray:
    """[1, width] of [1, length, hidden size]: pooled, projected, cut, of unit length."""
    import jax.numpy as jnp

    mask = np.arange(hidden.shape[1])[None] >= skipped
    real = np.ones_like(mask)
    masks = (mask, real) if tower.spec.pooling == "weightedmean" else (mask,)
    x = np.asarray(POOLERS[tower.spec.pooling](jnp.asarray(hidden), *map(jnp.asarray, masks)))
    for number, dense in enumerate(tower.spec.dense):
        path = f"dense/layers/{number}"
        x = x @ np.asarray(tower.params[f"{path}/kernel"])
        x = x + (np.asarray(tower.params[f"{path}/bias"]) if dense.bias else 0)
        x = np.asarray(ACTIVATIONS[dense.activation](x))
    x = x[:, :width]
    if not tower.spec.normalize:
        return x
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
