"""Errors of the API, in the nested form that OpenAI's clients read."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "space_mismatch_error",
    413: "request_too_large_error",
    429: "rate_limit_error",
    499: "client_closed_error",
    503: "unavailable_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An answer that is not 200.

    Args:
        status: of HTTP.
        message: what is wrong and what to do, in one line; never a user's text.
        code: a fixed word for programs.
        param: the field that is wrong; None for none.
        retry_after: seconds after which to try again; None where that would not help.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    def body(self) -> dict:
        """The JSON object of the answer."""
        kind = _TYPES.get(self.status, "server_error")
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, at least one, where trying again helps."""
        if self.retry_after is None:
            return {}
        return {"retry-after": str(max(1, round(self.retry_after + 0.5)))}


def bad_request(message: str, code: str = "invalid_value", param: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(400, message, code, param=param)
