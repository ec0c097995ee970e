"""One call of an OpenAI-compatible chat endpoint."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request

from gemb.checks import UserError

KEYS = ("GEMB_LLM_KEY", "OPENAI_API_KEY")
TIMEOUT = 120.0
_PATH = "/chat/completions"
_LARGEST = 16 * 2**20  # bytes of an answer


def complete(endpoint: str, llm: str, prompt: str, *, timeout: float = TIMEOUT) -> str:
    """The answer of a language model.

    The key is that of the environment variable GEMB_LLM_KEY, else OPENAI_API_KEY; without either
    none is sent, as local servers want it.

    Args:
        endpoint: the address of the API, such as "http://localhost:11434/v1"; "/chat/completions"
            is added where it does not end with it.
        llm: the name of the language model.
        prompt: the user's message.
        timeout: seconds to wait for the server.

    Raises:
        UserError: for an address that is none, a server that does not answer in time, that refuses
            the call, or whose answer is of another form.
    """
    url = _url(endpoint)
    content = {"model": llm, "messages": [{"role": "user", "content": prompt}]}
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key := next((os.environ[name] for name in KEYS if os.environ.get(name)), ""):
        if not (key.isascii() and key.isprintable()):
            raise UserError(
                f"the key in {' or '.join(KEYS)} has characters that no header may have"
            )
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(content).encode(), headers, method="POST")
    return _answer(url, _send(url, request, timeout))


def _url(endpoint: str) -> str:
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(
            f"endpoint: expected an address such as http://localhost:11434/v1, got {endpoint!r}"
        )
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(_PATH) else path + _PATH).geturl()


def _send(url: str, request: urllib.request.Request, timeout: float) -> bytes:
    # A redirected call would carry the key to another server, and lose its content.
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=timeout) as response:
            data = response.read(_LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: status {error.code} {_reason(error)}".rstrip()) from None
    except TimeoutError:
        raise UserError(f"{url}: no answer within {timeout:g} seconds") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise UserError(f"{url}: no answer within {timeout:g} seconds") from None
        raise UserError(f"{url}: cannot be reached: {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"{url}: the call failed: {type(error).__name__}: {error}") from None
    if len(data) > _LARGEST:
        raise UserError(f"{url}: the answer is longer than {_LARGEST // 2**20} MiB")
    return data


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        return None  # the status is then an error


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says of a call that it refuses, at most 300 characters."""
    if 300 <= error.code < 400:
        return f"redirects to {error.headers.get('Location', 'nowhere')}; give that address"
    try:
        text = error.read(_LARGEST).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        refusal = json.loads(text)["error"]
        text = refusal["message"] if isinstance(refusal, dict) else refusal
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return " ".join(str(text or error.reason).split())[:300]


def _answer(url: str, data: bytes) -> str:
    try:
        text = json.loads(data)["choices"][0]["message"]["content"]
        if isinstance(text, str) and text.strip():
            return text.strip()
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        pass
    shown = " ".join(data[:200].decode("utf-8", "replace").split())
    raise UserError(f"{url}: expected a chat completion with an answer, got {shown!r}")
