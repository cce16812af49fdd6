"""One of several models per request, chosen by rules or a function, with the reason in the answer's notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from llmlab.errors import DataError, LabError
from llmlab.models.base import Model, describe, with_trace
from llmlab.models.registry import model as make_model
from llmlab.models.voting import known_as
from llmlab.types import Chunk, ContinuationLogprob, Decision, Prompt, Protocol, Request, Response

Condition: TypeAlias = str | int | Callable[[Request], bool]
Rules: TypeAlias = Sequence[tuple[Condition, str | Model]]


class Pick(NamedTuple):
    """The model that answers a request, and why."""

    model: Model
    reason: str


def route(
    rules: Rules | Callable[[Request], str], default: str | Model, *, models: Mapping[str, str | Model] | None = None
) -> Router:
    r"""A Model that passes each request on to one of several; the answer's notes say to which and why.

    Args:
        rules: pairs (condition, model), the first condition that holds decides. A condition is a regular
            expression that is searched in the last user turn (upper and lower case alike), a number of characters
            that it has at least, or a function of the request. Or one function of the request that returns a key of
            `models`, or "" for the default.
        default: the model for the rest.
        models: the models that the function chooses from, by key.

    >>> from llmlab.models.scripted import Scripted
    >>> router = route([(r"\d", Scripted("51", "scripted/sums"))], default=Scripted("Hello.", "scripted/chat"))
    >>> router.generate("What is 17 * 3?").text, router.generate("Hi").text
    ('51', 'Hello.')
    """
    fallback = make_model(default)
    if callable(rules):
        if not models:
            raise DataError("a routing function returns a key of `models`; give them: route(f, default, models={...})")
        return Router(rules, {key: make_model(m) for key, m in models.items()}, fallback)
    if models is not None:
        raise DataError("`models` belongs to a routing function; rules name their models themselves")
    return Router([(_checked(condition), make_model(m)) for condition, m in rules], {}, fallback)


class Router(Model):
    """See `route`."""

    def __init__(
        self,
        rules: Sequence[tuple[Condition, Model]] | Callable[[Request], str],
        models: Mapping[str, Model],
        default: Model,
    ) -> None:
        targets = list(models.values()) if callable(rules) else [m for _, m in rules]
        self.targets = self.asks = tuple(dict.fromkeys([*targets, default]))
        super().__init__(f"route({', '.join(m.name for m in self.targets)})")
        self.rules = rules
        self.models = dict(models)
        self.default = default
        self.local = all(m.local for m in self.targets)  # type: ignore[misc]  # as local as its targets
        self.protocols = tuple(p for p in default.protocols if all(p in m.protocols for m in self.targets))

    def pick(self, request: Request) -> Pick:
        """Which model a request goes to, and why."""
        if callable(self.rules):
            key = self.rules(request)
            if key and key not in self.models:
                raise DataError(f"the routing function returned {key!r}; possible: {', '.join(self.models)}, or ''")
            return Pick(self.models[key], f"the function chose {key!r}") if key else Pick(self.default, "the default")
        for condition, model in self.rules:
            if reason := _holds(condition, request):
                return Pick(model, reason)
        return Pick(self.default, "the default")

    def identity(self) -> Mapping[str, Any]:
        if callable(self.rules):
            rules: Any = [describe(self.rules), {key: known_as(m) for key, m in self.models.items()}]
        else:
            rules = [[describe(c) if callable(c) else c, known_as(m)] for c, m in self.rules]
        return {"route": rules, "default": known_as(self.default)}

    def _respond(self, request: Request) -> Response:
        pick = self.pick(request)
        return self._noted(pick.model.generate(request), pick)

    def _noted(self, response: Response, pick: Pick) -> Response:
        note = f"route: {pick.model.name}, {pick.reason}"
        return with_trace(replace(response, notes=(*response.notes, note)), [response])

    def _stream(self, request: Request) -> Iterator[Chunk]:
        pick = self.pick(request)
        for chunk in pick.model.stream(request):
            yield chunk if chunk.response is None else replace(chunk, response=self._noted(chunk.response, pick))

    def generate_batch(self, requests: Sequence[Request]) -> list[Response | LabError]:
        if not self.local:
            return super().generate_batch(requests)
        complete = [self._complete(request, {}) for request in requests]
        picks = [self.pick(request) for request in complete]
        made: dict[int, Response | LabError] = {}
        for model in dict.fromkeys(pick.model for pick in picks):
            mine = [i for i, pick in enumerate(picks) if pick.model is model]
            made.update(zip(mine, model.generate_batch([complete[i] for i in mine]), strict=True))
        return [
            a if isinstance(a := made[i], LabError) else self._finish(self._noted(a, picks[i]), complete[i])
            for i in range(len(requests))
        ]

    def logprob(
        self, context: str, continuations: Sequence[str], interventions: tuple[Any, ...] = ()
    ) -> list[ContinuationLogprob]:
        if "loglikelihood" not in self.protocols:
            return super().logprob(context, continuations)
        return self.pick(Request.of(context)).model.logprob(context, continuations, interventions)

    def logprob_batch(
        self, queries: Sequence[tuple[str, Sequence[str]]], interventions: tuple[Any, ...] = ()
    ) -> list[list[ContinuationLogprob] | LabError]:
        targets = [self.pick(Request.of(context)).model for context, _ in queries]
        if len(set(targets)) != 1 or "loglikelihood" not in self.protocols:
            return super().logprob_batch(queries)
        return targets[0].logprob_batch(queries, interventions)

    def decide(self, prompt: Prompt, choices: Sequence[str], protocol: Protocol | None = None) -> Decision:
        request = self._complete(prompt, {})
        pick = self.pick(request)
        decision = pick.model.decide(request, choices, protocol)
        if decision.response is None:
            return decision
        return replace(decision, response=self._finish(self._noted(decision.response, pick), request))

    def close(self) -> None:
        for model in self.targets:
            model.close()


def _checked(condition: Condition) -> Condition:
    if isinstance(condition, str):
        try:
            re.compile(condition)
        except re.error as error:
            raise DataError(f"{condition!r} is not a regular expression: {error}") from None
    elif not callable(condition) and (isinstance(condition, bool) or not isinstance(condition, int)):
        raise DataError(
            f"a condition is a regular expression, a number of characters or a function of the request, "
            f"got {condition!r}"
        )
    return condition


def _holds(condition: Condition, request: Request) -> str:
    """Why a condition holds for a request, "" when it does not."""
    if isinstance(condition, str):
        found = re.search(condition, request.prompt, re.IGNORECASE)
        return f"{condition!r} is in the prompt" if found else ""
    if isinstance(condition, int):
        length = len(request.prompt)
        return f"the prompt has {length} characters, {condition} or more" if length >= condition else ""
    return f"{getattr(condition, '__name__', repr(condition))} holds" if condition(request) else ""
