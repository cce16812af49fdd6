"""Rewards for "grpo": functions of an answer that say how good it is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llmlab.errors import DataError
from llmlab.finetune.config import Recipe
from llmlab.finetune.data import TrainingData
from llmlab.finetune.formats import Example
from llmlab.types import Sample, Score

Reward: TypeAlias = Callable[..., float]
"""`f(answer)` or `f(answer, sample)` that gives a number or a `Score`, as every scorer does; larger is better."""

_TARGET = ("target", "answer", "completion", "output", "response")


def judged(reward: Any, data: TrainingData, made: Recipe) -> list[Any]:
    """The rewards as TRL calls them; none for other objectives.

    Raises:
        DataError: when there is none although the objective needs one, or one although it takes none.
    """
    if made.objective != "grpo":
        if reward is not None:
            raise DataError(f"reward belongs to objective 'grpo'; this is {made.objective!r}")
        return []
    if reward is None:
        raise DataError("objective 'grpo' needs reward=, a function of an answer or a scorer of lab.scorers")
    given: Sequence[Any] = reward if isinstance(reward, list | tuple) else [reward]
    return [_Judge(f, data) for f in given]


class _Judge:
    """A reward over a batch of answers."""

    def __init__(self, f: Any, data: TrainingData) -> None:
        self.f = f
        self.data = data
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self.samples = len(inspect.signature(f).parameters) > 1

    def __call__(self, completions: Sequence[Any], number: Sequence[int], **_: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        return [self._one(text, self.data[i]) for text, i in zip(texts, number, strict=True)]

    def _one(self, text: str, example: Example) -> float:
        given = self.f(text, sample_of(example)) if self.samples else self.f(text)
        value = given.value if isinstance(given, Score) else float(given)
        # an answer that a scorer cannot read earns nothing
        return 0.0 if math.isnan(value) else value

    def identity(self) -> Any:
        from llmlab.models.base import describe

        return describe(self.f)


def sample_of(example: Example) -> Sample:
    """An example as a scorer sees it: the prompt, and the row's target if it has one."""
    target = next((example.extra[name] for name in _TARGET if name in example.extra), None)
    if target is None and example.answer:
        target = example.answer[-1].content
    return Sample(example.prompt or example.context, target, metadata=dict(example.extra))
