"""Ask the cheap model first, the dear one when in doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmlab.errors import BadRequest, LabError, NeedsLocalModel, UnknownName
from llmlab.models.base import Model, describe, with_trace
from llmlab.models.voting import Ensemble, Extract, Tries, known_as, split, tally
from llmlab.types import Decision, Prompt, Protocol, Request, Response


class Cascade(Ensemble):
    """Members in turn until one is sure enough; see `ensemble`."""

    def __init__(
        self,
        members: Sequence[Model],
        name: str,
        threshold: float,
        confidence: Callable[[Request, Response], float] | None,
        samples: int,
        temperature: float,
        extract: Extract,
    ) -> None:
        super().__init__(name, members)
        self.threshold = threshold
        self.confidence = confidence
        self.extract = extract
        self.tries = [Tries(m, samples, temperature) for m in members[:-1]]
        shared: list[Protocol] = [p for p in members[0].protocols if all(p in m.protocols for m in members)]
        # log-likelihoods of given texts cannot be taken from one model here and from another there
        self.protocols = tuple(p for p in shared if p != "loglikelihood")

    def identity(self) -> Mapping[str, Any]:
        return {
            "cascade": [known_as(m) for m in self.members],
            "threshold": self.threshold,
            "confidence": describe(self.confidence) if self.confidence else [t.identity() for t in self.tries],
            "extract": describe(self.extract),
        }

    def _answer(self, requests: Sequence[Request]) -> list[Response | LabError]:
        made: dict[int, Response | LabError] = {}
        traces: list[list[Response]] = [[] for _ in requests]
        left = list(range(len(requests)))
        for stage in range(len(self.members)):
            asked = self._stage(stage, [requests[i] for i in left])
            for i, (answer, trace, sure) in zip(left, asked, strict=True):
                traces[i] += trace
                if isinstance(answer, LabError):
                    made[i] = answer
                elif sure >= self.threshold or stage == len(self.members) - 1:
                    made[i] = with_trace(self._noted(answer, stage, sure), traces[i])
            left = [i for i in left if i not in made]
            if not left:
                break
        return [made[i] for i in range(len(requests))]

    def _stage(
        self, stage: int, requests: Sequence[Request]
    ) -> list[tuple[Response | LabError, list[Response], float]]:
        """One member's answers: what it says, the calls made, and how sure it is (NaN: not known)."""
        if stage < len(self.tries) and self.confidence is None:
            return [self._agreed(tries) for tries in self.tries[stage].ask(requests)]
        made: list[tuple[Response | LabError, list[Response], float]] = []
        for request, answer in zip(requests, self.members[stage].generate_batch(requests), strict=True):
            if isinstance(answer, LabError):
                made.append((answer, [], math.nan))
            else:
                asked = self.confidence if stage < len(self.tries) else None
                made.append((answer, [answer], asked(request, answer) if asked else math.nan))
        return made

    def _agreed(self, tries: Sequence[Response | LabError]) -> tuple[Response | LabError, list[Response], float]:
        given, error = split(tries)
        if error is not None:
            return error, given, math.nan
        winner, share, _ = tally([r.text for r in given], self.extract)
        return given[winner], given, share

    def _noted(self, answer: Response, stage: int, sure: float) -> Response:
        how = "the last" if math.isnan(sure) else f"confidence {sure:.2f}"
        return replace(answer, notes=(*answer.notes, f"{self.name}: answered by {self.members[stage].name} ({how})"))

    def decide(self, prompt: Prompt, choices: Sequence[str], protocol: Protocol | None = None) -> Decision:
        request = self._complete(prompt, {})
        known = [p for p in self.protocols if p != "generate"]
        if protocol is not None and protocol not in known:
            raise UnknownName.among(f"decision protocol of {self.name}", protocol, known)
        failure: Exception | None = None
        for candidate in [protocol] if protocol else known:
            try:
                return self._decided(request, choices, candidate)
            except (NeedsLocalModel, NotImplementedError, BadRequest) as error:
                failure = failure or error
        raise failure or UnknownName.among(f"decision protocol of {self.name}", protocol, known)

    def _decided(self, request: Request, choices: Sequence[str], protocol: Protocol) -> Decision:
        trace: list[Response] = []
        for member in self.members:
            decision = member.decide(request, choices, protocol)
            trace += [decision.response] if decision.response else []
            picked = math.nan if decision.choice is None else decision.probabilities[decision.choice]
            if picked >= self.threshold:
                break
        if decision.response is None:
            return decision
        return replace(decision, response=self._finish(with_trace(decision.response, trace), request))
