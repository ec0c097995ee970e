"""The routes."""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from gemb.checks import UserError
from gemb.identity import Version, check_same_space, model_space
from gemb.serving import classifying, embedding, searching
from gemb.serving.http import wire
from gemb.serving.http.errors import ApiError, bad_request
from gemb.serving.http.openapi import document
from gemb.serving.http.web import Context, Keys, Shell, read_body, unless_gone
from gemb.serving.map import corpus_map
from gemb.serving.releases import Follow
from gemb.serving.state import State

_PAGE = Path(__file__).with_name("page.html")
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
# The page runs its own script and style, and asks this server only.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
)


class Json(Response):
    """JSON by orjson, numpy rows included."""

    media_type = "application/json"

    def render(self, content) -> bytes:
        """The body."""
        return orjson.dumps(content, option=_NUMPY)


class Routes:
    """The functions behind the routes.

    Args:
        state: of the server.
        follows: stores that are followed, for the administrator's routes.
        experiments: see `gemb.serving.experiments`; None for none.
    """

    def __init__(self, state: State, follows: list[Follow], experiments=None):
        self._state, self._follows, self._experiments = state, follows, experiments

    def table(self) -> list[Route]:
        """Every route."""
        posts = [
            ("/v1/embeddings", wire.Embeddings, embedding.embeddings),
            ("/v1/search", wire.Search, self._search),
            ("/v1/rerank", wire.Rerank, embedding.rerank),
            ("/v1/classify", wire.Classify, classifying.classify),
        ]
        gets = {
            "/": self.page,
            "/health": self.health,
            "/ready": self.ready,
            "/metrics": self.metrics,
            "/openapi.json": self.openapi,
            "/v1/models": self.models,
            "/v1/models/{name:path}": self.model,
            "/v1/versions": self.versions,
            "/v1/map": self.map,
        }
        made = [
            Route(path, _post(self._state, path, *rest), methods=["POST"]) for path, *rest in posts
        ]
        made += [Route(path, _named(path, each), methods=["GET"]) for path, each in gets.items()]
        changes = [
            ("/v1/vectors/{set}/{id:path}", self.put, "PUT"),
            ("/v1/vectors/{set}/{id:path}", self.delete, "DELETE"),
            ("/admin/publish", self.publish, "POST"),
            ("/admin/rollback", self.rollback, "POST"),
        ]
        made += [Route(path, _named(path, each), methods=[how]) for path, each, how in changes]
        return made

    async def _search(self, state: State, asked: wire.Search, context: Context) -> dict:
        if self._experiments is None:
            return await searching.search(state, asked, context)
        return await self._experiments.search(state, asked, context)

    async def page(self, request: Request) -> Response:
        """The page for people."""
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        text = _PAGE.read_text(encoding="utf-8")
        return Response(text, media_type="text/html", headers=headers)

    async def health(self, request: Request) -> Response:
        """Whether the process lives and can encode; if not, it has to be started again."""
        if self._state.warm and not self._state.batcher.alive:
            raise ApiError(500, "the thread that encodes has ended", "dead")
        return Json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether requests may come here."""
        why = self._state.why_not_ready()
        if why:
            raise ApiError(503, f"not ready: {why}", "not_ready", retry_after=1)
        return Json({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        self._state.metrics.inflight.set(request.scope["gemb.shell"].inflight - 1)
        page = self._state.metrics.page()
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Json(document())

    async def models(self, request: Request) -> Response:
        """Models by name, in OpenAI's shape."""
        names = self._state.names()
        data = [self._described(name) for name in names]
        return Json({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        """One model."""
        name = request.path_params["name"]
        if name not in self._state.names():
            raise ApiError(404, "model: not known", "unknown_model", param="model")
        return Json(self._described(name))

    def _described(self, name: str) -> dict:
        model = self._state.names()[name]
        made = {
            "fingerprint": model.fingerprint,
            "dimensions": model.widths,
            "max_tokens": model.tower("document").processor.limit,
            "similarity": model.embedder.similarity_name,
            "generation": embedding.generation(self._state, model),
        }
        with contextlib.suppress(UserError):
            similarity = model.embedder.similarity_name
            made["space"] = model_space(model.embedder.model, None, similarity)[0].id
        created = int(self._state.started)
        return {
            "id": name, "object": "model", "created": created, "owned_by": "gemb", "gemb": made
        }  # fmt: skip

    async def versions(self, request: Request) -> Response:
        """What is loaded, and why other versions are not."""
        indexes = []
        for chain in self._state.chains.values():
            follow = next((each for each in self._follows if each.name == chain.name), None)
            indexes.append(
                {
                    "index": chain.name,
                    "versions": [step.describe() for step in chain.steps],
                    "others": list(chain.others),
                    "reasons": list(chain.reasons),
                    "error": follow.error or None if follow else None,
                }
            )
        served = self._state.classifiers.items()
        classifiers = [each.describe(name) for name, each in served]
        return Json({"indexes": indexes, "classifiers": classifiers})

    async def map(self, request: Request) -> Response:
        """Documents of an index in the plane."""
        state, asked = self._state, request.query_params
        chain = state.chain(asked.get("index", ""))
        version = asked.get("version")
        if not chain.steps:
            raise ApiError(404, "index: has no vectors to draw", "no_vectors", param="index")
        step = chain.version(version) if version else chain.steps[0]
        return Json(await state.run(state.load_pool, corpus_map, step))

    async def put(self, request: Request) -> Response:
        """One vector into the live version."""
        asked = wire.decode(await read_body(request), wire.PutVector)
        name = _id_of(request)
        vector = np.array([asked.vector], np.float32)
        if not np.isfinite(vector).all():
            raise bad_request("vector: expected finite numbers", param="vector")

        def put() -> str:
            store = self._set(request)
            live = next((each for each in store.versions() if each.state == "live"), None)
            if live is None:
                raise ApiError(409, "the key store has no live version", "nothing_published")
            check_same_space(asked.space, live.space, "vector")
            if vector.shape[1] != live.space.dim:
                raise bad_request(
                    f"vector: expected {live.space.dim} numbers, got {vector.shape[1]}",
                    param="vector",
                )
            store.put(live.version, [name], vector)
            return str(live.version)

        version = await self._state.run(self._state.store_pool, put)
        return Json({"version": version})

    async def delete(self, request: Request) -> Response:
        """Forgets an id, in all versions."""
        name = _id_of(request)

        def remove() -> int:
            return self._set(request).remove([name])

        return Json({"removed": await self._state.run(self._state.store_pool, remove)})

    def _set(self, request: Request):
        if request.path_params["set"] != "users" or self._state.users is None:
            raise ApiError(404, "set: the server has no such key store", "unknown_set", param="set")
        return self._state.users

    async def publish(self, request: Request) -> Response:
        """Makes a version of a store live."""
        asked = wire.decode(await read_body(request), wire.Publish)
        follow, version = self._follow(asked.store), Version.parse(asked.version)
        await self._state.run(self._state.load_pool, follow.store.publish, version)
        await self._state.run(self._state.load_pool, follow.look)
        return self._now(follow)

    async def rollback(self, request: Request) -> Response:
        """Makes an older version of a store live."""
        asked = wire.decode(await read_body(request), wire.Rollback)
        follow = self._follow(asked.store)
        version = Version.parse(asked.version) if asked.version else None

        def roll_back():
            follow.store.roll_back(version, why=asked.why)
            follow.look()

        await self._state.run(self._state.load_pool, roll_back)
        return self._now(follow)

    def _follow(self, name: str) -> Follow:
        for follow in self._follows:
            if follow.name == name:
                return follow
        known = ", ".join(follow.name for follow in self._follows) or "none"
        raise ApiError(404, f"store: not known; followed are: {known}", "unknown_store")

    def _now(self, follow: Follow) -> Response:
        steps = self._state.chains[follow.name].steps
        live = str(steps[0].version) if steps else None
        return Json({"store": follow.name, "live": live, "error": follow.error or None})


def make_app(state: State, follows: list[Follow], keys: Keys, *, log=True, experiments=None):
    """The ASGI application.

    Args:
        state: of the server.
        follows: stores that are followed.
        keys: who may ask what.
        log: whether each request is logged.
        experiments: see `Routes`.
    """
    routes = Routes(state, follows, experiments).table()
    inner = Router(routes, redirect_slashes=False)
    shell = Shell(inner, state.metrics, keys, log=log, tracing=state.tracing)

    async def app(scope, receive, send):
        scope["gemb.shell"] = shell
        await shell(scope, receive, send)

    app.shell = shell
    return app


def _id_of(request: Request) -> str:
    name = request.path_params["id"]
    if not 0 < len(name.encode("utf-8", "surrogatepass")) <= 512 or "\x00" in name:
        raise bad_request("id: expected 1 to 512 bytes", param="id")
    return name


def _post(state: State, path: str, kind: type, function: Callable[..., Awaitable[dict]]):
    """A route that decodes a body and answers with an object."""

    async def answer(request: Request) -> Response:
        context = request.scope["gemb"]
        context.route = path
        if not state.warm:
            raise ApiError(503, "the server is compiling", "not_ready", retry_after=1)
        asked = wire.decode(await read_body(request), kind)
        answered = await unless_gone(request, function(state, asked, context))
        headers = {}
        if kind is wire.Search and answered["version"]:
            headers["x-gemb-release"] = answered["version"]
        return Json(answered, headers=headers)

    return answer


def _named(path: str, function):
    async def answer(request: Request) -> Response:
        request.scope["gemb"].route = path
        return await function(request)

    return answer
