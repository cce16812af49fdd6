"""Two models on the same items."""

from __future__ import annotations

import math

import pytest

from llmlab import stats
from llmlab.errors import DataError, UnknownName
from llmlab.results import Results


def pair(row, a, b, **changes):
    """Rows of models a and b with the given scores."""
    return [
        row(model=model, sample=str(i), score=float(score), **changes)
        for model, scores in (("a", a), ("b", b))
        for i, score in enumerate(scores)
    ]


def test_difference_is_paired_and_tested_exactly(row):
    line = Results(pair(row, [0] * 7 + [1] + [1] * 12, [1] * 7 + [0] + [1] * 12)).compare("a").table.iloc[0]
    assert (line["model"], line["baseline"], line["n"]) == ("b", "a", 20)
    assert line["difference"] == pytest.approx(0.3)
    assert line["p"] == pytest.approx(stats.mcnemar(7, 1))
    assert (line["better"], line["worse"]) == (7, 1)
    assert line["score"] - line["baseline_score"] == pytest.approx(line["difference"])


def test_order_of_the_rows_does_not_matter(row):
    made = pair(row, [0, 0, 1, 0, 1], [1, 1, 1, 0, 0])
    assert Results(made).compare("a").table["p"].equals(Results(made[:5] + made[:4:-1]).compare("a").table["p"])


def test_only_items_that_both_answered_count(row, failed):
    made = pair(row, [0, 0, 0, 0], [1, 1, 1, 1])
    made[0] = failed(model="a", sample="0")
    made.append(row(model="b", sample="only b"))
    line = Results(made).compare("a").table.iloc[0]
    assert (line["n"], line["left_out"]) == (3, 2)
    assert line["difference"] == 1


def test_a_clear_difference_is_named(rows):
    comparison = Results(rows({"a": 0.2, "b": 0.8})).compare("a")
    assert comparison.table.loc[0, "verdict"] == "better"
    assert "b is better than a on micro/arc (100 items) by" in comparison.findings()[0]
    worse = Results(rows({"a": 0.2, "b": 0.8})).compare("b")
    assert worse.table.loc[0, "verdict"] == "worse"
    assert "a is worse than b on micro/arc (100 items) by 5" in worse.findings()[0]


def test_a_null_result_says_what_it_could_have_seen(row):
    scores = [i % 2 for i in range(40)]
    line = Results(pair(row, scores, scores)).compare("a").table.iloc[0]
    assert line["p"] == 1
    assert line["low"] < 0 < line["high"]
    points = f"{100 * line['detectable']:.1f} points"
    assert line["verdict"] == f"no difference shown; below {points} it could not have been seen"


def test_one_item_shows_nothing(row):
    comparison = Results(pair(row, [0], [1])).compare("a")
    assert comparison.table.loc[0, "verdict"] == "no difference shown; too few items to see any"
    partial = Results(pair(row, [0.25], [0.5])).compare("a")
    assert partial.table.loc[0, "verdict"] == "too few items to tell"
    assert math.isnan(partial.table.loc[0, "p"])


def test_p_values_are_adjusted_over_all_lines(rows):
    table = (
        Results(rows({"a": 0.4, "b": 0.5, "c": 0.6}) + rows({"a": 0.4, "b": 0.5}, benchmark="other")).compare("a").table
    )
    assert len(table) == 3
    assert table["p_holm"].tolist() == pytest.approx(stats.holm(table["p"]).tolist())


def test_repeats_are_averaged_before_pairing(row):
    made = [row(model="a", sample=str(i), repeat=k, score=0.0) for i in range(6) for k in range(3)]
    made += [row(model="b", sample=str(i), repeat=k, score=float(k == i % 3)) for i in range(6) for k in range(3)]
    line = Results(made).compare("a").table.iloc[0]
    assert (line["n"], line["difference"]) == (6, pytest.approx(1 / 3))


def test_clusters_widen_the_interval(row):
    a, b = [0, 1] * 20, [1, 1] * 10 + [0, 1] * 10
    apart = Results(pair(row, a, b)).compare("a").table.iloc[0]
    made = pair(row, a, b)
    for r in made:
        r["cluster"] = f"passage {int(r['sample']) // 10}"
    together = Results(made).compare("a").table.iloc[0]
    assert together["high"] - together["low"] > apart["high"] - apart["low"]


