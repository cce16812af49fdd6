"""Answers that are there already, scored anew: no model is asked, except one that judges."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError
from llmlab.evaluation import rows as rowing
from llmlab.evaluation.evaluate import opened
from llmlab.evaluation.plan import Benchmarks, named_benchmarks
from llmlab.ledger import Ledger
from llmlab.results import Results
from llmlab.results.frame import records
from llmlab.scorers import parse
from llmlab.types import NAN, Sample, Scorer

if TYPE_CHECKING:
    from llmlab.store import Store

_SCORER_FAILED = "ScorerError"


def rescore(
    results: Results | str,
    scorer: Scorer | str | Mapping[str, Any],
    store: str | Store | None = None,
    *,
    benchmarks: Benchmarks | None = None,
    budget: float | None = None,
    threads: int = 16,
) -> Results:
    """Score stored answers with another scorer.

    Args:
        results: Results, or the id of a run in the store.
        scorer: a scorer, or its words as `scorers.parse` reads them.
        store: where the run is; None is the default store.
        benchmarks: where the samples are, for a scorer that looks at more than prompt, target, cluster and tags,
            which the rows themselves hold (several targets as one text with " | " between them).
        budget: US dollars that judges may spend, a hard limit.
        threads: answers that are scored at the same time.

    Returns:
        Results with a row for each row: new score, evidence, metrics and judge_cost; `metric` is the scorer, and
        chance is unknown. Failed calls stay failed; where only the earlier scorer had failed the answer is scored.

    Raises:
        DataError: for answers without text (log-likelihoods, decisions), or samples that `benchmarks` lacks.
        StoreError: when there is no such run.
    """
    judge = parse(scorer)
    rows, status = _rows(results, store)
    samples = None if benchmarks is None else _samples(benchmarks)
    for row in rows:
        if not row["text"] and row["protocol"] in ("loglikelihood", "decision") and not _failed(row):
            raise DataError(
                f"{row['model']} on {row['benchmark']} was asked by {row['protocol']}, so there is no text to score; "
                "evaluate with protocol='generate', or take the other rows: results.filter(protocol='generate')"
            )
    pairs = [(row, _sample(row, samples)) for row in rows]
    with Ledger(budget), ThreadPoolExecutor(max(1, threads)) as pool:
        # the ledger is a context variable: each thread gets its own copy of the context
        calls = [pool.submit(contextvars.copy_context().run, _scored, row, judge, sample) for row, sample in pairs]
        return Results([call.result() for call in calls], status=status)


def _rows(results: Results | str, store: str | Store | None) -> tuple[list[dict[str, Any]], str]:
    if isinstance(results, Results):
        return records(results.samples), results.status
    with opened(store) as source:
        status = str(source.runs().loc[results, "status"]) if results in source.runs().index else ""
        return records(Results(source.results(results)).samples), status


def _samples(benchmarks: Benchmarks) -> dict[tuple[str, str], Sample]:
    return {(b.name, sample.id): sample for b in named_benchmarks(benchmarks) for sample in b.samples()}


def _sample(row: Mapping[str, Any], samples: Mapping[tuple[str, str], Sample] | None) -> Sample:
    if samples is None:
        parts = tuple(row["target"].split(" | "))
        target = row["target"] if len(parts) == 1 else parts
        tags = tuple(tag for tag in row["tags"].split(",") if tag)
        return Sample(row["prompt"], target or None, row["sample"], cluster=row["cluster"], tags=tags)
    found = samples.get((row["benchmark"], row["sample"]))
    if found is None:
        raise DataError(f"the given benchmarks have no sample {row['sample']!r} of {row['benchmark']}")
    return found


def _failed(row: Mapping[str, Any]) -> bool:
    return bool(row["error"]) and row["error_kind"] != _SCORER_FAILED


def _scored(row: Mapping[str, Any], scorer: Scorer, sample: Sample) -> dict[str, Any]:
    metric = getattr(scorer, "__name__", None) or str(scorer)
    made = {**row, "metric": metric, "chance": NAN, "cached": True}
    if _failed(row):
        return made | {"answer": "", "score": NAN, "metrics": {}, "explanation": "", "judge_cost": 0.0}
    verdict, judge_cost, fault = rowing.judged(lambda: scorer(row["text"], sample))
    return made | {
        "answer": verdict.answer,
        "score": verdict.value,
        "metrics": dict(verdict.metrics),
        "explanation": verdict.explanation,
        "parsed": verdict.parsed,
        "judge_cost": judge_cost,
        "error": fault,
        "error_kind": _SCORER_FAILED if fault else "",
    }
