"""Errors as OpenAI's clients know them: a status, and `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from llmlab import errors
from llmlab.models.cancel import Cancelled

log = logging.getLogger("llmlab.serve")
# of a stream or a request whose client hung up: nobody reads it, but logs and metrics do
CLIENT_LEFT = 499
# what FastAPI says about a body that is neither JSON nor an error of the JSON reader
_UNPARSED = "There was an error parsing the body"
# kinds of pydantic's messages that tell what came, or where nothing did
_SAID = ("missing", "extra_forbidden", "value_error")
# refused before the whole body was there
_UNREAD = (401, 403, 408, 413)


class Problem(Exception):
    """A request that is not answered, and why."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.retry_after = retry_after

    def response(self) -> Response:
        """The whole answer."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status in _UNREAD:
            # what else the client has to say is not read
            headers["connection"] = "close"
        return json_response(self.body, self.status, headers)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII: a client's lone surrogate in a message must not break the answer that complains about it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Response(text, status, headers=dict(headers or {}), media_type="application/json")


def problem_of(error: Exception) -> Problem:
    """What a client is told about an error of the library."""
    if isinstance(error, Problem):
        return error
    text = str(error)
    match error:
        case Cancelled():
            return Problem(CLIENT_LEFT, text, "cancelled")
        case errors.BadRequest() | errors.NeedsLocalModel() | errors.MissingPackage():
            return Problem(400, text)
        case errors.RateLimited():
            return Problem(429, text, "rate_limit_error", retry_after=max(1, round(error.retry_after or 1)))
        case errors.Timeout():
            return Problem(504, text, "upstream_error")
        case errors.Unauthorized() | errors.ConnectionFailed() | errors.ServerFault():
            return Problem(502, text, "upstream_error")
        case errors.BudgetExceeded():
            return Problem(402, text, "budget_exceeded")
        case errors.LabError():
            return Problem(500, text, "server_error")
    log.error("a request failed", exc_info=error)
    return Problem(500, "the server failed; its log says why", "server_error")


def install(app: FastAPI) -> None:
    """Let an app answer with problems."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error.errors(), request.headers.get("content-type", "")).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Problem):  # while the body was read
            return error.__cause__.response()
        message = str(error.detail)
        if error.status_code == 404:
            message = f"no such path: {request.url.path}; there are /v1/chat/completions, /v1/completions, /v1/models"
        elif error.status_code == 405:
            message = f"{request.url.path} does not take {request.method}: use {(error.headers or {}).get('Allow')}"
        elif message == _UNPARSED:
            message = "the body cannot be read as JSON: it is not in UTF-8, nested too deeply, or has a number too long"
        response = Problem(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> Response:
        return problem_of(error).response()

    app.add_exception_handler(Problem, other)


def _invalid(found: Sequence[Any], content_type: str) -> Problem:
    first = min(found, key=lambda e: len(e["loc"]) == 1 and e["type"] == "missing")
    place = [str(part) for part in first["loc"] if part != "body"]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return Problem(400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
    if first["type"] == "extra_forbidden":
        message = "this server does not know this field"
    if not place and "json" not in content_type:
        message = f"the body should be JSON, sent with content-type: application/json; it came as {content_type!r}"
    elif not place and first["type"] == "missing":
        message = "the body is empty: send a JSON object"
    elif not place and first["type"] == "model_attributes_type":
        message = "the body should be a JSON object"
    elif place and isinstance(first["input"], str | int | float | None) and first["type"] not in _SAID:
        message += f"; got {json.dumps(first['input'])[:40]}"
    name = ".".join(place)
    return Problem(400, f"{name}: {message}" if name else message, param=name or None)
