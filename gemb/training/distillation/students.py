"""Students made out of teachers: a narrower one, one with a fitted head, a table of token vectors.

They are computed, not trained; training starts from them, and they are the baselines of what it
reaches. A student of fewer layers is `gemb.pretrained.adapt.load` with `layers`.
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
from gemb.inference.embedder import Embedder, model_fingerprint
from gemb.inference.encode import encode_ids, place, program
from gemb.losses import concatenate_teachers
from gemb.models.functional import functional
from gemb.models.spec import DenseSpec, ModelSpec
from gemb.pretrained.adapt import load
from gemb.pretrained.families import static as static_family
from gemb.pretrained.folder import Pretrained
from gemb.tokenizers.tokenizer import Tokenizer
from gemb.training.distillation.teacher import check_weights


def reduced(
    model: str | Pretrained,
    dim: int,
    *,
    records: Any = None,
    columns: Sequence[str] = ("query", "document"),
    sample: int = 2048,
    widths: Sequence[int] = (),
) -> Pretrained:
    """A model with its vectors on their `dim` leading principal axes, by a linear layer.

    The axes are those of the vectors as they are, not of their differences from the mean: no other
    `dim` coordinates keep inner products as well. They are in order, so that a prefix is the best
    of its width too: with all coordinates kept it is the same model, nested.

    Args:
        model: a folder, a fetched model's name, or a loaded model.
        dim: coordinates to keep.
        records: texts to find the axes with, see `gemb.data.sources.reading.files`, or a list of
            such sources; default the harvest of this Python.
        columns: of the records; what stands in "query" is embedded as a query.
        sample: how many records are read, evenly spaced.
        widths: nested widths to record in the model; default `dim` alone.

    Raises:
        UserError: if the model has fewer than `dim` coordinates, or there are too few texts.
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
    model: str | Pretrained,
    teachers: Sequence[str | Pretrained],
    *,
    weights: Sequence[float] = (),
    records: Any = None,
    columns: Sequence[str] = ("query", "document"),
    sample: int = 2048,
    ridge: float = 3e-5,
    widths: Sequence[int] = (),
) -> Pretrained:
    """A model with a linear layer that brings its vectors as near to its teachers' as one can.

    The layer is the ridge regression of the teachers' vectors, concatenated, on the model's own. It
    stands in for a first stage that trains a new head alone. It adds nothing that the model does
    not have: where the teachers together are wider than the model, `reduced` to the model's own
    width afterwards loses nothing.

    Args:
        model: a folder, a fetched model's name, or a loaded model, such as some layers of one.
        teachers: folders, names of fetched models, or loaded models.
        weights: of several, how much each counts, see `gemb.losses.concatenate_teachers`.
        records: texts to fit the layer on, as in `reduced`.
        columns: of the records, as in `reduced`.
        sample: how many records are read, evenly spaced.
        ridge: the penalty on the layer's squares, for each text.
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
    model: str | Pretrained,
    *,
    records: Any = None,
    columns: Sequence[str] = ("query", "document"),
    sample: int = 4096,
    smoothing: float = 1e-3,
) -> Pretrained:
    """A table of token vectors, each the model's own vector of that token alone.

    A text is embedded as the mean of its tokens' vectors; frequent tokens count less, by
    smoothing / (smoothing + share of the token among all).

    Args:
        model: a folder, a fetched model's name, or a loaded model.
        records: texts to count tokens in, likewise; default the harvest of this Python.
        columns: of the records.
        sample: how many records are read, evenly spaced.
        smoothing: see above; large values count all tokens alike.

    Reference: Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", 2017,
        for the weights; the table as in Tulkens and van Dongen, "Model2Vec", 2024, without its PCA.
    """
    loaded = _loaded(model)
    spec = loaded.spec
    bare = json.dumps(json.loads(loaded.tokenizer_json) | {"post_processor": None})
    texts = [text for column in _texts(records, columns, sample).values() for text in column]
    if not texts:
        raise UserError("records: there is no text to count tokens in")
    counted = Tokenizer(bare, spec.max_length).encode(texts)
    vectors = _kept("token_vectors", loaded, (), lambda: _token_vectors(loaded))
    table = vectors * _weights(counted, spec.text.vocab, smoothing)
    config = {"model_type": "static", "vocab_size": len(table), "hidden_size": spec.dim}
    made = ModelSpec(
        static_family.text_spec(config),
        normalize=spec.normalize,
        max_length=spec.max_length,
        query_prompt=spec.query_prompt,
        document_prompt=spec.document_prompt,
    )
    return Pretrained(made, {"text/token/table": table}, config, {}, bare, None, {})


def _loaded(model: str | Pretrained) -> Pretrained:
    return load(model) if isinstance(model, str) else model


def _kept(kind: str, model: Pretrained, texts: Sequence[str], make: Callable) -> np.ndarray:
    """What was computed of a model, and of texts, by an earlier call: `teach`, then `train`."""
    key = digest(model_fingerprint(model), *texts)
    return kept(kind, key, lambda: (make(), {}))[0]


def _vectors(
    model: Pretrained, texts: Mapping[str, Sequence[str]], progress: str, least: int
) -> np.ndarray:
    """[texts, dim] float32, of one column after the other."""
    count = sum(map(len, texts.values()))
    if count < least:
        raise UserError(f"records: {count} texts do not tell {least} coordinates")

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


def _with_layer(model: Pretrained, kernel: np.ndarray, widths: Sequence[int]) -> Pretrained:
    """The model with a linear layer, [its dim, new dim], behind its own."""
    layers, params = list(model.spec.dense), dict(model.params)
    layer = DenseSpec(*kernel.shape, bias=False)
    if layers and layers[-1].activation == "identity":  # two linear layers in a row are one
        layer = dataclasses.replace(layers.pop(), outputs=layer.outputs)
        path = f"dense/layers/{len(layers)}"
        if layer.bias:
            params[f"{path}/bias"] = params[f"{path}/bias"] @ kernel
        kernel = params[f"{path}/kernel"] @ kernel
    params[f"dense/layers/{len(layers)}/kernel"] = kernel
    params = {path: np.ascontiguousarray(value, np.float32) for path, value in params.items()}
    spec = dataclasses.replace(model.spec, dense=(*layers, layer), widths=tuple(widths))
    return dataclasses.replace(model, spec=spec, params=params)


def _token_vectors(model: Pretrained) -> np.ndarray:
    """[vocab, dim] float32: every token by itself, between the special tokens of a text."""
    from tokenizers import Tokenizer as RustTokenizer

    tokenizer = RustTokenizer.from_str(model.tokenizer_json)
    tokenizer.no_padding()  # published ones pad every text to 128 tokens
    some = tokenizer.encode("a")
    own = [i for i, special in enumerate(some.special_tokens_mask) if not special]
    before, after = some.ids[: own[0]], some.ids[own[-1] + 1 :]
    ids = [[*before, token, *after] for token in range(model.spec.text.vocab)]
    return encode_ids(
        program(functional(model.spec).apply),
        place(model.params),
        ids,
        max_length=len(ids[0]),
        dim=model.spec.dim,
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
            raise UserError(f"columns: {name!r} is missing from a record, which has {there}")
    return {
        name: [text for record in filled for text in texts_of(record, name)] for name in columns
    }
