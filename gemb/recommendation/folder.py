"""The folder that a recommender is saved as.

recommender.json     format, version, the model's parts, the segment's column
users.jsonl, items.jsonl   {"id", ...}: the tables
seen.safetensors     the items that users have
model.safetensors    the model's tensors, "PART/NAME"
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from gemb.checks import UserError
from gemb.data.interactions.reading import SideTable, read_table
from gemb.files import atomic_folder, read_manifest, save_tensors
from gemb.recommendation.baselines.baseline import Baseline
from gemb.recommendation.baselines.factors import Factors
from gemb.recommendation.baselines.item_weights import ItemWeights
from gemb.recommendation.baselines.popularity import Popularity
from gemb.recommendation.vectors import Fused, TextVectors, TwoStages, Vectors

FORMAT, VERSION, MANIFEST = "gemb recommender", 1, "recommender.json"
TOWERS = "towers"
MADE_BY = "gemb baselines DATA --save=NAME"
_SIMPLE = {kind.kind: kind for kind in (Popularity, ItemWeights, Factors, Vectors, TextVectors)}


def write(
    place: str | Path,
    model: Baseline,
    users: SideTable,
    items: SideTable,
    seen: scipy.sparse.csr_array,
    segment: str,
    towers: str | Path = "",
) -> None:
    """Writes the folder, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    tensors: dict[str, np.ndarray] = {}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "model": _described(model, "model", tensors),
        "segment": segment,
        "users": len(users.ids),
        "items": len(items.ids),
    }
    with atomic_folder(place) as made:
        _write_table(made / "users.jsonl", users)
        _write_table(made / "items.jsonl", items)
        save_tensors(made / "seen.safetensors", {"indices": seen.indices, "indptr": seen.indptr})
        save_tensors(made / "model.safetensors", tensors)
        if towers:
            shutil.copytree(towers, made / TOWERS)
        (made / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read(
    place: str | Path,
) -> tuple[Baseline, SideTable, SideTable, scipy.sparse.csr_array, str]:
    """The model, the tables of users and items, what users have, and the segment's column.

    Raises:
        UserError: for another folder, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    root = Path(place).expanduser()
    fields = {"model": dict, "segment": str, "users": int, "items": int}
    manifest = read_manifest(root / MANIFEST, FORMAT, VERSION, fields, MADE_BY)
    try:
        users, items = (
            read_table(root / "users.jsonl", "id"),
            read_table(root / "items.jsonl", "id"),
        )
        kept = load_file(root / "seen.safetensors")
        tensors = load_file(root / "model.safetensors")
        shape = (len(users.ids), len(items.ids))
        if shape != (manifest["users"], manifest["items"]):
            raise ValueError("its tables have other lengths than its manifest says")
        ones = np.ones(len(kept["indices"]), np.float32)
        seen = scipy.sparse.csr_array((ones, kept["indices"], kept["indptr"]), shape=shape)
        model = _built(manifest["model"], "model", tensors)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{root}: damaged ({error}); make it with `{MADE_BY}`") from None
    return model, users, items, seen, manifest["segment"]


def _write_table(path: Path, table: SideTable) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for row, name in enumerate(table.ids):
            record = {"id": name} | {key: values[row] for key, values in table.columns.items()}
            file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")


def _described(model: Baseline, name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the manifest says of a model; its tensors are added to `tensors`."""
    if isinstance(model, TwoStages):
        return {
            "kind": model.kind,
            "candidates": model.candidates,
            "weight": model.weight,
            "retriever": _described(model.retriever, f"{name}.retriever", tensors),
            "ranker": _described(model.ranker, f"{name}.ranker", tensors),
        }
    if isinstance(model, Fused):
        parts = [_described(p, f"{name}.{n}", tensors) for n, p in enumerate(model.parts)]
        return {"kind": model.kind, "weights": model.weights, "parts": parts}
    if model.kind not in _SIMPLE:
        raise UserError(f"a model of kind {model.kind!r} cannot be saved")
    tensors |= {f"{name}/{key}": np.asarray(value) for key, value in model.tensors().items()}
    return {"kind": model.kind}


def _built(about: dict[str, Any], name: str, tensors: dict[str, np.ndarray]) -> Baseline:
    kind = about["kind"]
    if kind == TwoStages.kind:
        return TwoStages(
            _built(about["retriever"], f"{name}.retriever", tensors),
            _built(about["ranker"], f"{name}.ranker", tensors),
            candidates=about["candidates"],
            weight=about["weight"],
        )
    if kind == Fused.kind:
        parts = [_built(part, f"{name}.{n}", tensors) for n, part in enumerate(about["parts"])]
        return Fused(parts, about["weights"])
    if kind not in _SIMPLE:
        raise ValueError(f"a model of kind {kind!r}")
    start = f"{name}/"
    own = {key.removeprefix(start): v for key, v in tensors.items() if key.startswith(start)}
    return _SIMPLE[kind].from_tensors(own)
