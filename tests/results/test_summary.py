"""Scores, counters and costs: a failure is counted, never scored."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmlab import stats
from llmlab.results import Results
from llmlab.results.summary import COUNTERS, NEEDED


def only(results):
    table = results.summary()
    assert len(table) == 1
    return table.iloc[0]


def test_score_is_the_mean_with_wilsons_interval(row):
    line = only(Results([row(sample=str(i), score=float(i < 7)) for i in range(10)]))
    expected = stats.wilson(7, 10)
    assert (line["n"], line["score"], line["low"], line["high"]) == (10, 0.7, expected.low, expected.high)
    assert line["chance"] == 0.25


def test_failed_call_is_excluded_from_the_mean(row, failed):
    line = only(Results([row(sample="1"), row(sample="2"), failed(sample="3")]))
    assert (line["n"], line["score"], line["failed"], line["answers"]) == (2, 1.0, 1, 3)


def test_bounds_say_what_failed_calls_could_change(row, failed):
    line = only(Results([row(sample="1"), row(sample="2", score=0.0), failed(sample="3"), failed(sample="4")]))
    assert line["score"] == 0.5
    assert line["low_if_all_wrong"] == 0.25
    assert line["high_if_all_right"] == 0.75


def test_answers_lost_to_the_token_limit_raise_the_upper_bound(row):
    cut = row(sample="2", score=0.0, truncated=True, parsed=False, finish_reason="length")
    line = only(Results([row(sample="1"), cut]))
    assert (line["truncated"], line["unparsable"]) == (1, 1)
    assert (line["score"], line["low_if_all_wrong"], line["high_if_all_right"]) == (0.5, 0.5, 1.0)


def test_a_refusal_is_an_answer_and_is_scored(row):
    line = only(Results([row(sample="1"), row(sample="2", score=0.0, refused=True)]))
    assert (line["refused"], line["n"], line["score"], line["high_if_all_right"]) == (1, 2, 0.5, 0.5)


def test_counters_count_separately(row, failed):
    line = only(
        Results(
            [
                row(sample="1", truncated=True),
                row(sample="2", empty=True),
                row(sample="3", refused=True),
                row(sample="4", parsed=False),
                row(sample="6", notes="x; the prompt was too long: its first 9 tokens were cut off"),
                row(sample="7", score=math.nan),
                failed(sample="5", truncated=True, empty=True, parsed=False),
            ]
        )
    )
    assert [line[name] for name in COUNTERS] == [1] * 7


def test_a_verdict_that_says_nothing_is_unparsable_and_has_no_score(row):
    line = only(Results([row(sample="1"), row(sample="2", score=math.nan, parsed=False)]))
    assert (line["n"], line["score"], line["unparsable"], line["failed"]) == (1, 1.0, 1, 0)
    assert (line["low_if_all_wrong"], line["high_if_all_right"]) == (0.5, 1.0)


def test_an_answer_that_nothing_judges_is_whole_and_has_no_score(row):
    found = Results([row(sample="1"), row(sample="2", score=math.nan), row(sample="3", score=math.nan, truncated=True)])
    line = only(found)
    assert (line["n"], line["score"], line["unjudged"], line["failed"], line["truncated"]) == (1, 1.0, 2, 0, 1)
    assert "2 not judged (they have no scorer, or lack what it needs)" in repr(found)
    alone = Results([row(sample="1", score=math.nan)])
    assert "1 not judged" in repr(alone) and "Had all" not in repr(alone), "no answer was lost"


def test_repeats_are_averaged_per_item_first(row):
    often = [row(sample="1", repeat=i, score=1.0) for i in range(9)]
    line = only(Results([*often, row(sample="2", score=0.0)]))
    assert (line["n"], line["score"], line["answers"]) == (2, 0.5, 10)


def test_items_of_one_cluster_are_not_independent(rows):
    together = rows({"a": 0.5}, n=60)
    for r in together:
        r["cluster"] = str(r["score"])  # the worst case: all items of a cluster agree
    apart, clustered = only(Results(rows({"a": 0.5}, n=60))), only(Results(together))
    assert clustered["high"] - clustered["low"] > 2 * (apart["high"] - apart["low"])


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_all_right_or_all_wrong_keeps_an_interval(row, score):
    line = only(Results([row(sample=str(i), score=score) for i in range(5)]))
    assert line["score"] == score
    assert 0 <= line["low"] < line["high"] <= 1


def test_a_single_answer_has_a_wide_interval(row):
    line = only(Results([row()]))
    assert (line["n"], line["score"]) == (1, 1.0)
    assert line["low"] < 0.3


def test_only_failed_calls_give_no_score_and_the_widest_bounds(failed):
    line = only(Results([failed(sample="1"), failed(sample="2")]))
    assert line["n"] == 0
    assert all(math.isnan(line[name]) for name in ("score", "low", "high", "cost_per_1000", "seconds"))
    assert (line["low_if_all_wrong"], line["high_if_all_right"]) == (0, 1)


def test_no_rows_give_an_empty_summary_with_the_same_columns(row):
    assert list(Results([]).summary().columns) == list(Results([row()]).summary().columns)
    assert len(Results([]).summary()) == 0


@pytest.mark.parametrize("column", ["model", "benchmark", "benchmark_version", "protocol", "metric"])
def test_what_measures_something_else_stands_in_its_own_line(row, column):
    table = Results([row(), row(**{column: "other"}, score=0.0)]).summary()
    assert sorted(table["score"]) == [0.0, 1.0]


def test_lines_keep_the_order_of_the_rows_benchmark_by_benchmark(row):
    pairs = [("b", "y"), ("a", "y"), ("b", "x"), ("a", "x")]
    table = Results([row(model=m, benchmark=b) for m, b in pairs]).summary()
    assert list(zip(table["benchmark"], table["model"], strict=True)) == [
        ("y", "b"),
        ("y", "a"),
        ("x", "b"),
        ("x", "a"),
    ]


def test_cost_is_summed_and_scaled_to_1000_answers(row, failed):
    line = only(Results([row(sample="1", cost=0.001), row(sample="2", cost=0.003), failed(sample="3")]))
    assert line["cost"] == pytest.approx(0.004)
    assert line["cost_per_1000"] == pytest.approx(2.0)


def test_a_failed_call_that_was_charged_adds_to_the_cost(row, failed):
    line = only(Results([row(sample="1", cost=0.001), failed(sample="2", cost=0.002)]))
    assert line["cost"] == pytest.approx(0.003)
    assert line["cost_per_1000"] == pytest.approx(1.0)


def test_one_unknown_price_makes_the_cost_unknown(row):
    line = only(Results([row(sample="1", cost=0.001), row(sample="2", cost=None)]))
    assert math.isnan(line["cost"])
    assert math.isnan(line["cost_per_1000"])


def test_seconds_are_the_median_of_the_answers(row, failed):
    times = [row(sample=str(i), seconds=s) for i, s in enumerate([0.1, 0.2, 9.0])]
    assert only(Results([*times, failed(sample="x", seconds=60.0)]))["seconds"] == 0.2


def test_further_metrics_have_their_own_intervals(row):
    made = [
        row(sample=str(i), metrics={"mc2": x, "acc_norm": float(i % 2)}) for i, x in enumerate([0.2, 0.4, 0.9, 0.5])
    ]
    table = Results(made).metrics().set_index("metric")
    expected = stats.mean([0.2, 0.4, 0.9, 0.5])
    assert (table.loc["mc2", "value"], table.loc["mc2", "low"]) == pytest.approx((expected.value, expected.low))
    assert table.loc["acc_norm", "high"] == stats.wilson(2, 4).high


def test_a_metric_that_an_item_lacks_is_left_out_of_its_mean(row):
    made = [row(sample="1", metrics={"bleu": 30.0}), row(sample="2"), row(sample="3", metrics={"bleu": math.nan})]
    line = Results(made).metrics().iloc[0]
    assert (line["n"], line["value"]) == (1, 30.0)


def test_results_without_metrics_give_an_empty_table(row):
    assert len(Results([row()]).metrics()) == 0


def test_coverage_of_the_summarys_interval(rows):
    rates = np.random.default_rng(0).uniform(0.3, 0.9, size=40)
    lines = [only(Results(rows({"a": rate}, n=50, seed=i))) for i, rate in enumerate(rates)]
    # the generator adds noise of 0.1 to a uniform hardness, which keeps the rate away from the ends
    hits = sum(line["low"] <= rate <= line["high"] for line, rate in zip(lines, rates, strict=True))
    assert hits >= 34


def test_what_is_called_needed_is_enough_for_summary_counters_and_comparison(row, failed):
    rows = [row(sample=str(i), model=m, score=float(i % 3 > 0), cluster=f"c{i // 2}") for i in range(9) for m in "ab"]
    rows += [failed(sample="9"), row(sample="10", model="a", parsed=False, notes="prompt shortened by 3 tokens")]
    whole, part = Results(rows), Results([{name: one[name] for name in NEEDED if name in one} for one in rows])
    assert part.summary().equals(whole.summary())
    assert part._repr_html_() == whole._repr_html_()
    assert list(part.failures()["why"]) == list(whole.failures()["why"])
    assert part.compare("a").table.equals(whole.compare("a").table)
