"""Classes of texts, by the classifiers of `gemb classify`, as an answer of the API."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.analysis.classifier import Classifier, Decision
from gemb.checks import UserError
from gemb.serving.batching.towers import ServedModel
from gemb.serving.http import wire
from gemb.serving.http.errors import ApiError
from gemb.serving.http.web import Context
from gemb.serving.retrieval import loaded_model
from gemb.serving.state import State


class ServedClassifier(NamedTuple):
    """A classifier and the model that it reads.

    Attributes:
        heads: the classifier.
        model: that encodes.
    """

    heads: Classifier
    model: ServedModel

    def describe(self, name: str) -> dict:
        """For /v1/versions."""
        return {
            "classifier": name,
            "model": self.model.name,
            "fingerprint": self.heads.model,
            "labels": len(self.heads.labels),
            "widths": self.heads.widths,
        }


def open_classifier(
    folder: str, models: dict[str, ServedModel], **options
) -> tuple[str, ServedClassifier]:
    """Opens a folder of `gemb classify train`.

    Args:
        folder: its place.
        models: loaded models by fingerprint; the classifier's own is added.
        **options: see `ServedModel.load`.

    Returns:
        The name that it is served under, and the classifier.

    Raises:
        UserError: it is damaged, or its model is missing or has changed.
    """
    heads = Classifier.load(folder)
    model = models.get(heads.model) or loaded_model(heads.encoder, models, **options)
    try:
        heads.check_model(model.fingerprint)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return Path(folder).resolve().name, ServedClassifier(heads, model)


async def classify(state: State, asked: wire.Classify, context: Context) -> dict:
    """Answers /v1/classify.

    Raises:
        ApiError: what the request asks cannot be done.
    """
    name, served = _chosen(state, asked.classifier)
    texts, _ = wire.inputs(asked.input)
    lane = context.lane(state.lane(len(texts)))
    deadline = context.deadline(state.seconds(lane))
    context.log |= {"lane": lane, "texts": len(texts), "classifier": name}
    job, examples = await state.encode(
        served.model, texts, "document", lane=lane, deadline=deadline
    )
    start = time.monotonic()
    decided = await state.run(state.search_pool, served.heads.decide, job.vectors)
    state.stage("classify", time.monotonic() - start)
    for width, count in zip(*np.unique(decided.widths, return_counts=True), strict=True):
        state.metrics.classified.labels(name, str(width)).inc(int(count))
    read = sum(example.size for example in examples)
    return {
        "object": "list",
        "data": _rows(decided, served.heads.labels, asked.top),
        "classifier": name,
        "model": served.model.name,
        "usage": {"prompt_tokens": read, "total_tokens": read},
        "gemb": {
            "fingerprint": served.model.fingerprint,
            "truncated": served.model.cut(examples, "document"),
        },
    }


def _chosen(state: State, name: str) -> tuple[str, ServedClassifier]:
    if not name and state.classifiers:
        name = next(iter(state.classifiers))
    if name not in state.classifiers:
        known = ", ".join(state.classifiers) or "none"
        raise ApiError(
            404, f"classifier: not known; served are: {known}", "unknown_classifier",
            param="classifier",
        )  # fmt: skip
    return name, state.classifiers[name]


def _rows(decided: Decision, labels: tuple[str, ...], top: int) -> list[dict]:
    rows = []
    best = np.argsort(-decided.probabilities, axis=1, kind="stable")[:, :top]
    for number, (order, width) in enumerate(zip(best.tolist(), decided.widths, strict=True)):
        scores = decided.probabilities[number, order].tolist()
        named = [
            {"label": labels[row], "score": score} for row, score in zip(order, scores, strict=True)
        ]
        rows.append({"index": number, **named[0], "width": int(width), "labels": named})
    return rows
