"""Scorers made of scorers: not_, all_of, any_of, weighted, and your own function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from llmlab.errors import DataError
from llmlab.scorers.base import Rule, shorten
from llmlab.types import Sample, Score, Scorer


@dataclass(frozen=True)
class Not(Rule):
    """The opposite verdict."""

    name: ClassVar[str] = "not"
    scorer: Scorer

    def __call__(self, text: str, sample: Sample) -> Score:
        score = self.scorer(text, sample)
        return replace(score, value=1 - score.value, explanation=f"not: {score.explanation}", metrics={})


def not_(scorer: Scorer) -> Not:
    """1 minus the value of `scorer`: `not_(contains("as an AI"))`. What could not be judged stays so."""
    return Not(scorer)


@dataclass(frozen=True)
class Combined(Rule):
    """Several verdicts in one."""

    name: ClassVar[str] = "combined"
    scorers: tuple[Scorer, ...]
    how: str
    weights: tuple[float, ...] = ()

    def __call__(self, text: str, sample: Sample) -> Score:
        scores = [scorer(text, sample) for scorer in self.scorers]
        value = self._value([score.value for score in scores])
        said = "; ".join(f"{label(s)} {score.value:g}" for s, score in zip(self.scorers, scores, strict=True))
        answer = next((score.answer for score in scores if score.answer is not None), None)
        parts = {
            f"{i}:{label(s)}": score.value for i, (s, score) in enumerate(zip(self.scorers, scores, strict=True), 1)
        }
        parsed = any(score.parsed for score in scores)
        return Score(value, answer, shorten(said, 400), parts, parsed)

    def _value(self, values: Sequence[float]) -> float:
        if self.how == "any" and any(v == 1 for v in values):
            return 1.0
        if self.how == "all" and any(v == 0 for v in values):
            return 0.0
        if any(map(math.isnan, values)):
            return math.nan
        if self.how == "weighted":
            # the weights sum to 1 only up to rounding
            return min(1.0, math.fsum(v * w for v, w in zip(values, self.weights, strict=True)))
        return min(values) if self.how == "all" else max(values)


def all_of(*scorers: Scorer) -> Combined:
    """The lowest of the values: every scorer must agree."""
    return _combined(scorers, "all")


def any_of(*scorers: Scorer) -> Combined:
    """The highest of the values: one scorer is enough."""
    return _combined(scorers, "any")


def weighted(*pairs: tuple[Scorer, float]) -> Combined:
    """The weighted mean of the values: `weighted((exact(), 1), (rouge(), 3))`."""
    weights = [weight for _, weight in pairs]
    if any(weight < 0 for weight in weights) or not sum(weights):
        raise DataError(f"weighted needs weights that are not negative and not all 0, got {weights}")
    return _combined([scorer for scorer, _ in pairs], "weighted", tuple(w / sum(weights) for w in weights))


def _combined(scorers: Sequence[Scorer], how: str, weights: tuple[float, ...] = ()) -> Combined:
    if not scorers:
        raise DataError("a combination needs at least one scorer")
    return Combined(tuple(scorers), how, weights)


@dataclass(frozen=True)
class Custom(Rule):
    """A function of yours."""

    name: ClassVar[str] = "custom"
    function: Callable[..., Any]

    def __call__(self, text: str, sample: Sample) -> Score:
        result = self.function(text, sample) if _takes_two(self.function) else self.function(text)
        if isinstance(result, Score):
            return result
        if not isinstance(result, int | float):
            raise DataError(f"{label(self.function)} should return a Score, a number or a bool, got {result!r}")
        if not (math.isnan(result) or 0 <= result <= 1):
            raise DataError(f"{label(self.function)} should return a number from 0 to 1, got {result!r}")
        return Score(float(result), shorten(text.strip(), 400), f"{label(self.function)} gave {float(result):g}")

    def __str__(self) -> str:
        return label(self.function)


def custom(function: Callable[..., Any]) -> Custom:
    """A scorer from a function of the answer, or of answer and sample, that returns a Score, a number or a bool.

    >>> custom(lambda text: len(text) < 10)("short", Sample("?")).value
    1.0
    """
    if not callable(function):
        raise DataError(f"custom needs a function, got {function!r}")
    return Custom(function)


def label(scorer: Any) -> str:
    """What a scorer is called in tables."""
    return str(getattr(scorer, "name", None) or getattr(scorer, "__name__", None) or type(scorer).__name__)


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in kinds and p.default is p.empty]
    return len(required) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
