"""How many items are enough, held to formulas and to simulation; and the newer parts of the forecast."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import llmlab as lab
from llmlab import prices
from llmlab.errors import DataError, StoreError, UnknownName
from llmlab.results import Results
from llmlab.stats import paired, sample_size
from llmlab.types import Usage
from tests.evaluation.toy import Doubling, right, wrong


def history(a: list[float], b: list[float], repeats: int = 1, clusters: int = 0) -> Results:
    rows = []
    for model, scores in (("a", a), ("b", b)):
        for i, score in enumerate(scores):
            item, repeat = divmod(i, repeats)
            rows.append(
                {"model": model, "benchmark": "x", "protocol": "generate", "sample": f"i{item}", "repeat": repeat,
                 "score": score, "cluster": f"c{item % clusters}" if clusters else ""}
            )  # fmt: skip
    return Results(rows)


def test_disagreement_may_be_stated_as_it_is_or_by_sd_and_correlation() -> None:
    assert lab.plan(0.03, disagreement=0.2).n == sample_size(0.03, 0.2) == 1745
    assert lab.plan(0.03, sd=0.5, correlation=0.6).n == sample_size(0.03, 0.2)
    assumed = lab.plan()
    assert assumed.n == 1745 and "assumed, for want of a history" in repr(assumed)
    assert lab.plan(0.03, comparisons=5).n == sample_size(0.03, 0.2, alpha=0.01) > assumed.n


def test_history_tells_the_disagreement_with_its_uncertainty() -> None:
    a, b = [1.0] * 60 + [0.0] * 40, [1.0] * 50 + [0.0] * 30 + [1.0] * 20
    found = lab.plan(0.05, history=history(a, b))
    expected = float(np.var(np.subtract(a, b), ddof=1))
    assert found.disagreement == pytest.approx(expected, rel=0.05)
    assert found.low < found.n < found.high
    assert "a and b on 100 items of x; between" in repr(found)
    assert found.table["correlation"].iloc[0] == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_the_planned_n_has_the_planned_power() -> None:
    rng = np.random.default_rng(0)
    n = lab.plan(0.1, disagreement=0.3 - 0.01).n  # 20 % and 10 % of the items go one way: mean 0.1
    draws = rng.choice([1.0, -1.0, 0.0], p=[0.2, 0.1, 0.7], size=(2000, n))
    z = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / math.sqrt(n))
    assert 0.77 < (np.abs(z) > 1.96).mean() < 0.84
    assert paired([1.0, 0.0], [0.0, 0.0]).n == 2


def test_repeats_average_the_noise_of_answers_out() -> None:
    rng = np.random.default_rng(1)
    noisy = [list((rng.random(400) < 0.5).astype(float)) for _ in "ab"]
    seen = history(*noisy, repeats=4)
    once, often = (lab.plan(0.1, history=seen, repeats=k) for k in (1, 8))
    assert once.disagreement == pytest.approx(0.5, abs=0.12), "two coins disagree on half of the items"
    assert often.n < once.n / 3


def test_items_that_belong_together_are_worth_less() -> None:
    a, b = [float(i % 10 < 7) for i in range(100)], [float(i % 10 < 5) for i in range(100)]
    assert lab.plan(history=history(a, b, clusters=10)).n > 5 * lab.plan(history=history(a, b)).n


def test_models_that_never_differed_may_still_do() -> None:
    assert lab.plan(0.03, history=history([1.0] * 50, [1.0] * 50)).n > 100


def test_store_is_looked_through_for_the_benchmark(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    lab.evaluate([right(), wrong()], Doubling(30), store=store, progress=False)
    lab.evaluate(right(), Doubling(30), store=store, progress=False)
    assert "on 30 items of doubling" in lab.plan(0.05, benchmark="doubling", store=store).source
    with pytest.raises(StoreError, match="no run of two models on 'gsm8k'; give history= or disagreement="):
        lab.plan(0.05, benchmark="gsm8k", store=store)


def test_contradictions_are_refused() -> None:
    both = history([1.0, 0.0], [1.0, 1.0])
    with pytest.raises(DataError, match="the disagreement is stated and a history given"):
        lab.plan(history=both, disagreement=0.2)
    with pytest.raises(DataError, match="sd and correlation go together"):
        lab.plan(sd=0.5)
    with pytest.raises(UnknownName, match="No model in the history 'c'"):
        lab.plan(history=both, models=["a", "c"])
    with pytest.raises(DataError, match="no two models that answered the same items"):
        lab.plan(history=both.filter(model="a"))
    with pytest.raises(ValueError, match=r"in \(0, 1\], such as 0.03 for 3 points; got 3"):
        lab.plan(3)


# -- forecasts ----------------------------------------------------------------------------------------------------


def test_pilot_is_asked_stored_and_paid_once(tmp_path: Path) -> None:
    store, model = f"sqlite:///{tmp_path / 'runs.db'}", right(cost=0.01)
    before = lab.estimate(model, Doubling(50), store=store)
    assert before.table["tokens_from"].tolist() == ["length of text"] and math.isnan(before.minutes.value)
    found = lab.estimate(model, Doubling(50), pilot=12, store=store)
    line = found.table.iloc[0]
    assert (model.calls, line["calls"], line["tokens_from"]) == (12, 38, "12 answers")
    assert found.pilot == pytest.approx(0.12) and "The pilot cost $0.1200." in found.text()
    assert found.total.value == pytest.approx(0.38)
    assert lab.estimate(model, Doubling(50), pilot=12, store=store).pilot == 0 and model.calls == 12
    assert found.minutes.low <= found.minutes.value <= found.minutes.high


def test_batch_price_is_the_providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    found = lab.estimate("openai/gpt-4o-mini", Doubling(), store=f"sqlite:///{tmp_path / 'runs.db'}")
    assert found.batch == pytest.approx(found.total.value / 2)
    assert "with batch=True, which may take a day" in found.text()


# -- what answers cost --------------------------------------------------------------------------------------------


def priced(n: int, output: int = 100, right_share: float = 0.5, **more: object) -> Results:
    price = prices.price("openai/gpt-4o-mini", Usage(1000, output, 200)).cost
    rows = [
        {"model": "openai/gpt-4o-mini", "benchmark": "x", "protocol": "generate", "sample": f"i{i}", "cost": price,
         "score": float(i < right_share * n), "input_tokens": 1000, "cached_tokens": 200, "output_tokens": output,
         "seconds": 2.0, **more}
        for i in range(n)
    ]  # fmt: skip
    return Results(rows)


def test_dollars_of_each_class_of_token_add_up_to_what_was_charged() -> None:

    line = priced(10).cost().iloc[0]
    parts = prices.parts("openai/gpt-4o-mini", Usage(1000, 100, 200))
    assert line["output_cost"] == pytest.approx(10 * parts["output"])
    assert line[["input_cost", "cached_cost", "output_cost"]].sum() == pytest.approx(line["cost"])
    assert math.isnan(priced(10, cost=0.5).cost()["output_cost"].iloc[0]), "a charge that the prices do not explain"


def test_cost_of_a_right_answer_has_an_interval() -> None:
    line = priced(100).cost().iloc[0]
    assert line["per_right_low"] < line["per_right"] < line["per_right_high"] < math.inf
    assert priced(5, right_share=0.2).cost()["per_right_high"].iloc[0] == math.inf


def test_forecast_of_a_larger_workload() -> None:
    results = priced(20)
    line = results.forecast(1_000_000).iloc[0]
    assert line["cost"] == pytest.approx(1_000_000 * results.cost()["cost"].iloc[0] / 20)
    assert line["batch"] == pytest.approx(line["cost"] / 2) and line["hours"] == pytest.approx(2e6 / 3600)
    assert math.isnan(priced(20, cost=math.nan).forecast(10)["cost"].iloc[0])
    with pytest.raises(ValueError, match="answers must be at least 1, a whole number; got 0"):
        results.forecast(0)


def test_recommendations_name_their_evidence() -> None:
    said = priced(20, output=2000).recommend()
    assert any("of what openai/gpt-4o-mini costs on x is output (2000 tokens an answer)" in line for line in said)
    assert any("with batch=True (within a day) $0.6" in line for line in said)
    assert any("scores highest on x" in line for line in said)
