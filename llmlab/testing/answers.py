"""What the stand-in says: words are tokens, so that limits, usage and log-probabilities are easy to check."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Messages = Sequence[Mapping[str, str]]
"""Turns with "role" and "content", the same for every wire format."""
AnswerFunction = Callable[[Messages], "str | Answer"]


@dataclass(frozen=True)
class Answer:
    """An answer with more to it than text.

    Attributes:
        text: what is said.
        finish: how it ends; "refusal" and "blocked" take each format's own form.
        reasoning: thinking text; its words count as reasoning tokens.
        top: first-token alternatives and their probabilities, returned where log-probabilities are asked for.
        cached_tokens, cache_write_tokens: input tokens read from and written to the prompt cache.
        probabilities: of the options of a typed decision.
    """

    text: str
    finish: Literal["stop", "length", "refusal", "blocked"] = "stop"
    reasoning: str = ""
    top: Mapping[str, float] = field(default_factory=dict)
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    probabilities: Sequence[float] = ()

    def limited(self, max_tokens: int | None, stop: Sequence[str]) -> Answer:
        """The answer up to the first stop sequence and `max_tokens` words."""
        places = [p for s in stop if (p := self.text.find(s)) >= 0]
        text = self.text[: min(places)] if places else self.text
        tokens = words(text)
        if max_tokens is None or len(tokens) <= max_tokens:
            return replace(self, text=text)
        return replace(self, text="".join(tokens[:max_tokens]), finish="length")


def words(text: str) -> list[str]:
    """The tokens of a text: each word with the space before it; together they are the text.

    >>> words("The capital  is Paris.")
    ['The', ' capital', '  is', ' Paris.']
    """
    return re.findall(r"\s*\S+|\s+$", text)


def logprob(token: str) -> float:
    """A log-probability for a token, in (-2, 0), the same in every process.

    >>> logprob(" Paris") == logprob(" Paris"), -2 < logprob(" Paris") < 0
    (True, True)
    """
    return -2 * (zlib.crc32(token.encode()) % 10_000 + 1) / 10_002


def alternatives(answer: Answer, position: int, token: str, n: int) -> list[tuple[str, float]]:
    """The `n` likeliest tokens at a position of the answer, with their log-probabilities."""
    if position == 0 and answer.top:
        ranked = sorted(answer.top.items(), key=lambda pair: -pair[1])
        return [(text, math.log(p)) for text, p in ranked[:n]]
    return [(token, logprob(token))][:n]
