"""How a reply is stored: plain JSON that reads back to the equal value, and the tidy row of a Results table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from llmlab.benchmarks.base import Query, Reply
from llmlab.types import (
    Attempt,
    ContinuationLogprob,
    Decision,
    FinishReason,
    Options,
    Response,
    TokenLogprob,
    Usage,
)

_DEFAULTS = {f.name: f.default for f in fields(Response)}
_PLAIN = (
    "text",
    "finish_reason",
    "cost",
    "price",
    "seconds",
    "first_token_seconds",
    "model",
    "model_version",
    "notes",
    "reasoning",
    "dropped",
)


def record_of(key: str, model: str, query: Query, reply: Reply, project: str = "") -> dict[str, Any]:
    """A row of the store's table of answers, with the project that pays."""
    answer = reply.answer
    return {
        "key": key,
        "model": model,
        "project": project,
        "model_version": answer.model_version if answer else "",
        "request": query_to_json(query),
        "reply": reply_to_json(reply),
        "cost": answer.cost if answer else reply.cost,
        "price": answer.price if answer else reply.price,
        "seconds": answer.seconds if answer else reply.seconds,
    }


def query_to_json(query: Query) -> dict[str, Any]:
    """What was asked, as JSON types."""
    if query.request is None:
        return {"pairs": [[context, list(continuations)] for context, continuations in query.pairs]}
    asked = {"messages": [[m.role, m.content] for m in query.request.messages], "repeat": query.request.repeat}
    return asked | {"options": _options_to_json(query.request.options), "choices": list(query.choices)}


def reply_to_json(reply: Reply) -> dict[str, Any]:
    """A reply as JSON types; what has its default value is left out, unknown numbers are None."""
    record: dict[str, Any] = {}
    if reply.response is not None:
        record["response"] = response_to_json(reply.response)
    if reply.logprobs:
        record["took"] = [_number(reply.cost), reply.price, _number(reply.seconds)]
        record["logprobs"] = [
            [[_number(c.logprob), c.tokens, c.is_greedy, c.truncated] for c in continuations]
            for continuations in reply.logprobs
        ]
    if reply.decision is not None:
        decision = reply.decision
        record["decision"] = {
            "choices": list(decision.choices),
            "probabilities": [_number(p) for p in decision.probabilities],
            "choice": decision.choice,
            "protocol": decision.protocol,
            "response": response_to_json(decision.response) if decision.response else None,
        }
    return record


def reply_from_json(record: Mapping[str, Any]) -> Reply:
    """The reply that `reply_to_json` wrote, its responses marked as cached."""
    response = record.get("response")
    decision = record.get("decision")
    cost, price, seconds = record.get("took", (None, "", None))
    return Reply(
        cost=_float(cost),
        price=price,
        seconds=_float(seconds),
        cached=True,
        response=response_from_json(response) if response is not None else None,
        logprobs=tuple(
            tuple(ContinuationLogprob(_float(c[0]), c[1], c[2], c[3]) for c in continuations)
            for continuations in record.get("logprobs", ())
        ),
        decision=None
        if decision is None
        else Decision(
            tuple(decision["choices"]),
            tuple(map(_float, decision["probabilities"])),
            decision["choice"],
            decision["protocol"],
            response_from_json(decision["response"]) if decision["response"] else None,
        ),
    )


def response_to_json(response: Response) -> dict[str, Any]:
    """A response as JSON types, without what has its default value."""
    record: dict[str, Any] = {}
    for name in _PLAIN:
        value = getattr(response, name)
        if isinstance(value, float):
            if not math.isnan(value):
                record[name] = value
        elif value != _DEFAULTS.get(name):
            record[name] = list(value) if isinstance(value, tuple) else value
    record["text"] = response.text
    usage = [getattr(response.usage, f.name) for f in fields(Usage)]
    if any(u is not None for u in usage):
        record["usage"] = usage
    for name in ("requested", "applied"):
        if options := _options_to_json(getattr(response, name)):
            record[name] = options
    if response.attempts:
        record["attempts"] = [list(a) for a in response.attempts]
    if response.logprobs is not None:
        record["logprobs"] = [[t.token, t.logprob, [list(p) for p in t.top]] for t in response.logprobs]
    if response.trace:
        record["trace"] = [response_to_json(r) for r in response.trace]
    return record


def response_from_json(record: Mapping[str, Any]) -> Response:
    """The response that `response_to_json` wrote, marked as cached."""
    plain = {k: v for k, v in record.items() if k in _PLAIN}
    assert plain.get("finish_reason", "stop") in get_args(FinishReason)
    for name in ("notes", "dropped"):
        plain[name] = tuple(plain.get(name, ()))
    logprobs = record.get("logprobs")
    return Response(
        **plain,
        usage=Usage(*record.get("usage", ())),
        requested=Options(**record.get("requested", {})),
        applied=Options(**record.get("applied", {})),
        attempts=tuple(Attempt(*a) for a in record.get("attempts", ())),
        trace=tuple(response_from_json(r) for r in record.get("trace", ())),
        logprobs=None
        if logprobs is None
        else tuple(TokenLogprob(t, p, tuple((w, q) for w, q in top)) for t, p, top in logprobs),
        cached=True,
    )


def _options_to_json(options: Options) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.set().items()}


def _number(x: float) -> float | None:
    return None if math.isnan(x) else x


def _float(x: float | None) -> float:
    return math.nan if x is None else x
