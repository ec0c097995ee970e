"""Search in one version at a time: the newest that can answer, older ones, then BM25, popular."""

import asyncio
import time
from collections.abc import Awaitable
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.identity import Listed, SpaceError
from gemb.search import Hits
from gemb.serving.batching.lanes import INTERACTIVE
from gemb.serving.embedding import relevance
from gemb.serving.http import wire
from gemb.serving.http.errors import ApiError, bad_request
from gemb.serving.http.web import Context
from gemb.serving.retrieval import POPULAR, Chain, Step
from gemb.serving.state import State
from gemb.store.chain import HOST_DOWN, ID_ABSENT, NO_COMMON, make_plan
from gemb.store.keyed import HostError

_FIRST_SHARE = 0.6  # of the time left, for what is not the last thing to try
_TIMEOUT, _ASKED, _FAILED = "timeout", "asked", "failed"


class Try(NamedTuple):
    """One thing to try.

    Attributes:
        step: that answers.
        reason: why it is tried and not the newest; "" for the newest.
        name: of the retriever, for the answer.
        user: the vector of the user id; None for none.
    """

    step: Step
    reason: str = ""
    name: str = "vectors"
    user: np.ndarray | None = None


class Found(NamedTuple):
    """What answered.

    Attributes:
        tried: what it was.
        hits: of one query.
        reason: why it was not the newest; "" if it was.
    """

    tried: Try
    hits: Hits
    reason: str


async def search(
    state: State,
    asked: wire.Search,
    context: Context,
    *,
    prefer: str | None = None,
    arm: str = "",
) -> dict:
    """Answers /v1/search.

    Args:
        state: of the server.
        asked: the request.
        context: of the request.
        prefer: the version or retriever that an experiment chose; None for the newest.
        arm: of the experiment, for the counts.

    Raises:
        ApiError: what the request asks cannot be done, or nothing can answer it.
    """
    check(asked)
    chain, seconds = state.chain(asked.index), {}
    deadline = context.deadline(state.settings.deadline)
    tries = await _tries(state, chain, asked, prefer)
    found = await _first(state, asked, tries, deadline, seconds, context)
    step, hits = found.tried.step, found.hits
    passages = [each for each in step.passages(hits) if each.id != asked.item_id]
    if asked.rerank is not None:
        passages = await _rescored(state, asked, passages, deadline, seconds)
    passages = passages[: asked.k]
    version = step.answered(hits)
    _count(state, found, arm, bool(passages))
    context.log |= {"version": version, "fallback": found.reason or None, "k": asked.k}
    return {
        "hits": [_hit(step, passage, asked.content) for passage in passages],
        "index": chain.name,
        "version": version,
        "fallback": found.reason or None,
        "retriever": found.tried.name,
        "request_id": context.id,
        "seconds": seconds,
    }


def _count(state: State, found: Found, arm: str, any_hits: bool) -> None:
    metrics, version = state.metrics, found.tried.step.version
    generation = str(version.generation) if version else ""
    metrics.served.labels(generation, arm).inc()
    metrics.retriever.labels(found.tried.name).inc()
    if found.reason:
        metrics.fallback.labels(found.reason).inc()
    if not any_hits:
        metrics.empty.labels(arm).inc()


def check(asked: wire.Search) -> None:
    """Checks that a search asks with one thing.

    Raises:
        ApiError: 400.
    """
    given = [asked.query is not None, asked.vector is not None, asked.item_id is not None]
    if sum(given) > 1 or (asked.user_id is not None and any(given[1:])):
        raise bad_request("give one of query, vector and item_id; a user_id only with a query")
    if not any(given) and asked.user_id is None:
        raise bad_request("give a query, a vector with its space, a user_id or an item_id")
    if (asked.vector is None) != (asked.space is None):
        raise bad_request("vector and space belong together", param="space")
    if asked.query is not None and not asked.query.strip():
        raise bad_request("query: is empty", "empty_input", "query")
    if asked.rerank is not None and asked.query is None:
        raise bad_request("rerank: needs a query", param="rerank")


