"""From what went wrong on the wire to one of our errors, in words that a person can act on."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping
from typing import Any

from llmlab.errors import (
    BadRequest,
    ConnectionFailed,
    ProviderError,
    RateLimited,
    ServerFault,
    Timeout,
    Unauthorized,
)


class RefusedOption(BadRequest):
    """The model does not accept one option; without it the request may pass."""

    def __init__(self, message: str, option: str, status: int | None) -> None:
        super().__init__(message, status=status)
        self.option = option


def failure(model: str, status: int, words: str, *, retry_after: float | None = None, code: str = "") -> ProviderError:
    """The error for an HTTP status.

    Args:
        model: full name of the model.
        status: HTTP status; that of an error inside a stream may be 200.
        words: what the provider said.
        retry_after: seconds it asked to wait.
        code: its own name of the error.
    """
    message = f"{model}: HTTP {status}{code and f' {code}'}: {shorten(words) or 'no message'}"
    if status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached"):
        return Unauthorized(f"{message} (waiting does not help: see your plan and billing)", status=status)
    if status in (429, 529):
        return RateLimited(message, status=status, retry_after=retry_after)
    if status in (401, 403) or (status == 400 and "API key not valid" in words):  # Google's way of saying 401
        return Unauthorized(f"{message} (check the key and what it may use)", status=status)
    if status == 408:
        return Timeout(message, status=status, retry_after=retry_after)
    if 400 <= status < 500:
        return BadRequest(message, status=status)
    return ServerFault(message, status=status, retry_after=retry_after, paid=status < 400)


def unreachable(model: str, error: BaseException, seconds: float) -> ProviderError:
    """The error for a call without a complete answer; `error` or its cause is the transport's exception."""
    inner = error.args[0] if error.args else None  # where requests and urllib3 keep the cause
    chain = [error.__cause__, error.__context__, getattr(inner, "reason", inner), error]
    found = [e for e in chain if isinstance(e, BaseException)]
    kinds = {cls.__name__ for e in found for cls in type(e).__mro__}
    cause = next((str(e) for e in found if str(e)), "")
    sent = not kinds & {"ConnectError", "ConnectTimeout", "PoolTimeout", "NewConnectionError", "ConnectTimeoutError"}
    if any(name.endswith(("TimeoutException", "Timeout", "DeadlineExceeded")) for name in kinds):
        return Timeout(f"{model}: no answer within {seconds:g} s", paid=sent)
    what = "the connection broke before the answer was complete" if sent else "the server could not be reached"
    return ConnectionFailed(f"{model}: {what} ({shorten(cause) or type(error).__name__})", paid=sent)


def unanswered(model: str, state: str, words: str = "") -> ProviderError:
    """The error for a request of a batch that was never processed; nobody was charged for it."""
    said = (
        f"{model}: the batch had no answer to this request ({state}{words and f': {shorten(words)}'}); run again to ask"
    )
    return Timeout(said) if "expired" in state.lower() else ProviderError(said)


def nonsense(model: str, problem: str, body: bytes | str = b"") -> ServerFault:
    """The error for a successful status whose body is not an answer; the call may have been charged."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    shown = f": {shorten(text, 120)!r}" if text else ""
    return ServerFault(f"{model}: {problem}{shown}", status=200, paid=True)


def retry_after(headers: Mapping[str, Any]) -> float | None:
    """Seconds that `retry-after-ms` or `retry-after` (seconds or a date) ask for, None without either."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return _finite(float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        try:
            return _finite(float(value))
        except ValueError:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def shorten(words: str, limit: int = 300) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(words.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
