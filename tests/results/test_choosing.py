"""Which model to take: cheapest not shown worse, under conditions; ceiling and shared errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llmlab.errors import DataError
from llmlab.results import Results
from llmlab.results.choosing import choose, error_correlation, oracle

NAN = math.nan


def rows(model: str, scores: list[float], cost: float = 0.0, seconds: float = 1.0, **more: Any) -> list[dict[str, Any]]:
    return [
        {"model": model, "benchmark": "b", "sample": str(i), "score": s, "cost": cost, "seconds": seconds, "error": ""}
        | more
        for i, s in enumerate(scores)
    ]


def pattern(right: int, n: int = 100) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def three() -> Results:
    return Results(
        rows("dear", pattern(80), cost=0.01, seconds=3)
        + rows("middle", pattern(78), cost=0.002, seconds=2)
        + rows("cheap", pattern(40), cost=0.0001, seconds=1)
    )


def test_the_cheapest_not_shown_worse_is_chosen_with_its_evidence() -> None:
    found = choose(three())
    assert (found.model, found.best) == ("middle", "dear")
    assert found.table["verdict"].to_dict() == {"cheap": "worse", "middle": "not shown worse", "dear": "best"}
    assert "not shown worse than the best, dear (80.0 %): -2.0 points" in found.why
    assert "could not have been seen" in found.why
    assert found.table.index.tolist() == ["cheap", "middle", "dear"]
    assert found.table.loc["cheap", "p"] < 1e-6 and math.isnan(found.table.loc["dear", "p"])


def test_conditions_leave_models_out_before_the_best_is_taken() -> None:
    limited = choose(three(), max_cost=0.001)
    assert (limited.model, limited.best) == ("cheap", "cheap")
    assert "dear: costs more than $0.0010 per answer" in limited.why
    quick = choose(three(), max_seconds=2.5, min_quality=0.5)
    assert (quick.model, quick.best) == ("middle", "middle")
    nothing = choose(three(), min_quality=0.9)
    assert nothing.model is None and nothing.best is None
    assert "No model fulfils the conditions" in nothing.why and "middle: score below 90.0 %" in nothing.why


def test_unpriced_models_come_last_and_fulfil_no_limit() -> None:
    results = Results(rows("unknown", pattern(80), cost=NAN) + rows("priced", pattern(79), cost=5.0))
    assert choose(results).model == "priced"
    assert choose(results, max_cost=1.0).model is None
    assert "unknown: unpriced" in choose(results, max_cost=10.0).why
    assert "unpriced" in choose(Results(rows("unknown", pattern(80), cost=NAN))).why


def test_of_equal_cost_the_faster_is_chosen() -> None:
    results = Results(rows("slow", pattern(80), seconds=9) + rows("quick", pattern(80), seconds=1))
    assert choose(results).model == "quick"


def test_too_few_items_choose_nobody_but_the_best() -> None:
    results = Results(rows("best", [0.5], cost=1.0) + rows("other", [0.25], cost=0.1))
    found = choose(results)
    assert found.model == "best"
    assert found.table.loc["other", "verdict"] == "too few items to tell"


def test_failed_answers_are_said() -> None:
    lost = rows("flaky", [NAN] * 10, error="down") + [
        row | {"sample": str(int(row["sample"]) + 10)} for row in rows("flaky", pattern(90, 90))
    ]
    found = choose(Results(lost))
    assert "10.0 % of its answers failed" in found.why and found.table.loc["flaky", "failed"] == 0.1


def test_scores_of_different_kinds_are_not_ranked_together() -> None:
    mixed = Results(rows("a", pattern(5, 9)) + rows("b", pattern(5, 9), protocol="letter"))
    with pytest.raises(DataError, match="protocol"):
        choose(mixed)
    with pytest.raises(DataError, match="nothing to choose by"):
        oracle(Results(rows("a", [NAN, NAN])))


def test_oracle_takes_the_best_answer_of_every_item() -> None:
    results = Results(rows("a", [1, 1, 0, 0]) + rows("b", [0, 1, 1, 0]) + rows("c", [0, 0, 0, 0]))
    found = oracle(results.samples)
    assert found.score.value == 0.75 and found.best == "a"
    assert (found.gain.value, found.gain.wins, found.gain.losses) == (0.25, 1, 0)


def test_oracle_averages_repeats_and_needs_common_items() -> None:
    repeated = rows("a", [1.0, 0.0]) + rows("a", [0.0, 0.0], repeat=1) + rows("b", [0.0, 0.0])
    assert oracle(Results(repeated)).score.value == 0.25
    with pytest.raises(DataError, match="no item that all of a, b"):
        oracle(Results(rows("a", [1.0]) + rows("b", [NAN])))


def test_error_correlation_is_that_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 200).astype(float)
    b = np.where(rng.random(200) < 0.2, 1 - a, a)
    c = rng.integers(0, 2, 200).astype(float)
    table = error_correlation(
        Results(rows("a", a.tolist()) + rows("b", b.tolist()) + rows("c", c.tolist()) + rows("d", [1.0] * 200))
    )
    assert table.loc["a", "b"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert abs(table.loc["a", "c"]) < 0.2 < table.loc["a", "b"]
    assert table.loc["a", "a"] == 1.0 and math.isnan(table.loc["a", "d"])
    assert table.index.tolist() == ["a", "b", "c", "d"] == table.columns.tolist()
