"""The folder of a model over features: columns, vocabularies, shape and weights.

gemb.json          "kind": "features", fingerprint, shape, similarity, nested widths, training
features.json      the columns and vocabularies, see gemb.processors.features
model.safetensors  the weights by their paths
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_folder, read_object, save_tensors
from gemb.identity import model_fingerprint
from gemb.models.encoders.features import FeaturesSpec, Part, Side, Wide
from gemb.models.functional import functional
from gemb.models.model import Model, Origin, Tower
from gemb.models.spec import StackSpec, TowerSpec
from gemb.pretrained.feature_models.frozen import frozen_texts
from gemb.pretrained.folder import MANIFEST
from gemb.pretrained.publishing.facts import CARD
from gemb.processors.columns import Text
from gemb.processors.features import FeaturesProcessor
from gemb.structs import SIDES

KIND, WEIGHTS = "features", "model.safetensors"
_CARD = """# Users and items in one space

Made by gemb; other libraries do not read this folder. It has columns and vocabularies
(features.json), weights (model.safetensors) and its shape and fingerprint (gemb.json).

```python
import gemb

model = gemb.load("this folder")
users = model.encode_query([{example}])  # records with any of: {query}
items = model.encode_document([...])  # records with any of: {document}
```

Vectors have {dim} coordinates and are compared by {similarity}.
"""


def is_feature_model(folder: Path) -> bool:
    """Whether a folder holds a model over features."""
    return read_object(folder / MANIFEST).get("kind") == KIND


def save_features(model: Model, folder: Path, training: dict | None = None) -> str:
    """Writes a model over features, whole or not at all.

    Args:
        model: with one tower for both sides, and weights.
        folder: where; replaced when everything is written.
        training: a summary of how it was made.

    Returns:
        Its fingerprint.

    Raises:
        UserError: for two towers, or a place that cannot be written.
    """
    if not model.shared:
        raise UserError(f"{folder}: a model over features has one tower for both sides")
    tower = model.document
    identity = model_fingerprint(model)
    spec = tower.spec
    manifest = {
        "kind": KIND,
        "fingerprint": identity,
        "dim": spec.dim,
        "widths": spec.widths,
        "similarity": spec.similarity,
        "normalize": spec.normalize,
        "encoder": dataclasses.asdict(spec.encoder),
        "training": training or {},
    }
    with atomic_folder(folder) as temporary:
        tower.processor.save(temporary)
        save_tensors(
            temporary / WEIGHTS, {path: np.asarray(value) for path, value in tower.params.items()}
        )
        text = json.dumps(manifest, indent=2) + "\n"
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
        (temporary / CARD).write_text(_card(tower), encoding="utf-8")
    return identity


def load_features(folder: Path) -> Model:
    """Reads a model over features; text columns load their models again.

    Raises:
        UserError: for a damaged folder, weights or columns that do not belong to it, or a text
            model that has changed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    manifest = read_object(folder / MANIFEST)
    processor = FeaturesProcessor.load(folder)
    try:
        spec = TowerSpec(
            _encoder(manifest["encoder"]),
            normalize=manifest["normalize"],
            widths=tuple(manifest["widths"]),
            similarity=manifest["similarity"],
        )
        params = load_file(folder / WEIGHTS)
        tower = Tower(spec, params, processor, Origin(folder, manifest=manifest))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: damaged ({error})") from None
    model = Model.of(tower)
    shapes = {path: shape.shape for path, shape in functional(model.spec).shapes.items()}
    if {path: value.shape for path, value in params.items()} != shapes:
        raise UserError(f"{folder}: its weights are not those of its shape")
    if model_fingerprint(model) != manifest.get("fingerprint"):
        raise UserError(
            f"{folder}: its columns, vocabularies or weights are not those that it was saved with"
        )
    return _with_encoders(model)


def _card(tower: Tower) -> str:
    names = {side: [c.entry for c in getattr(tower.processor, side)] for side in SIDES}
    columns = {side: ", ".join(dict.fromkeys(own)) for side, own in names.items()}
    first = f'{{"{names["query"][0]}": ...}}'
    return _CARD.format(
        example=first, **columns, dim=tower.spec.dim, similarity=tower.spec.similarity
    )


def _encoder(tree: dict) -> FeaturesSpec:
    sides = {}
    for side in SIDES:
        own = tree[side]
        parts = tuple(Part(**part) for part in own["parts"])
        sides[side] = Side(parts, own["top"], tuple(own["layers"]))
    stack = tree["history"]
    if stack is not None:
        fields = {name: tuple(v) if isinstance(v, list) else v for name, v in stack.items()}
        stack = StackSpec(**fields)
    tables = tuple((name, rows) for name, rows in tree["tables"])
    wide = Wide(**tree["wide"]) if tree.get("wide") else None
    return FeaturesSpec(tables, **sides, width=tree["width"], history=stack, wide=wide)


def _with_encoders(model: Model) -> Model:
    tower, encoders = model.document, {}
    changes = {}
    for side in SIDES:
        columns = []
        for column in getattr(tower.processor, side):
            if isinstance(column, Text):
                if column.model not in encoders:
                    encoders[column.model] = frozen_texts(column.model)
                column = column.with_encoder(encoders[column.model])
            columns.append(column)
        changes[side] = tuple(columns)
    processor = dataclasses.replace(tower.processor, **changes)
    return Model.of(dataclasses.replace(tower, processor=processor))
