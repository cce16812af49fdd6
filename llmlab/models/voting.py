"""What ensembles are made of: members or tries that answer, and the count of their votes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from llmlab.errors import DataError, LabError
from llmlab.models.base import Model, describe, with_trace
from llmlab.types import Request, Response

Extract: TypeAlias = Callable[[str], str | None]


class Members:
    """Every member answers the request once."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)

    def ask(self, requests: Sequence[Request]) -> list[list[Response | LabError]]:
        """For each request the answers of all members, in their order."""
        answers: list[list[Response | LabError]] = [[] for _ in requests]
        for member in self.models:
            # what has failed already needs no further answers
            left = [i for i, row in enumerate(answers) if not any(isinstance(a, LabError) for a in row)]
            for i, answer in zip(left, member.generate_batch([requests[i] for i in left]), strict=True):
                answers[i].append(answer)
        return answers

    def identity(self) -> Any:
        """What the answers depend on."""
        return [known_as(m) for m in self.models]


class Tries:
    """One model answers the request several times, each time differently."""

    def __init__(self, model: Model, samples: int, temperature: float) -> None:
        if samples < 2:
            raise DataError(f"samples are at least 2 tries of one question, got {samples}")
        self.models = (model,)
        self.samples = samples
        self.temperature = temperature

    def ask(self, requests: Sequence[Request]) -> list[list[Response | LabError]]:
        """For each request its tries; those of a repeated request are other tries."""
        hot = [r.with_options(temperature=self.temperature) for r in requests]
        many = [replace(r, repeat=r.repeat * self.samples + i) for r in hot for i in range(self.samples)]
        answers = self.models[0].generate_batch(many)
        return [answers[i : i + self.samples] for i in range(0, len(answers), self.samples)]

    def identity(self) -> Any:
        """What the answers depend on."""
        return [known_as(self.models[0]), self.samples, self.temperature]


class Ensemble(Model):
    """What all ensembles share: they answer in batches where their members do, and close their members."""

    def __init__(self, name: str, members: Sequence[Model]) -> None:
        super().__init__(name)
        self.members = self.asks = tuple(members)
        self.local = all(m.local for m in members)  # type: ignore[misc]  # as local as its members

    def _answer(self, requests: Sequence[Request]) -> list[Response | LabError]:
        """Answers to requests whose options are complete, with all inner calls in their trace."""
        raise NotImplementedError

    def _respond(self, request: Request) -> Response:
        return sure(self._answer([request])[0])

    def generate_batch(self, requests: Sequence[Request]) -> list[Response | LabError]:
        if not self.local:
            return super().generate_batch(requests)
        complete = [self._complete(request, {}) for request in requests]
        answers = zip(self._answer(complete), complete, strict=True)
        return [a if isinstance(a, LabError) else self._finish(a, request) for a, request in answers]

    def close(self) -> None:
        for member in self.members:
            member.close()


class Vote(Ensemble):
    """The answer with the most votes, in the words of the first who gave it."""

    def __init__(self, voters: Members | Tries, weights: Sequence[float] | None, extract: Extract, name: str) -> None:
        super().__init__(name, voters.models)
        self.voters = voters
        self.weights = weights
        self.extract = extract

    def identity(self) -> Mapping[str, Any]:
        weights = None if self.weights is None else list(self.weights)
        return {"vote": self.voters.identity(), "weights": weights, "extract": describe(self.extract)}

    def _answer(self, requests: Sequence[Request]) -> list[Response | LabError]:
        return [self._count(answers) for answers in self.voters.ask(requests)]

    def _count(self, answers: Sequence[Response | LabError]) -> Response | LabError:
        given, error = split(answers)
        if error is not None:
            return error
        winner, share, said = tally([r.text for r in given], self.extract, self.weights)
        note = f"{said!r} with {share:.0%} of the votes" if said is not None else "no answer could be read; the first"
        chosen = given[winner]
        return with_trace(replace(chosen, notes=(*chosen.notes, f"{self.name}: {note}")), given)


def tally(
    texts: Sequence[str], extract: Extract, weights: Sequence[float] | None = None
) -> tuple[int, float, str | None]:
    """Who won a vote: index of the first text with the winning answer, its share of all votes, the answer.

    Texts without an answer lower the share. Of equal answers the one that came first wins; with no answer at all
    the result is (0, 0.0, None).
    """
    votes: dict[str, float] = defaultdict(float)
    weighed = list(zip(map(extract, texts), weights or [1.0] * len(texts), strict=True))
    for answer, weight in weighed:
        if answer is not None:
            votes[answer] += weight
    if not votes:
        return 0, 0.0, None
    # max keeps the first of equals, and a dict the order of arrival
    best = max(votes, key=lambda answer: votes[answer])
    return [answer for answer, _ in weighed].index(best), votes[best] / math.fsum(w for _, w in weighed), best


def known_as(model: Model) -> list[Any]:
    """What a member's answers depend on: the model, and its own options, which the request does not carry."""
    return [dict(model.identity()), model.options.set()]


def split(answers: Sequence[Response | LabError]) -> tuple[list[Response], LabError | None]:
    """The responses, and the first error if there is one."""
    error = next((a for a in answers if isinstance(a, LabError)), None)
    return [a for a in answers if isinstance(a, Response)], error


def sure(answer: Response | LabError) -> Response:
    """The response; an error is raised."""
    if isinstance(answer, LabError):
        raise answer
    return answer
