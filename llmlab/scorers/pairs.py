"""A judge compares two answers, in both orders."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmlab.errors import DataError
from llmlab.models import recall
from llmlab.models.base import Model
from llmlab.models.registry import model as make_model
from llmlab.scorers.base import Rule, describe, shorten
from llmlab.scorers.judges import as_scale, ask, demand, enclosed, known_as, question, read_score, task
from llmlab.types import Request, Sample, Score

_SCALE = as_scale({"first": 1.0, "tie": 0.5, "second": 0.0})
_OUTCOMES = {1.0: "win", 0.5: "tie", 0.0: "loss"}
BETTER = "Decide which of two answers to the question is better: more correct, and more useful to the person who asked."
_FAIR = "The order in which they stand says nothing, and neither do length and style. Equally good answers are a tie."


@dataclass(frozen=True)
class Pairwise(Rule):
    """A judge prefers the answer to that of a baseline."""

    name: ClassVar[str] = "pairwise"
    model: Model
    baseline: Callable[[Sample], str] = field(hash=False)
    rubric: str = BETTER

    def __call__(self, text: str, sample: Sample) -> Score:
        other = self.baseline(sample)
        if text.strip() == other.strip():
            return Score(0.5, "tie", "the two answers are the same", {"consistent": 1.0})
        forward, backward = self._compare(sample, text, other), self._compare(sample, other, text)
        if not (forward.parsed and backward.parsed):
            unclear = backward if forward.parsed else forward
            return Score(math.nan, None, unclear.explanation, parsed=False)
        agreed = forward.value == 1 - backward.value
        value = forward.value if agreed else 0.5
        said = f"{forward.explanation} / swapped: {backward.explanation}"
        why = said if agreed else f"the verdict changes with the order, so it is a tie: {said}"
        return Score(value, _OUTCOMES[value], shorten(why, 600), {"consistent": float(agreed)})

    def _compare(self, sample: Sample, first: str, second: str) -> Score:
        shown = enclosed({"question": question(sample), "first answer": first, "second answer": second})
        return read_score(ask(self.model, f"{task(f'{self.rubric} {_FAIR}')}\n\n{shown}\n\n{demand(_SCALE)}"), _SCALE)

    def identity(self) -> Mapping[str, Any]:
        return {
            "scorer": self.name,
            "model": known_as(self.model),
            "baseline": describe(self.baseline) if not hasattr(self.baseline, "identity") else self.baseline.identity(),
            "rubric": self.rubric,
        }

    def __str__(self) -> str:
        return f"pairwise({self.model.name})"


def pairwise(
    model: str | Model, baseline: Model | Mapping[str, str] | Callable[[Sample], str], rubric: str = BETTER
) -> Pairwise:
    """A judge compares the answer with a baseline's: 1 is a win, 0 a loss, 0.5 a tie.

    The mean over samples is the win rate, (wins + ties / 2) / n.

    Args:
        model: who judges.
        baseline: the answers to compare with: a mapping from sample id to text (`dict(zip(rows["sample"],
            rows["text"]))` of an earlier result), a function of the sample, or a Model, which is asked once per
            sample with the sample's input as its prompt.
        rubric: what makes an answer better.

    Judges favour the first or the second place, so each pair is judged in both orders, and a verdict that changes
    with the order is a tie. The metric `consistent` says for how many it did not; where it is low, the judge does
    not see a difference. If either verdict cannot be read the value is NaN.

    Source: Zheng et al. (2023), section 3.4, https://arxiv.org/abs/2306.05685
    """
    if isinstance(baseline, Model):
        return Pairwise(make_model(model), _Asked(baseline), rubric)
    return Pairwise(make_model(model), _Written(baseline) if isinstance(baseline, Mapping) else baseline, rubric)


class _Written:
    """Answers that are there already."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers

    def __call__(self, sample: Sample) -> str:
        if sample.id not in self.answers:
            raise DataError(f"the baseline has no answer to sample {sample.id!r}; it has {len(self.answers)} others")
        return self.answers[sample.id]

    def identity(self) -> Mapping[str, Any]:
        return {"answers": dict(self.answers)}


class _Asked:
    """A model's answers, each asked for once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._answers: dict[str, str] = {}
        self._lock = threading.Lock()

    def __call__(self, sample: Sample) -> str:
        with self._lock:
            if sample.id not in self._answers:
                self._answers[sample.id] = recall.generate(self.model, Request.of(sample.input)).text
            return self._answers[sample.id]

    def identity(self) -> Mapping[str, Any]:
        return {"model": known_as(self.model)}
