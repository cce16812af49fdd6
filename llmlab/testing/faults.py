"""Ways in which a provider fails, to be injected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "rate_limited",  # 429
    "overloaded",  # 529
    "server_error",  # 500
    "bad_request",  # 400
    "unauthorized",  # 401
    "not_found",  # 404
    "quota",  # 429 that waiting does not heal
    "cut",  # the connection closes in the middle of the answer
    "empty",  # 200 with an empty body
    "malformed",  # 200 with broken JSON
    "not_an_answer",  # 200 with JSON of another shape
    "no_usage",  # an answer without token counts
    "blocked",  # the prompt is blocked
    "refusal",  # the model declines
    "slow",  # the answer takes `seconds` longer
]

STATUS: dict[str, int] = {
    "rate_limited": 429,
    "overloaded": 529,
    "server_error": 500,
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "quota": 429,
}


@dataclass(frozen=True)
class Fault:
    """One failure of the stand-in.

    Attributes:
        kind: what goes wrong.
        retry_after: seconds that the headers ask to wait.
        seconds: extra time of a slow answer.
        message: what the provider says, where an error has words.
    """

    kind: Kind
    retry_after: float | None = None
    seconds: float = 0.0
    message: str = ""

    @property
    def status(self) -> int | None:
        """The HTTP status of an error, None for faults that look like success."""
        return STATUS.get(self.kind)