async def _tries(state: State, chain: Chain, asked: wire.Search, prefer: str | None) -> list[Try]:
    """What to try, in order."""
    if asked.vector is not None:
        step = chain.of_space(asked.space)
        return [Try(step, "" if step is chain.steps[0] else _ASKED)]
    if asked.version is not None:
        step = chain.version(asked.version)
        return [Try(step, "" if step is chain.steps[0] else _ASKED)]
    reason, tries = "" if chain.steps else NO_COMMON, []
    others = [Try(step, "", name) for name, step in chain.others.items()]
    if asked.query is None or (asked.filter and chain.steps):
        others = [each for each in others if each.name == POPULAR]  # BM25 needs words, not filters
    if asked.item_id is not None and chain.steps:
        known = not others or asked.item_id in chain.steps[0].corpus.places
        tries, reason = ([Try(chain.steps[0])], "") if known else ([], ID_ABSENT)
    if asked.user_id is not None:
        tries, reason = await _of_user(state, chain, asked)
    if asked.query is not None and not tries:
        texts = [step for step in chain.steps if step.model is not None]
        tries = [
            Try(step, reason or ("" if step is chain.steps[0] else NO_COMMON)) for step in texts
        ]
    found = [*tries, *(each._replace(reason=reason) for each in others)]
    if len(found) == 1 and found[0].name == POPULAR:
        found = [found[0]._replace(reason=reason or NO_COMMON)]
    if prefer is not None:
        found.sort(key=lambda each: prefer not in (str(each.step.version), each.name))
        if found and prefer in (str(found[0].step.version), found[0].name):
            found[0] = found[0]._replace(reason="")
    return found


async def _of_user(state: State, chain: Chain, asked: wire.Search) -> tuple[list[Try], str]:
    """What answers for a user id, by the newest vector that both sides have."""
    if state.users is None:
        raise bad_request("user_id: the server has no key store; start it with --users", "no_users")
    try:
        listed = await state.run(state.store_pool, state.users.versions)
        live = chain.steps[0].version if chain.steps else None
        index = [
            Listed(
                step.version, step.space, "live" if step.version == live else "ready",
                published=True,
            )
            for step in chain.steps if step.version
        ]  # fmt: skip
        plan = make_plan(listed, index, chain=len(chain.steps))
        if not plan.steps:
            return [], NO_COMMON
        got = await state.run(state.store_pool, state.users.get, [asked.user_id], plan.generations)
    except HostError:
        return [], HOST_DOWN
    generation = int(got.generations[0])
    choice = plan.choose(generation, got.spaces.get(generation))
    if choice.step is None:
        if asked.query is None and POPULAR not in chain.others:
            raise ApiError(
                404, "user_id: no version that the index has holds it", ID_ABSENT, param="user_id"
            )
        return [], ID_ABSENT
    step = next(each for each in chain.steps if each.version == choice.step.index)
    return [Try(step, choice.fallback, "vectors", got.vectors[0])], ""


async def _first(
    state: State,
    asked: wire.Search,
    tries: list[Try],
    deadline: float,
    seconds: dict,
    context: Context,
) -> Found:
    """The first try that answers."""
    reason = ""
    for number, tried in enumerate(tries):
        if tried.step.breaker.open():
            reason = reason or HOST_DOWN
            continue
        now = time.monotonic()
        last = number == len(tries) - 1
        until = deadline if last else now + _FIRST_SHARE * (deadline - now)
        try:
            hits = await _within(_ask(state, asked, tried, until, seconds), until)
            return Found(tried, hits, reason or tried.reason)
        except ApiError as error:
            if error.status != 504:
                raise
            why = _TIMEOUT
        except TimeoutError:
            why = _TIMEOUT
        except (HostError, SpaceError):
            why = HOST_DOWN
        except (UserError, ValueError):
            raise
        except Exception as error:
            why = _FAILED
            context.log["retriever_error"] = type(error).__name__
        tried.step.breaker.failed()
        reason = reason or why
        if last and why == _TIMEOUT:
            raise ApiError(504, "the deadline passed before there was an answer",
                           "deadline_exceeded", retry_after=1)  # fmt: skip
    raise ApiError(
        503, f"no version and no other retriever can answer ({reason or 'nothing is published'})",
        "no_retriever", retry_after=1,
    )  # fmt: skip


