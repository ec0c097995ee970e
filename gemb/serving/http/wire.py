"""Requests and answers of the API, as JSON is decoded into them; the OpenAPI document is of these.

Unknown fields are refused: a misspelt `dimensions` would otherwise give vectors of another width.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from gemb.serving.http.errors import ApiError, bad_request

MOST_INPUTS, MOST_TOKENS, MOST_HITS = 2048, 300_000, 1000

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(min_length=1, max_length=1_000_000)]
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Value = str | int | float | bool


class Request(Struct, forbid_unknown_fields=True):
    """A body; fields that it does not know are refused."""


class Embeddings(Request):
    """Body of POST /v1/embeddings, as OpenAI's; `input_type` and `truncate` are added."""

    input: str | Annotated[list[str | Token | list[Token]], Meta(min_length=1)]
    model: Annotated[str, Meta(max_length=200)] = ""
    dimensions: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Annotated[str, Meta(max_length=1000)] | None = None
    input_type: Literal["query", "document"] | None = None
    truncate: bool = True


class Rescore(Request):
    """How the first hits are scored again."""

    model: Name
    depth: Annotated[int, Meta(ge=1, le=200)] = 50


class Search(Request):
    """Body of POST /v1/search: one of query, vector with space, user_id and item_id.

    A query and a user_id may come together; `weight` is the query's share.
    """

    query: Text | None = None
    vector: Annotated[list[float], Meta(min_length=1, max_length=65536)] | None = None
    space: Annotated[str, Meta(max_length=100)] | None = None
    user_id: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    item_id: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    k: Annotated[int, Meta(ge=1, le=MOST_HITS)] = 10
    index: Annotated[str, Meta(max_length=200)] = ""
    version: Annotated[str, Meta(max_length=40)] | None = None
    dim: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    filter: Annotated[dict[str, Value], Meta(max_length=16)] | None = None
    rerank: Rescore | None = None
    content: Literal["ids", "text", "vectors"] = field(default="text", name="return")


class Rerank(Request):
    """Body of POST /v1/rerank, in Cohere's shape."""

    query: Text
    documents: Annotated[list[str | dict[str, str]], Meta(min_length=1, max_length=1000)]
    model: Annotated[str, Meta(max_length=200)] = ""
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False


class Classify(Request):
    """Body of POST /v1/classify; `top` is how many labels of each text are returned."""

    input: str | Annotated[list[str], Meta(min_length=1)]
    classifier: Annotated[str, Meta(max_length=200)] = ""
    top: Annotated[int, Meta(ge=1, le=1000)] = 1


class PutVector(Request):
    """Body of PUT /v1/vectors/{set}/{id}: the vector, and the space that it is of."""

    vector: Annotated[list[float], Meta(min_length=1, max_length=65536)]
    space: Annotated[str, Meta(min_length=1, max_length=100)]


class Publish(Request):
    """Body of POST /admin/publish."""

    store: Name
    version: Annotated[str, Meta(min_length=1, max_length=40)]


class Rollback(Request):
    """Body of POST /admin/rollback."""

    store: Name
    why: Annotated[str, Meta(min_length=1, max_length=1000)]
    version: Annotated[str, Meta(min_length=1, max_length=40)] | None = None


class Label(Struct):
    """A class, and its probability."""

    label: str
    score: float


class Classified(Struct):
    """One text of /v1/classify; `width` is where it left, see `gemb classify`."""

    index: int
    label: str
    score: float
    width: int
    labels: list[Label]


class ErrorDetail(Struct):
    """What is wrong."""

    message: str
    type: str
    code: str
    param: str | None = None


class ErrorBody(Struct):
    """Every answer that is not 200."""

    error: ErrorDetail


class Embedding(Struct):
    """One vector: numbers, or the base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class Usage(Struct):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Made(Struct):
    """Which model made vectors."""

    fingerprint: str
    truncated: int
    generation: int | None = None


class EmbeddingsAnswer(Struct):
    """Answer of /v1/embeddings."""

    data: list[Embedding]
    model: str
    usage: Usage
    gemb: Made
    object: Literal["list"] = "list"


class Hit(Struct):
    """One result."""

    id: str
    score: float
    text: str | None = None
    place: str | None = None
    fields: dict[str, Any] | None = None
    vector: list[float] | None = None


class SearchAnswer(Struct):
    """Answer of /v1/search."""

    hits: list[Hit]
    index: str
    version: str | None
    fallback: str | None
    retriever: str
    request_id: str
    seconds: dict[str, float]
    experiment: str | None = None
    arm: str | None = None


class Ranked(Struct):
    """One document of /v1/rerank."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankAnswer(Struct):
    """Answer of /v1/rerank."""

    id: str
    model: str
    results: list[Ranked]


class ClassifyAnswer(Struct):
    """Answer of /v1/classify."""

    data: list[Classified]
    classifier: str
    model: str
    usage: Usage
    gemb: Made
    object: Literal["list"] = "list"


def decode(body: bytes, kind: type[Request]) -> Any:
    """Reads a body.

    Raises:
        ApiError: 400, naming the field.
    """
    if not body.strip():
        raise bad_request("the body is empty; expected a JSON object", "empty_body")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        param = place.rstrip("`").lstrip(".") or None
        raise bad_request(f"{param or 'body'}: {message}"[:300], "invalid_value", param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise bad_request(f"the body is not JSON: {error}"[:300], "malformed_json") from None


def inputs(given: str | list) -> tuple[list, bool]:
    """The four forms of `input`, as lists.

    Returns:
        Texts and False, or rows of token ids and True.

    Raises:
        ApiError: an empty list or text, a mixture, or too many.
    """
    if isinstance(given, str):
        rows = [given]
    elif not given:
        raise bad_request("input: is empty; give at least one text", "empty_input", "input")
    elif all(isinstance(each, int) for each in given):
        rows = [given]
    else:
        rows = given
    kinds = {type(each) for each in rows}
    if kinds not in ({str}, {list}):
        raise bad_request(
            "input: expected a text, texts, token ids, or lists of token ids, not a mixture",
            param="input",
        )
    if len(rows) > MOST_INPUTS:
        raise ApiError(
            413,
            f"input: {len(rows)} inputs; at most {MOST_INPUTS} fit into a request",
            "too_many_inputs",
            param="input",
        )
    if not all(map(len, rows)):
        number = next(i for i, each in enumerate(rows) if not each)
        raise bad_request(f"input: number {number} is empty", "empty_input", "input")
    return rows, kinds == {list}
