"""The OpenAPI document, made from the structs of `wire`."""

from functools import cache

import msgspec

from gemb import __version__
from gemb.serving.http import wire

_STATUSES = {
    "400": "The request is wrong; nothing was computed.",
    "401": "A key is missing or not known.",
    "403": "The route is not enabled.",
    "404": "No such model, index, classifier, version or id; another is never taken instead.",
    "409": "Vectors of two spaces, or nothing published.",
    "413": "The body, its inputs or their tokens are too many.",
    "429": "Too much work waits; see Retry-After.",
    "500": "The server failed.",
    "503": "Not ready, or nothing can answer; see Retry-After.",
    "504": "The deadline passed.",
}
_HEADERS = [
    ("X-Timeout-Ms", {"type": "integer", "minimum": 1, "maximum": 600000}),
    ("X-Lane", {"type": "string", "enum": ["interactive", "bulk"]}),
]
_POSTS = {
    "/v1/embeddings": (wire.Embeddings, wire.EmbeddingsAnswer, "Vectors of texts."),
    "/v1/search": (wire.Search, wire.SearchAnswer, "The best documents of an index."),
    "/v1/rerank": (wire.Rerank, wire.RerankAnswer, "Documents in the order of a query."),
    "/v1/classify": (wire.Classify, wire.ClassifyAnswer, "Classes of texts."),
}
_GETS = {
    "/health": "Whether the process lives.",
    "/ready": "Whether requests may come here.",
    "/v1/models": "Models by name.",
    "/v1/versions": "Versions that are loaded, and why others are not.",
}
_CHANGES = {
    ("/v1/vectors/{set}/{id}", "put"): (wire.PutVector, "One vector into the live version."),
    ("/v1/vectors/{set}/{id}", "delete"): (None, "Forgets an id."),
    ("/admin/publish", "post"): (wire.Publish, "Makes a version live."),
    ("/admin/rollback", "post"): (wire.Rollback, "Makes an older version live."),
}


@cache
def document() -> dict:
    """The document, of OpenAPI 3.1."""
    kinds = [kind for pair in _POSTS.values() for kind in pair[:2]]
    kinds += [kind for kind, _ in _CHANGES.values() if kind] + [wire.ErrorBody]
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict] = {}
    for path, (asked, given, summary) in _POSTS.items():
        paths[path] = {"post": _operation(summary, of, body=asked, answer=given, timed=True)}
    for path, summary in _GETS.items():
        paths[path] = {"get": _operation(summary, of)}
    name = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    paths["/v1/models/{name}"] = {"get": _operation("One model.", of) | {"parameters": name}}
    index = [
        {"name": each, "in": "query", "required": False, "schema": {"type": "string"}}
        for each in ("index", "version")
    ]
    paths["/v1/map"] = {"get": _operation("An index in the plane.", of) | {"parameters": index}}
    for (path, how), (asked, summary) in _CHANGES.items():
        made = _operation(summary, of, body=asked)
        if "{" in path:
            made["parameters"] = [
                {"name": each, "in": "path", "required": True, "schema": {"type": "string"}}
                for each in ("set", "id")
            ]
        paths.setdefault(path, {})[how] = made
    return {
        "openapi": "3.1.0",
        "info": {"title": "gemb", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(summary: str, of: dict, body=None, answer=None, timed: bool = False) -> dict:
    error = {"application/json": {"schema": of[wire.ErrorBody]}}
    good = {"application/json": {"schema": of[answer] if answer else {"type": "object"}}}
    responses = {"200": {"description": "The answer.", "content": good}}
    responses |= {
        status: {"description": text, "content": error} for status, text in _STATUSES.items()
    }
    made = {"summary": summary, "responses": responses}
    if body is not None:
        content = {"application/json": {"schema": of[body]}}
        made["requestBody"] = {"required": True, "content": content}
    if timed:
        made["parameters"] = [
            {"name": name, "in": "header", "required": False, "schema": schema}
            for name, schema in _HEADERS
        ]
    return made