@pytest.mark.parametrize(("column", "told"), [("protocol", "by other"), ("benchmark_version", "version other")])
def test_different_protocols_or_versions_are_not_compared_unless_asked(row, column, told):
    made = pair(row, [0, 0, 1], [1, 1, 1])
    for r in made[3:]:
        r[column] = "other"
    with pytest.raises(DataError, match=f"{told}.*protocols='any'"):
        Results(made).compare("a")
    table = Results(made).compare("a", protocols="any").table
    assert table.loc[0, "n"] == 3
    assert table.loc[0, column] in ("other vs loglikelihood", "other vs 1")


def test_what_cannot_be_compared_is_noted_beside_what_can(row):
    made = [*pair(row, [0, 1], [1, 1]), row(model="c", sample="0", protocol="letter")]
    comparison = Results(made).compare("a")
    assert list(comparison.table["model"]) == ["b"]
    assert comparison.notes[0].startswith("c is not compared with a on micro/arc: they were asked differently")
    assert comparison.notes[0] in repr(comparison)


def test_each_common_protocol_is_compared_by_itself(row):
    made = pair(row, [0, 1], [1, 1]) + pair(row, [1, 1], [0, 0], protocol="letter")
    table = Results(made).compare("a").table
    assert dict(zip(table["protocol"], table["difference"], strict=True)) == {"loglikelihood": 0.5, "letter": -1.0}


def test_models_without_a_common_item_are_refused(row):
    with pytest.raises(DataError, match="no scored item in common"):
        Results([row(model="a", sample="1"), row(model="b", sample="2")]).compare("a")
    with pytest.raises(DataError, match="no scored answers"):
        Results([row(model="a", sample="1"), row(model="b", sample="1", score=math.nan)]).compare("a")


def test_an_unknown_baseline_is_refused_with_a_guess(row):
    with pytest.raises(UnknownName, match=r"No model in these results 'micro/bsae'\. Did you mean 'micro/base'"):
        Results([row()]).compare("micro/bsae")


def test_an_unknown_way_to_treat_protocols_is_refused(row):
    with pytest.raises(UnknownName, match="Known: any, same"):
        Results(pair(row, [0], [1])).compare("a", protocols="all")


def test_a_single_model_has_nothing_to_be_compared_with(row):
    with pytest.raises(DataError, match="no other model"):
        Results([row()]).compare("micro/base")


def test_a_comparison_shows_itself(rows):
    comparison = Results(rows({"a": 0.2, "b": 0.8})).compare("a")
    assert repr(comparison).startswith(
        "Comparison with a, paired by item, 95 % intervals; p after Holm over 1 comparison\n"
    )
    assert "better" in comparison._repr_html_()
    assert len(comparison) == 1


def test_equal_models_are_told_apart_at_most_at_the_stated_rate(rows):
    # three comparisons against one baseline, all the same model: together at most 5 % of the tables claim anything
    wrong = 0
    for seed in range(25):
        table = Results(rows(dict.fromkeys("abcd", 0.5), n=60, seed=seed)).compare("a").table
        wrong += (table["p_holm"] < 0.05).any()
    assert wrong <= 3


def test_title_names_the_leader_only_when_it_is_shown(rows):
    assert Results(rows({"a": 0.2, "b": 0.8})).finding() == "b leads on micro/arc"
    assert Results(rows({"a": 0.5, "b": 0.51}, n=20)).finding() == "No model is shown to lead on micro/arc"
    three = Results(rows({"a": 0.1, "b": 0.8, "c": 0.82}, n=60))
    assert three.finding() == "c and b lead on micro/arc; no difference is shown between them"


def test_title_counts_over_several_benchmarks(rows):
    clear = rows({"a": 0.2, "b": 0.8})
    assert Results(clear + rows({"a": 0.1, "b": 0.9}, benchmark="y")).finding() == "b leads on both benchmarks"
    mixed = clear + rows({"a": 0.9, "b": 0.1}, benchmark="y") + rows({"a": 0.5, "b": 0.5}, benchmark="z")
    assert Results(mixed).finding() == "a leads on 1 and b leads on 1 of 3 benchmarks; 1 undecided"


def test_title_for_one_model_is_about_chance(rows):
    assert Results(rows({"a": 0.9})).finding() == "a is above chance on micro/arc"
    assert Results(rows({"a": 0.25})).finding() == "a is not shown to be above chance on micro/arc"


def test_title_without_scores(failed):
    assert Results([failed()]).finding() == "No answer has a score"
    assert Results([]).finding() == "No answer has a score"
