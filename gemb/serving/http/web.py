"""What every route shares: request ids, keys, limits of bodies, errors, logs, counts. Pure ASGI."""

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from gemb.checks import UserError
from gemb.identity import SpaceError
from gemb.serving.batching.lanes import LANES
from gemb.serving.http.errors import ApiError, bad_request
from gemb.serving.metrics import Metrics
from gemb.serving.tracing import Tracing

MOST_BYTES = 8 << 20
_LONGEST = 600.0  # seconds that a client may ask for
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OPEN, _USER, _ADMIN = "open", "user", "admin"


class Keys:
    """Bearer keys; one file for users, one for administrators.

    Args:
        users: file with a key on each line; "" lets everybody in.
        admins: file of the keys that may change vectors and versions; "" switches these routes off.

    Raises:
        UserError: a file that cannot be read, holds no key, or one shorter than 16 characters.
    """

    def __init__(self, users: str = "", admins: str = ""):
        self._users, self._admins = _digests(users), _digests(admins)

    def check(self, header: str, needed: str) -> None:
        """Compares a key in constant time.

        Raises:
            ApiError: 401 or 403.
        """
        if needed == _OPEN or (needed == _USER and not self._users):
            return
        if needed == _ADMIN and not self._admins:
            raise ApiError(403, "start the server with --admin_keys for this route", "disabled")
        scheme, _, key = header.partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        allowed = self._admins if needed == _ADMIN else self._users + self._admins
        same = [hmac.compare_digest(given, each) for each in allowed]  # all of them, always
        if scheme.lower() != "bearer" or not any(same):
            raise ApiError(401, "expected `Authorization: Bearer KEY` with a known key", "bad_key")


def _digests(file: str) -> list[bytes]:
    if not file:
        return []
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys or min(map(len, keys)) < 16:
        raise UserError(f"{file}: expected a key on each line, of at least 16 characters")
    return [hashlib.sha256(key.encode()).digest() for key in keys]


class Context:
    """One request, as it is logged and counted.

    Attributes:
        id: the client's X-Request-Id if that is a plain word, else drawn.
        started: on the clock of `time.monotonic`.
        route: the pattern of the path, "unknown" for none.
        log: further fields of the log line; never a user's text or id.
    """

    def __init__(self, headers: dict[bytes, bytes]):
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.started, self.route = time.monotonic(), "unknown"
        self.log: dict[str, Any] = {}
        self._headers = headers

    def deadline(self, default: float) -> float:
        """When the answer is late, on the clock of `time.monotonic`.

        Raises:
            ApiError: 400, for an X-Timeout-Ms that is not a positive number.
        """
        given = self._headers.get(b"x-timeout-ms")
        if given is None:
            return self.started + default
        if not given.isdigit() or not 0 < int(given) <= _LONGEST * 1000:
            raise bad_request(
                f"X-Timeout-Ms: expected milliseconds from 1 to {_LONGEST * 1000:.0f}",
                param="X-Timeout-Ms",
            )
        return self.started + int(given) / 1000

    def lane(self, default: str) -> str:
        """The lane, which X-Lane may name.

        Raises:
            ApiError: 400, for another word.
        """
        given = self._headers.get(b"x-lane", default.encode()).decode("latin-1")
        if given not in LANES:
            raise bad_request(f"X-Lane: expected one of {LANES}", param="X-Lane")
        return given

    def header(self, name: str) -> str:
        """A header; "" if there is none."""
        return self._headers.get(name.encode(), b"").decode("latin-1")