async def _within(work: Awaitable, until: float):
    async with asyncio.timeout(max(0.0, until - time.monotonic())):
        return await work


async def _ask(
    state: State, asked: wire.Search, tried: Try, deadline: float, seconds: dict
) -> Hits:
    step = tried.step
    dim = step.check_dim(asked.dim) if step.searcher.dim else 0
    text, vector = asked.query or "", None
    if step.searcher.dim:
        vector = step.query(await _vector(state, asked, tried, deadline, seconds, dim), dim)
    elif asked.filter and tried.name != POPULAR:
        raise bad_request("filter: BM25 has none", "filter_not_supported", "filter")
    if not text and step.reads_texts:
        raise bad_request("this index reads texts; give a query", param="query")
    k = asked.k + (asked.item_id is not None)
    if asked.rerank is not None:
        k = max(k, asked.rerank.depth)
    k = min(k, wire.MOST_HITS)
    start = time.monotonic()
    if tried.name == POPULAR:
        hits = await state.run(state.search_pool, step.listed, asked.filter, k)
    elif asked.filter:
        hits = await state.run(state.search_pool, step.filtered, vector, asked.filter, k)
    else:
        hits = await state.run(state.search_pool, step.search, vector, text, k, dim)
    state.stage("search", time.monotonic() - start, seconds)
    return hits


async def _vector(
    state: State, asked: wire.Search, tried: Try, deadline: float, seconds: dict, dim: int
) -> np.ndarray:
    """The query's vector, at least `dim` numbers."""
    step = tried.step
    if asked.vector is not None:
        vector = np.array(asked.vector, np.float32)
        if len(vector) != step.space.dim:
            raise bad_request(
                f"vector: expected {step.space.dim} numbers, got {len(vector)}", param="vector"
            )
        return vector
    if asked.item_id is not None:
        row = step.row(asked.item_id)
        if step.vectors is not None:
            return np.asarray(step.vectors[row], np.float32)
        if step.model is None or not step.corpus.texts:
            raise bad_request("item_id: the index has no vectors at hand", param="item_id")
        text = step.corpus.texts[row]
        return await _encoded(state, step, text, "document", deadline, seconds, dim)
    if asked.query is None:
        return tried.user
    vector = await _encoded(state, step, asked.query, "query", deadline, seconds, dim)
    if tried.user is None:
        return vector
    # A text and a user: both of one space and of unit length, weighted.
    kept = [_unit(each[:dim]) for each in (vector, tried.user)]
    return asked.weight * kept[0] + (1 - asked.weight) * kept[1]


async def _encoded(
    state: State, step: Step, text: str, side: str, deadline: float, seconds: dict, dim: int
) -> np.ndarray:
    if step.model is None:
        raise bad_request("this version has no model; ask with a vector or an id", "no_model")
    options = {"lane": INTERACTIVE, "deadline": deadline, "seconds": seconds}
    job, _ = await state.encode(step.model, [text], side, **options)
    return step.model.embedder.narrowed(job.vectors, dim, side)[0]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


async def _rescored(
    state: State, asked: wire.Search, passages: list, deadline: float, seconds: dict
) -> list:
    """The first hits in the order of another model's scores."""
    first = passages[: asked.rerank.depth]
    if not first:
        return passages
    if not all(each.text for each in first):
        raise bad_request("rerank: the index has no texts", "no_texts", "rerank")
    start = time.monotonic()
    texts = [each.text for each in first]
    _, scores = await relevance(
        state, asked.rerank.model, asked.query, texts, INTERACTIVE, deadline
    )
    seconds["rerank"] = round(time.monotonic() - start, 6)
    order = np.argsort(-scores, kind="stable").tolist()
    again = [first[row]._replace(score=float(scores[row])) for row in order]
    return again + passages[asked.rerank.depth :]


def _hit(step: Step, passage, content: str) -> dict:
    hit = {"id": passage.id, "score": passage.score}
    if content == "ids":
        return hit
    if passage.text:
        hit |= {"text": passage.text, "place": passage.place, "fields": passage.row}
    if content == "vectors":
        if step.vectors is None:
            raise bad_request("return: the index has no vectors at hand", param="return")
        hit["vector"] = np.asarray(step.vectors[step.row(passage.id)], np.float32)
    return hit
