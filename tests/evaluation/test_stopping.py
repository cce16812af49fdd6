"""Adaptive stopping: a comparison ends when it is decided, and says what it saved."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import llmlab as lab
from llmlab.errors import DataError, UnknownName
from llmlab.evaluation.stopping import Scores, decided
from llmlab.models.scripted import Scripted
from llmlab.types import Request

from .toy import Doubling, right, twice


def scores(n: int, a: float, b: float, seed: int = 0) -> Scores:
    rng = random.Random(seed)
    return {
        "a": {str(i): float(rng.random() < a) for i in range(n)},
        "b": {str(i): float(rng.random() < b) for i in range(n)},
    }


def test_clear_winner_is_named() -> None:
    (decision,) = decided().decisions(scores(200, 0.9, 0.4))
    assert decision.verdict == "a" and "a is better than b" in str(decision)


def test_equal_models_are_equal_only_within_delta() -> None:
    same = {m: dict.fromkeys(map(str, range(400)), 1.0) for m in "ab"}
    assert decided(delta=0.05).decisions(same)[0].verdict == "equal"
    assert decided(delta=0.0).decisions(same)[0].verdict == "open"


def test_looking_after_every_item_keeps_the_error_rate() -> None:
    rule, wrong = decided(alpha=0.1), 0
    for seed in range(60):
        table = scores(150, 0.5, 0.5, seed)
        for n in range(10, 151, 10):
            seen = {m: dict(list(s.items())[:n]) for m, s in table.items()}
            if rule.decisions(seen)[0].verdict != "open":
                wrong += 1
                break
    assert wrong / 60 <= 0.15, "nominal 0.10; the tests are conservative"


def test_baseline_compares_each_with_it_only_and_alpha_is_shared() -> None:
    three = scores(100, 0.9, 0.2) | {"c": scores(100, 0.5, 0.5)["a"]}
    assert {(d.a, d.b) for d in decided(baseline="b").decisions(three)} == {("a", "b"), ("c", "b")}
    assert len(decided().decisions(three)) == 3


@pytest.mark.parametrize("bad", [{"delta": -0.1}, {"delta": 1.0}, {"alpha": 0.0}])
def test_impossible_rules_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        decided(**bad)


def run(models, size=500, **settings):
    return lab.evaluate(models, Doubling(size), progress=False, threads=4, **settings)


def test_run_ends_when_decided_and_says_what_it_saved(tmp_path: Path) -> None:
    good, bad = right(), Scripted("0", "scripted/bad")
    results = run([good, bad], until=lab.decided(delta=0.05), store=f"sqlite:///{tmp_path / 'a.db'}")
    assert results.status == "decided"
    assert len(results) < 200 and good.calls < 100
    assert "scripted/right is better than scripted/bad" in repr(results.decisions)
    assert "% saved" in repr(results.decisions)


def test_undecided_run_goes_to_the_end(tmp_path: Path) -> None:
    def half(request: Request) -> str:
        return twice(request) if int(request.prompt[6:-1]) % 2 else "0"

    results = run([Scripted(half, "scripted/a"), Scripted(half, "scripted/b")], 60,
                  until=lab.decided(delta=0.01), store=f"sqlite:///{tmp_path / 'a.db'}")  # fmt: skip
    assert results.status == "complete" and len(results) == 120
    assert "open" in repr(results.decisions)


def test_rule_needs_two_models_and_a_known_baseline(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'a.db'}"
    with pytest.raises(DataError, match="at least two"):
        run(right(), until=lab.decided(), store=store)
    with pytest.raises(UnknownName, match="scripted/right"):
        run([right(), right("scripted/other")], until=lab.decided(baseline="scripted/rigth"), store=store)
