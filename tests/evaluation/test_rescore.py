"""Stored answers under another scorer: nothing is asked again, nothing is lost, judges are paid from a budget."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import llmlab as lab
from llmlab import scorers
from llmlab.errors import DataError, ServerFault, StoreError
from llmlab.evaluation.rescore import rescore
from llmlab.models.scripted import Scripted
from llmlab.types import Sample, Score

from .toy import Doubling, right, twice


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def run(model: Scripted, store: str, n: int = 10) -> lab.Results:
    return lab.evaluate(model, Doubling(), n=n, store=store, progress=False)


def test_no_model_is_asked_again_and_only_the_verdict_changes(store: str) -> None:
    model = right()
    before = run(model, store)
    after = rescore(before, scorers.contains("1"))
    assert model.calls == 10
    expected = [float("1" in text) for text in before.samples["text"]]
    assert after.samples["score"].tolist() == expected and 0 < sum(expected) < 10
    kept = ["model", "benchmark", "sample", "repeat", "text", "prompt", "target", "cost", "answer_key", "run"]
    assert after.samples[kept].equals(before.samples[kept])
    assert set(after.samples["metric"]) == {str(scorers.contains("1"))}
    assert before.samples["score"].tolist() == [1.0] * 10


def test_a_run_of_the_store_is_rescored_by_its_id(store: str) -> None:
    before = run(right(), store)
    after = rescore(before.samples["run"].iloc[0], "numeric", store)
    assert after.samples["score"].tolist() == [1.0] * 10
    assert sorted(after.samples["sample"]) == sorted(before.samples["sample"])
    with pytest.raises(StoreError, match="no run 'nothing'"):
        rescore("nothing", "numeric", store)


def test_failed_calls_stay_failed_and_failed_scorers_get_a_second_chance(store: str) -> None:
    flaky = Scripted(lambda r: ServerFault("down") if "Twice 3" in r.prompt else twice(r), "scripted/flaky")

    def fussy(text: str, sample: Sample) -> Score:
        if text == "4":
            raise ValueError("not this one")
        return Score(1.0)

    first = rescore(run(flaky, store), fussy)
    table = first.samples.set_index("sample")
    errors = table[table["error"] != ""]
    assert set(errors["error_kind"]) == {"ServerFault", "ScorerError"}
    assert errors["score"].isna().all() and set(table["metric"]) == {"fussy"}
    again = rescore(first, "exact").samples
    assert again["error_kind"].tolist().count("ServerFault") == 1 and "ScorerError" not in set(again["error_kind"])
    assert again["score"].sum() == 9.0


def test_judges_are_counted_and_kept_within_the_budget(store: str) -> None:
    judge = Scripted("Fine.\nVerdict: correct", "scripted/judge", cost=0.1)
    results = run(right(), store)
    after = rescore(results, scorers.judge(judge)).samples
    assert judge.calls == 10 and after["judge_cost"].tolist() == pytest.approx([0.1] * 10)
    short = rescore(results, scorers.judge(judge), budget=0.35).samples
    assert short["judge_cost"].sum() == pytest.approx(0.3)
    assert (short["error"].str.contains("not judged")).sum() == 7


def test_samples_come_from_the_benchmark_when_it_is_given(store: str) -> None:
    results = run(right(), store, n=5)

    def seen(text: str, sample: Sample) -> Score:
        return Score(1.0, sample.input if isinstance(sample.input, str) else None)

    assert set(rescore(results, seen, benchmarks=Doubling()).samples["answer"]) == set(results.samples["prompt"])
    with pytest.raises(DataError, match="have no sample"):
        rescore(results, seen, benchmarks=Doubling(size=1))


def test_several_targets_are_alternatives_again(store: str) -> None:
    suite = lab.suite([Sample("Name one.", target=("Paris", "Rome"), scorer=scorers.exact())], name="towns")
    results = lab.evaluate(Scripted("Rome"), suite, store=store, progress=False)
    assert rescore(results, "exact").samples["score"].tolist() == [1.0]


def test_answers_without_text_cannot_be_scored() -> None:
    row = {"model": "m", "benchmark": "b", "sample": "1", "score": 1.0, "protocol": "loglikelihood", "text": ""}
    with pytest.raises(DataError, match="no text to score"):
        rescore(lab.Results([row]), "exact")
    failed = row | {"error": "down", "error_kind": "ServerFault", "score": math.nan}
    assert rescore(lab.Results([failed]), "exact").samples["error"].tolist() == ["down"]


def test_rows_written_by_hand_are_scored_all_the_same() -> None:
    row = {"model": "m", "benchmark": "b", "sample": "1", "score": 0.0, "text": "51", "target": "51"}
    assert rescore(lab.Results([row]), "numeric").samples["score"].tolist() == [1.0]
