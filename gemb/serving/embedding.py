"""Vectors of texts and re-ranking, as answers of the API."""

import base64
import time

import numpy as np

from gemb.serving.batching.towers import ServedModel
from gemb.serving.http import wire
from gemb.serving.http.errors import ApiError, bad_request
from gemb.serving.http.web import Context
from gemb.serving.state import State
from gemb.structs import SIDES


async def embeddings(state: State, asked: wire.Embeddings, context: Context) -> dict:
    """Answers /v1/embeddings.

    Raises:
        ApiError: what the request asks cannot be done.
    """
    name, colon, named = asked.model.rpartition(":")
    if not colon or named not in SIDES:
        name, named = asked.model, ""
    side = asked.input_type or named or "document"
    model = state.model(name)
    dim = _width(model, asked.dimensions)
    values, tokens = wire.inputs(asked.input)
    lane = context.lane(state.lane(len(values)))
    deadline = context.deadline(state.seconds(lane))
    context.log |= {"lane": lane, "texts": len(values), "model": model.name}
    job, examples = await state.encode(
        model, values, side, lane=lane, deadline=deadline, tokens=tokens
    )
    cut = model.cut(examples, side)
    if cut and not asked.truncate:
        raise bad_request(
            f"input: {cut} texts are longer than the {model.tower(side).processor.limit} tokens "
            "that the model reads", "too_long", "input",
        )  # fmt: skip
    vectors = job.vectors
    if dim != model.dim:
        vectors = np.ascontiguousarray(model.embedder.narrowed(vectors, dim, side), np.float32)
    if asked.encoding_format == "base64":
        rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    else:
        rows = list(vectors)
    read = sum(example.size for example in examples)
    context.log["tokens"] = read
    data = [
        {"object": "embedding", "index": number, "embedding": row}
        for number, row in enumerate(rows)
    ]
    made = {"fingerprint": model.fingerprint, "generation": generation(state, model)}
    return {
        "object": "list",
        "data": data,
        "model": asked.model or model.name,
        "usage": {"prompt_tokens": read, "total_tokens": read},
        "gemb": made | {"truncated": cut},
    }


def _width(model: ServedModel, asked: int | None) -> int:
    if asked is None or asked in model.widths:
        return asked or model.dim
    raise bad_request(
        f"dimensions: the model was trained for the widths {model.widths}; choose one of them",
        "unknown_width",
        "dimensions",
    )


def generation(state: State, model: ServedModel) -> int | None:
    """The generation whose vectors a model makes; None if it is of no release."""
    for chain in state.chains.values():
        for step in chain.steps:
            if step.model is model and step.version:
                return step.version.generation
    return None


async def rerank(state: State, asked: wire.Rerank, context: Context) -> dict:
    """Answers /v1/rerank, by a cross-encoder if the model names one, else by vectors.

    Raises:
        ApiError: what the request asks cannot be done.
    """
    texts = [_text(each, number) for number, each in enumerate(asked.documents)]
    lane = context.lane("interactive" if len(texts) <= 64 else "bulk")
    deadline = context.deadline(state.seconds(lane) if len(texts) <= 4 else 10.0)
    context.log |= {"lane": lane, "texts": len(texts) + 1}
    name, scores = await relevance(state, asked.model, asked.query, texts, lane, deadline)
    order = np.argsort(-scores, kind="stable")[: asked.top_n]
    results = []
    for row in order.tolist():
        result = {"index": row, "relevance_score": float(scores[row])}
        if asked.return_documents:
            result["document"] = {"text": texts[row]}
        results.append(result)
    return {"id": context.id, "model": name, "results": results}


async def relevance(
    state: State, model: str, query: str, texts: list[str], lane: str, deadline: float
) -> tuple[str, np.ndarray]:
    """Scores documents for a query.

    Returns:
        The name of the model that scored, and [texts] float32.

    Raises:
        ApiError: 404 for an unknown model; and what encoding raises.
    """
    if model in state.rerankers or (not model and state.rerankers):
        name = model or next(iter(state.rerankers))
        pairs = [(query, text) for text in texts]
        start = time.monotonic()
        scores = await state.run(state.rerank_pool, state.rerankers[name].scores, pairs)
        state.stage("rerank", time.monotonic() - start)
        if not np.isfinite(scores).all():
            raise ApiError(500, "the cross-encoder gave scores that are not finite", "not_finite")
        return name, scores
    served = state.model(model)
    options = {"lane": lane, "deadline": deadline}
    asked, _ = await state.encode(served, [query], "query", **options)
    documents, _ = await state.encode(served, texts, "document", **options)
    scores = served.embedder.similarity(asked.vectors, documents.vectors)[0]
    return served.name, scores


def _text(document: str | dict, number: int) -> str:
    text = document if isinstance(document, str) else document.get("text", "")
    if not text:
        raise bad_request(
            f"documents: number {number} has no text", "empty_input", f"documents[{number}]"
        )
    return text
