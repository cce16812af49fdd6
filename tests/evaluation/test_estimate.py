"""The forecast of a run, against what is known of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import llmlab as lab
from llmlab.errors import MissingKey
from llmlab.types import Request, Response

from .toy import Doubling, right


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> lab.models.base.Model:  # type: ignore[name-defined]
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    return lab.model("openai/gpt-4o-mini")


def test_dollars_have_bounds_and_grow_with_n(cloud, store: str) -> None:
    few, many = (lab.estimate(cloud, Doubling(200), n=n, store=store).total for n in (50, 200))
    assert 0 < few.low < few.value < few.high
    assert many.value == pytest.approx(4 * few.value, rel=0.1)


def test_detectable_difference_shrinks_with_n(store: str) -> None:
    small, large = (lab.estimate("scripted/echo", Doubling(400), n=n, store=store).table for n in (100, 400))
    assert small["detectable"].iloc[0] == pytest.approx(2 * large["detectable"].iloc[0], rel=0.05)


def test_stored_answers_are_not_counted(store: str) -> None:
    model = right()
    lab.evaluate(model, Doubling(20), n=8, store=store, progress=False)
    assert lab.estimate(model, Doubling(20), store=store).table["calls"].iloc[0] == 12
    assert model.calls == 8, "nothing is asked"


def test_history_gives_tokens(store: str) -> None:
    lab.evaluate(right(), Doubling(40), n=30, store=store, progress=False)
    row = lab.estimate(right(), Doubling(40), store=store).table.iloc[0]
    assert row["calls"] == 10
    assert row["input_tokens"] == pytest.approx(10 * 2) and row["output_tokens"] == pytest.approx(10)


def test_unknown_price_is_unpriced_not_free(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    forecast = lab.estimate("openai/some-future-model", Doubling(), store=store)
    assert math.isnan(forecast.total.value) and "unpriced" in repr(forecast)


def test_nothing_is_asked_so_no_key_is_needed(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert lab.estimate("gpt-4o-mini", Doubling(), store=store).table["cost_high"].iloc[0] > 0
    with pytest.raises(MissingKey, match="needs OPENAI_API_KEY"):  # a pilot asks
        lab.estimate("gpt-4o-mini", Doubling(), pilot=2, store=store)
    with pytest.raises(MissingKey, match="needs OPENAI_API_KEY"):
        lab.model("gpt-4o-mini")


def test_wrapper_costs_what_the_models_inside_cost(cloud, store: str) -> None:
    def as_it_is(request: Request, call) -> Response:
        return call(request)

    plain = lab.estimate(cloud, Doubling(), store=store).total.value
    assert lab.estimate(cloud.through(as_it_is), Doubling(), store=store).total.value == pytest.approx(plain)
    pair = lab.ensemble([cloud, lab.model("scripted/echo"), cloud.with_options(temperature=1.0)])
    assert lab.estimate(pair, Doubling(), store=store).total.value == pytest.approx(2 * plain)


def test_a_model_that_runs_here_is_not_billed(store: str) -> None:
    assert lab.estimate("scripted/echo", Doubling(), store=store).total.value == 0.0