async def read_body(request: Request) -> bytes:
    """The body, refused as soon as it is too large.

    Raises:
        ApiError: 413.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MOST_BYTES:
        raise _too_large()
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> ApiError:
    return ApiError(413, f"the body has more than {MOST_BYTES:,} bytes", "body_too_large")


async def unless_gone(request: Request, work: Coroutine) -> Any:
    """Awaits work, and cancels it when the client goes away.

    Raises:
        ClientDisconnect: it has gone.
    """
    here, left = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        here.cancel()

    gone = asyncio.ensure_future(watch())  # the work itself needs no task of its own
    try:
        return await work
    except asyncio.CancelledError:
        if not left or here.uncancel():
            raise
        raise ClientDisconnect from None
    finally:
        gone.cancel()


class Shell:
    """Wraps the routes: every request passes through here.

    Args:
        app: the routes.
        metrics: where they are counted.
        keys: who may ask.
        log: whether each request is a line of JSON on stderr.
        tracing: makes a span of each request; None for none.

    Attributes:
        inflight: requests that are being answered.
        draining: whether clients have to close their connections.
    """

    def __init__(
        self,
        app,
        metrics: Metrics,
        keys: Keys,
        *,
        log: bool = True,
        tracing: Tracing | None = None,
    ):
        self._app, self._metrics, self._keys, self._log = app, metrics, keys, log
        self._tracing = tracing
        self.inflight, self.draining = 0, False

    async def __call__(self, scope, receive, send) -> None:
        """One request, or the life of the server."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        context = scope["gemb"] = Context(headers)
        if self._tracing is None:
            await self._answered(scope, receive, send, context)
            return
        with self._tracing.request(scope["method"], headers) as span:
            code = await self._answered(scope, receive, send, context)
            span.update_name(f"{scope['method']} {context.route}")
            about = {"http.route": context.route, "http.response.status_code": code}
            span.set_attributes(about | {"gemb.request_id": context.id})

    async def _answered(self, scope, receive, send, context: Context) -> int:
        """Answers one request; its status."""
        scope["app"] = self._app  # the router then raises for an unknown path
        answer = _Answer(send, context.id, self)
        self.inflight += 1
        try:
            needed = _needed(scope["method"], scope["path"])
            self._keys.check(context.header("authorization"), needed)
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            answer.code = answer.code or 499
        except Exception as error:
            if answer.code:  # too late for another answer
                raise
            await answer.error(_translated(error, context))
        finally:
            self.inflight -= 1
            self._count(scope, context, answer.code)
        return answer.code

    def _count(self, scope, context: Context, code: int) -> None:
        seconds = time.monotonic() - context.started
        self._metrics.requests.labels(context.route, code).inc()
        self._metrics.request_seconds.labels(context.route).observe(seconds)
        if code == 429:
            self._metrics.rejected.labels("overloaded").inc()
        if code == 504:
            self._metrics.expired.inc()
        if self._log and context.route not in ("/health", "/ready", "/metrics"):
            line = {"time": round(time.time(), 3), "request_id": context.id}
            line |= {"method": scope["method"], "route": context.route, "code": code}
            line |= {"ms": round(seconds * 1000, 2)} | context.log
            log_line(line)


class _Answer:
    """What was sent of an answer."""

    def __init__(self, send, request_id: str, shell: Shell):
        self._send, self._id, self._shell, self.code = send, request_id, shell, 0

    async def send(self, message) -> None:
        if message["type"] == "http.response.start":
            self.code = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
            if self._shell.draining:
                headers.append((b"connection", b"close"))
            message = message | {"headers": headers}
        await self._send(message)

    async def error(self, error: ApiError) -> None:
        body = orjson.dumps(error.body())
        headers = [(b"content-type", b"application/json")]
        headers += [(b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in error.headers().items()]
        if error.status == 413:
            headers.append((b"connection", b"close"))  # what is left of the body is not read
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _needed(method: str, path: str) -> str:
    if path.startswith("/admin/") or (path.startswith("/v1/vectors/") and method != "GET"):
        return _ADMIN
    return _USER if path.startswith("/v1/") else _OPEN


def _translated(error: Exception, context: Context) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SpaceError):
        return ApiError(409, str(error), "space_mismatch")
    if isinstance(error, UserError):
        return bad_request(str(error))
    if isinstance(error, HTTPException):
        known = error.status_code == 405
        what = "the route has other methods" if known else "there is no such route"
        code = "method_not_allowed" if known else "unknown_route"
        return ApiError(error.status_code, what, code)
    # The text of an unexpected error may quote what a user sent: its kind and place are logged.
    where = error.__traceback__
    while where and where.tb_next:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
    context.log |= {"error": type(error).__name__, "at": place}
    return ApiError(500, "the server failed; its log names the place", "internal_error")


def log_line(fields: dict) -> None:
    """Writes one line of JSON to stderr."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(orjson.dumps(fields, default=str).decode() + "\n")
        sys.stderr.flush()
