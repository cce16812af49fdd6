"""From an answer to a row of the Results table: the score, the counters, and where it all came from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from llmlab.benchmarks.base import Reply
from llmlab.errors import BudgetExceeded
from llmlab.evaluation.judging import recalled
from llmlab.evaluation.plan import Unit
from llmlab.ledger import Ledger
from llmlab.types import NAN, Message, Protocol, Response, Sample, Score, shortened

# narrower than `scorers.refusal`: on questions about anything, "we will not have enough apples" opens an answer
_REFUSAL = re.compile(
    r"\s*(?:i(?:['’]m| am) (?:very |really |so )?sorry\b(?! to (?:hear|read|learn)| for (?:your|the|any)| about)"
    r"|sorry,? (?:but )?i"
    r"|i (?:cannot|can['’]?t|can not|won['’]?t|am unable to|am not able to|must decline)"
    r"\s+(?:help|assist|answer|provide|comply|do|fulfil))",
    re.IGNORECASE,
)


def looks_refused(response: Response) -> bool:
    """Whether the provider or the model declined. Only the start of the text counts: a refusal opens with it."""
    return response.finish_reason == "refusal" or bool(_REFUSAL.match(response.text))


Scored: TypeAlias = tuple[Score, float, str]
"""Score, US dollars that judging cost, and the error if the scorer itself failed ("" if not)."""


def score(unit: Unit, reply: Reply) -> Scored:
    """Judge one reply; a scorer that fails gives no score and says why."""
    return judged(lambda: unit.cell.benchmark.score(unit.sample, reply))


def judged(judge: Callable[[], Score]) -> Scored:
    """A verdict with what it cost; a failure of `judge` gives no score and says why."""
    before: list[float] = []
    token = recalled.set(before)
    fault = ""
    with Ledger() as bill:
        try:
            given: object = judge()  # by a user's function, whatever its type promises
            if not isinstance(given, Score):
                raise TypeError(f"a scorer returns a Score, got {given!r}; lab.scorers.custom(f) makes one of a number")
            verdict = given
        except BudgetExceeded as error:
            verdict, fault = Score(NAN), f"the answer is stored but not judged: {error}"
        except Exception as error:  # a user's scorer may raise anything; the paid answer must survive it
            verdict, fault = Score(NAN), f"the scorer failed: {type(error).__name__}: {error}"
        finally:
            recalled.reset(token)
    return verdict, bill.spent + math.fsum(before), fault


def row(unit: Unit, reply: Reply | None, error: Exception | None, seed: int, scored: Scored | None) -> dict[str, Any]:
    """One row of the Results table."""
    verdict, judge_cost, fault = scored or (Score(NAN), 0.0, "")
    response = reply.answer if reply is not None else None
    generated = response is not None
    if reply is not None and reply.logprobs:
        # nothing was generated; what the log-probabilities took stands in the same columns
        cut = max(c.truncated for continuations in reply.logprobs for c in continuations)
        took = {
            "notes": shortened(cut),
            "cost": reply.cost,
            "price": reply.price,
            "seconds": reply.seconds,
            "cached": reply.cached,
        }
        response = Response("", "unknown", **took)  # type: ignore[arg-type]  # each by its name
    made = {
        **_asked(unit, seed),
        **_answered(response, generated, unit.cell.protocol),
        "text": reply.text if reply else "",
        "answer": verdict.answer,
        "score": verdict.value,
        "metrics": dict(verdict.metrics),
        "explanation": verdict.explanation,
        "parsed": verdict.parsed,
        "judge_cost": judge_cost,
        "error": f"{error}" if error else fault,
        "error_kind": type(error).__name__ if error else ("ScorerError" if fault else ""),
        "provenance": dict(getattr(unit.cell.model, "settings_used", None) or {}),
    }
    if error is not None:
        made["parsed"] = True  # nothing came back, so there was nothing to read: it is counted as failed only
    return made


def _asked(unit: Unit, seed: int) -> dict[str, Any]:
    cell, sample, query = unit.cell, unit.sample, unit.query
    prompt = query.request.messages if query.request else (Message("user", query.pairs[0][0]),)
    return {
        "model": cell.label,
        "benchmark": cell.benchmark.name,
        "benchmark_version": cell.benchmark.version,
        "protocol": cell.protocol,
        "sample": sample.id,
        "cluster": sample.cluster,
        "tags": ",".join(sample.tags),
        "repeat": unit.repeat,
        "prompt": prompt[0].content if len(prompt) == 1 else "\n\n".join(f"{m.role}: {m.content}" for m in prompt),
        "target": _target(sample),
        "prompt_hash": query.request.prompt_hash if query.request else unit.key,
        "seed": seed,
        "chance": cell.benchmark.chance(cell.protocol),
        "metric": cell.benchmark.metric(cell.protocol),
    }


def _answered(response: Response | None, generated: bool, protocol: Protocol) -> dict[str, Any]:
    response = response or Response("", "unknown")
    usage = response.usage
    return {
        "finish_reason": response.finish_reason if generated else "",
        "refused": generated and looks_refused(response),
        # a decision by letter probabilities reads the first token and stops there on purpose
        "truncated": generated and response.finish_reason == "length" and protocol != "letter_logprob",
        "empty": generated and response.finish_reason != "refusal" and not response.text.strip(),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost": response.cost,
        "price": response.price,
        "seconds": response.seconds,
        "first_token_seconds": response.first_token_seconds,
        "model_version": response.model_version,
        "cached": response.cached,
        "attempts": len(response.attempts) or 1,
        "notes": "; ".join(response.notes),
        "applied": response.applied.set(),
        "dropped": list(response.dropped),
    }


def _target(sample: Sample) -> str | None:
    target = sample.target
    if isinstance(target, int) and sample.choices:
        return sample.choices[target]
    if isinstance(target, tuple):
        return " | ".join(map(str, target))
    return None if target is None else str(target)


def running_mean(total: float, count: int) -> float:
    """Mean so far, NaN before the first value."""
    return total / count if count else math.nan
