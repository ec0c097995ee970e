"""Students computed from teachers: a narrower model, a fitted head, or a table of token vectors.

They are computed, not trained. Training can start from them, and they are its baselines. For a
student with fewer layers use `gemb.pretrained.adapt.load` with `layers`.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gemb.checks import UserError
from gemb.data.preprocess.texts import texts_of
from gemb.data.sources.reading import files
from gemb.data.sources.records import Joined, digest, kept
from gemb.datasets import python_code
from gemb.identity import model_fingerprint
from gemb.inference.embedder import Embedder
from gemb.inference.encode import encode_examples, place, program
from gemb.losses import concatenate_teachers
from gemb.models.functional import functional
from gemb.models.model import Model, Tower
from gemb.models.scratch import static_text
from gemb.models.spec import DenseSpec, ModelSpec, TowerSpec
from gemb.pretrained.adapt import load
from gemb.processors.processor import Example
from gemb.training.distillation.teacher import check_weights


def reduced(
    model: str | Model,
    dim: int,
    *,
    records: Any = None,
    columns: Sequence[str] = ("query", "document"),
    sample: int = 2048,
    widths: Sequence[int] = (),
) -> Model:
    """Projects a model's vectors onto their `dim` leading principal axes, by a linear layer.

    The vectors are not centred first: no other `dim` coordinates keep inner products as well. The
    axes are ordered, so each prefix is the best of its width too; with all coordinates kept the
    result is the same model, nested.

    Args:
        model: a folder, a fetched model's name, or a loaded model.
        dim: coordinates to keep.
        records: texts to find the axes with, see `gemb.data.sources.reading.files`, or a list of
            such sources; default the harvest of this Python.
        columns: columns of the records; texts of "query" are embedded as queries.
        sample: number of records to read, evenly spaced.
        widths: nested widths to record in the model; default `dim` alone.

    Raises:
        UserError: if the model has fewer than `dim` coordinates, or the texts are too few.
    """
    loaded = _loaded(model)
    spec = loaded.spec
    if not 1 <= dim <= spec.dim:
        raise UserError(f"dim: expected 1 to {spec.dim}, got {dim}")
    texts = _texts(records, columns, sample)
    vectors = _vectors(loaded, texts, "principal axes", dim)
    axes = np.linalg.svd(vectors, full_matrices=False)[2]
    return _with_layer(loaded, axes[:dim].T, widths)


def fitted(
    model: str | Model,
    teachers: Sequence[str | Model],
    *,
    weights: Sequence[float] = (),
    records: Any = None,
    columns: Sequence[str] = ("query", "document"),
    sample: int = 2048,
    ridge: float = 3e-5,
    widths: Sequence[int] = (),
) -> Model:
    """Adds the linear layer that maps a model's vectors as near as possible to its teachers'.

    The layer is the ridge regression of the teachers' vectors, concatenated, on the model's own. It
    replaces a first stage that trains only a new head. It adds no information: if the teachers
    together are wider than the model, `reduced` to the model's own
    width afterwards loses nothing.

    Args:
        model: a folder, a fetched model's name, or a loaded model, such as some layers of one.
        teachers: folders, names of fetched models, or loaded models.
        weights: relative weights of several teachers, see `gemb.losses.concatenate_teachers`.
        records: texts to fit the layer on, as in `reduced`.
        columns: of the records, as in `reduced`.
        sample: number of records to read, evenly spaced.
        ridge: the penalty on the layer's squared weights, per text.
        widths: nested widths to record in the model; default the teachers' alone.

    Raises:
        UserError: if there are fewer texts than the model has coordinates, no penalty above zero,
            or weights that are not one above zero a teacher.
    """
    loaded = _loaded(model)
    if not ridge > 0:
        raise UserError(f"ridge: expected a number above 0, got {ridge}")
    named = [_loaded(teacher) for teacher in teachers]
    check_weights(weights, [teacher.spec.dim for teacher in named])
    texts, dim = _texts(records, columns, sample), loaded.spec.dim
    rows = np.float64(_vectors(loaded, texts, "student's vectors", dim))
    taught = [_vectors(teacher, texts, "teachers' vectors", dim) for teacher in named]
    goal = np.float64(concatenate_teachers(*taught, weights=weights))
    penalty = ridge * len(rows) * np.eye(dim)
    return _with_layer(loaded, np.linalg.solve(rows.T @ rows + penalty, rows.T @ goal), widths)


def static(
    model: str | Model,
    *,
    records: Any = None,
    columns: Sequence[str] = ("query", "document"),
    sample: int = 4096,
    smoothing: float = 1e-3,
) -> Model:
    """A static model: a table with the model's vector of each token alone.

    A text is embedded as the mean of its tokens' vectors; frequent tokens count less, by
    smoothing / (smoothing + share of the token among all).

    Args:
        model: a folder, a fetched model's name, or a loaded model.
        records: texts to count tokens in, likewise; default the harvest of this Python.
        columns: of the records.
        sample: number of records to read, evenly spaced.
        smoothing: see above; large values weight all tokens equally.

    Reference: Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", 2017,
        for the weights; the table as in Tulkens and van Dongen, "Model2Vec", 2024, without its PCA.
    """
    loaded = _loaded(model)
    tower = loaded.document
    bare = tower.processor.without_special_tokens()
    pooled = bare.prompts._replace(pooled=True)  # a static model pools all tokens
    bare = dataclasses.replace(bare, prompts=pooled)
    texts = [text for column in _texts(records, columns, sample).values() for text in column]
    if not texts:
        raise UserError("records: there are no texts to count tokens in")
    counted = bare.tokenizer().encode(texts)
    vectors = _kept("token_vectors", loaded, (), lambda: _token_vectors(tower))
    table = vectors * _weights(counted, tower.spec.encoder.vocab, smoothing)
    spec = TowerSpec(static_text(*table.shape), normalize=tower.spec.normalize)
    return Model.of(Tower(spec, {"text/token/table": table}, bare))


def _loaded(model: str | Model) -> Model:
    loaded = load(model) if isinstance(model, str) else model
    if not loaded.shared:
        raise UserError(
            f"model: {loaded.folder} has two towers; a student needs a model with one shared tower"
        )
    return loaded


def _kept(kind: str, model: Model, texts: Sequence[str], make: Callable) -> np.ndarray:
    """Results of an earlier call with the same model and texts, as by `teach` before `train`."""
    key = digest(model_fingerprint(model), *texts)
    return kept(kind, key, lambda: (make(), {}))[0]


def _vectors(
    model: Model, texts: Mapping[str, Sequence[str]], progress: str, least: int
) -> np.ndarray:
    """[texts, dim] float32, one column after the other."""
    count = sum(map(len, texts.values()))
    if count < least:
        raise UserError(f"records: {count} texts are too few to fit {least} coordinates")

    def vectors():
        embedder = Embedder(model)
        parts = [
            embedder.encode(
                rows, kind="query" if name == "query" else "document", progress=progress
            )
            for name, rows in texts.items()
        ]
        return np.concatenate(parts)

    return _kept("vectors", model, [json.dumps(texts)], vectors)


def _with_layer(model: Model, kernel: np.ndarray, widths: Sequence[int]) -> Model:
    """The model with one more linear layer [its dim, new dim] at its end."""
    tower = model.document
    layers, params = list(tower.spec.dense), dict(tower.params)
    layer = DenseSpec(*kernel.shape, bias=False)
    if layers and layers[-1].activation == "identity":  # merge two linear layers in a row
        layer = dataclasses.replace(layers.pop(), outputs=layer.outputs)
        path = f"dense/layers/{len(layers)}"
        if layer.bias:
            params[f"{path}/bias"] = params[f"{path}/bias"] @ kernel
        kernel = params[f"{path}/kernel"] @ kernel
    params[f"dense/layers/{len(layers)}/kernel"] = kernel
    params = {path: np.ascontiguousarray(value, np.float32) for path, value in params.items()}
    spec = dataclasses.replace(tower.spec, dense=(*layers, layer), widths=tuple(widths))
    return model.with_tower(dataclasses.replace(tower, spec=spec, params=params))


def _token_vectors(tower: Tower) -> np.ndarray:
    """[vocab, dim] float32: the vector of every token alone, between the special tokens."""
    processor = tower.processor
    before, after = processor.tokenizer().around
    rows = [[*before, token, *after] for token in range(tower.spec.encoder.vocab)]
    return encode_examples(
        program(functional(ModelSpec.of(tower.spec)).document.embed),
        place(tower.params),
        [Example(None, row, len(row)) for row in rows],
        processor.with_limit(len(rows[0])),
        dim=tower.spec.dim,
        progress="token vectors",
    )


def _weights(ids: Sequence[Sequence[int]], vocab: int, smoothing: float) -> np.ndarray:
    """[vocab, 1] float32."""
    counts = np.bincount(np.concatenate([np.asarray(row, np.int64) for row in ids]), None, vocab)
    return (smoothing / (smoothing + counts / counts.sum())).astype(np.float32)[:, None]


def _texts(records: Any, columns: Sequence[str], sample: int) -> dict[str, list[str]]:
    """Column -> its texts."""
    if records is None:
        records = files(python_code.ensure_harvest() / "train_stdlib.jsonl")
    if isinstance(records, list | tuple):
        records = Joined(records)
    rows = np.unique(np.linspace(0, len(records) - 1, min(sample, len(records))).astype(int))
    found = (records[int(row)] for row in rows)
    filled = [record for record in found if record]  # None is a blank line
    for name in columns:
        if not all(name in record for record in filled):
            there = ", ".join(map(str, next(record for record in filled if name not in record)))
            raise UserError(f"columns: a record has no {name!r}; its columns are {there}")
    return {
        name: [text for record in filled for text in texts_of(record, name)] for name in columns
    }
