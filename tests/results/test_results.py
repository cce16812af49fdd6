"""Results show, filter, join and open themselves."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from llmlab.errors import DataError, UnknownName
from llmlab.results import Results


def test_names_are_in_the_order_of_the_rows(row):
    results = Results([row(model="b"), row(model="a", benchmark="x"), row(model="b", benchmark="x")])
    assert results.models == ["b", "a"]
    assert results.benchmarks == ["micro/arc", "x"]
    assert len(results) == 3


def test_importing_results_loads_no_pandas_or_matplotlib():
    code = "import sys, llmlab.results; print({'pandas', 'matplotlib', 'scipy', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- text and HTML --------------------------------------------------------------------------------------------


def test_repr_is_a_table_with_n_interval_and_cost(results):
    text = repr(results({"a": 0.5, "b": 0.7}))
    assert text.startswith("Results: 2 models, 1 benchmark, 200 answers\n")
    header, first = text.splitlines()[1:3]
    assert header.replace("  ", " ").split()[:5] == ["model", "benchmark", "protocol", "n", "score"]
    assert header.endswith("cost  per 1000  seconds")
    assert first.startswith("a      micro/arc  loglikelihood  100  ")
    assert "unpriced" not in text


def test_repr_says_unpriced_and_not_zero(row):
    assert "unpriced" in repr(Results([row(cost=None)]))
    assert "$0 " in repr(Results([row(cost=0.0)]))


def test_repr_of_nothing_and_of_a_stopped_run(row):
    assert repr(Results([])) == "Results: 0 models, 0 benchmarks, 0 answers"
    assert "(budget)" in repr(Results([row()], status="budget"))


def test_a_counter_above_two_per_cent_is_a_warning(row):
    made = [row(sample=str(i), truncated=i < 3, score=float(i >= 3), parsed=i >= 3) for i in range(100)]
    text = repr(Results(made))
    assert "! micro/base on micro/arc, of 100 answers: 3 cut off at the token limit, 3 unreadable" in text
    assert "the score would be 97.0 %; all right, 100.0 %" in text
    assert "!" not in repr(Results(made[2:]))  # 1 of 98


def test_refusals_alone_are_named_as_answers(row):
    made = [row(sample=str(i), refused=i < 5) for i in range(20)]
    assert "5 refused (which is scored as an answer)" in repr(Results(made))
    assert "had all lost" not in repr(Results(made)).lower()


def test_html_holds_the_same_table(results):
    html = results({"a": 0.5})._repr_html_()
    assert "<caption>1 model, 1 benchmark, 100 answers</caption>" in html
    assert '<th scope="row">a</th>' in html


def test_names_cannot_break_the_page_or_the_terminal(row):
    results = Results([row(model="<img src=x onerror=alert(1)>", benchmark="b\x1b[31m")])
    html = results._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html
    assert "\x1b" not in repr(results)
    assert "\x1b" not in html


# -- filter and join ------------------------------------------------------------------------------------------


def test_filter_keeps_what_fits(results):
    both = results({"a": 0.5, "b": 0.7})
    assert both.filter(model="a").models == ["a"]
    assert len(both.filter(model=["a", "b"], sample="item-3")) == 2


def test_filter_refuses_what_is_not_there(results):
    one = results({"a": 0.5}, n=3)
    with pytest.raises(UnknownName, match=r"No column 'modl'. Did you mean 'model'"):
        one.filter(modl="a")
    with pytest.raises(UnknownName, match=r"No model in these results 'c'.*Known: a"):
        one.filter(model="c")


def test_joining_keeps_all_rows_and_drops_doubles(row):
    first, second = Results([row(sample="1"), row(sample="2")]), Results([row(sample="2"), row(sample="3")])
    assert len(first + second) == 3
    assert (first + second).summary().loc[0, "n"] == 3


def test_answers_of_another_run_count_as_repeats(row):
    joined = Results([row(score=1.0)]) + Results([row(score=0.0, run="run-2")])
    assert joined.summary().loc[0, ["n", "score", "answers"]].tolist() == [1, 0.5, 2]


def test_joining_with_nothing_changes_nothing(row):
    one = Results([row()])
    assert len(one + Results([])) == len(Results([]) + one) == 1
    assert len(Results([]) + Results([])) == 0


def test_joining_keeps_the_status_when_it_is_the_same(row):
    assert (Results([row()]) + Results([row(sample="2")], status="budget")).status == "mixed"
    with pytest.raises(TypeError):
        Results([row()]) + 1


# -- failures -------------------------------------------------------------------------------------------------


def test_failures_say_why_and_put_failed_calls_first(row, failed):
    results = Results(
        [
            row(sample="right"),
            row(sample="wrong", score=0.0),
            row(sample="cut", truncated=True, parsed=False, score=0.0),
            failed(sample="lost"),
        ]
    )
    table = results.failures()
    assert dict(zip(table["sample"], table["why"], strict=True)) == {
        "lost": "failed",
        "cut": "truncated",
        "wrong": "wrong",
    }
    assert table["why"].tolist() == ["failed", "truncated", "wrong"]
    assert results.failures("wrong")["sample"].tolist() == ["wrong"]
    assert len(results.failures("empty")) == 0


def test_no_failures_are_an_empty_table(row):
    assert len(Results([row()]).failures()) == 0
    assert len(Results([]).failures()) == 0


def test_an_unknown_kind_of_failure_is_refused(row):
    with pytest.raises(UnknownName, match=r"'trunc'.*Known: empty, failed"):
        Results([row()]).failures("trunc")


# -- one item -------------------------------------------------------------------------------------------------


def test_show_gives_prompt_target_and_every_answer(row, failed):
    made = [
        row(model="a", explanation="contains 'ball'"),
        row(model="b", text="a box", answer="a box", score=0.0),
        failed(model="c"),
    ]
    page = Results(made).show("item-0")
    text = repr(page)
    assert "    Question: What is round?\n    Answer:" in text
    assert text.count("Question: What is round?") == 1
    assert "Target: a ball" in text
    assert "a (right · by loglikelihood" in text
    assert "why: contains 'ball'" in text
    assert "b (wrong" in text
    assert "c (failed" in text
    assert "error: 429 Too Many Requests" in text
    assert "<h2>micro/arc · item-0</h2>" in page._repr_html_()


def test_show_takes_an_id_its_beginning_or_a_position(row):
    results = Results([row(sample="abc"), row(sample="xyz")])
    assert results.show("x").title == results.show(1).title == results.show(-1).title == "micro/arc: xyz"


def test_an_id_that_is_a_number_wins_over_the_position(row):
    results = Results([row(sample="1"), row(sample="0")])
    assert results.show(0).title == "micro/arc: 0"


def test_show_refuses_what_is_not_there_or_not_unique(row):
    results = Results([row(sample="abc"), row(sample="abd"), row(sample="abc", benchmark="other")])
    with pytest.raises(UnknownName, match=r"No item 'abx'"):
        results.show("abx")
    with pytest.raises(UnknownName, match="there are 3"):
        results.show(7)
    with pytest.raises(DataError, match="'abc' fits 2 items: abc"):
        results.show("abc")
    with pytest.raises(DataError, match="fits 3 items"):
        results.show("ab")
    assert results.show("abc", benchmark="other").title == "other: abc"
    with pytest.raises(UnknownName, match=r"No benchmark in these results 'othr'"):
        results.show("abc", benchmark="othr")


def test_show_gives_both_prompts_where_models_were_asked_differently(row):
    page = Results([row(model="a"), row(model="b", prompt="Pick A or B.", protocol="letter")]).show("item-0")
    assert repr(page).count("Prompt\n") == 2


def test_what_a_model_wrote_cannot_act(row):
    attack = "<script>alert(1)</script>\x1b[2J<a href='javascript:alert(1)'>"
    page = Results([row(text=attack, prompt=attack, target=attack, explanation=attack, notes=attack)]).show("item-0")
    assert "<script" not in page._repr_html_()
    assert "<a href" not in page._repr_html_()
    assert "\x1b" not in repr(page) + page._repr_html_()
    assert "<script>alert(1)</script>" in repr(page)


def test_browse_lists_every_answer_and_saves_itself(results, tmp_path):
    page = results({"a": 0.5, "b": 0.5}, n=7).browse()
    assert page._repr_html_().count('<th scope="row">') == 14
    saved = page.save(tmp_path / "new" / "page.html")
    assert saved.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(repr(page).splitlines()) == 15


# -- plots ----------------------------------------------------------------------------------------------------


def test_plot_has_the_finding_as_its_title(results):
    ax = results({"a": 0.2, "b": 0.8}).plot()
    assert ax.get_title(loc="left") == "b leads on micro/arc"


def test_comparison_plots_itself(results):
    ax = results({"a": 0.2, "b": 0.8}).compare("a").plot()
    assert ax.get_title(loc="left").startswith("b is better than a by")


def test_frontier_needs_one_benchmark(rows):
    both = Results(rows({"a": 0.5, "b": 0.6}) + rows({"a": 0.5, "b": 0.6}, benchmark="y"))
    with pytest.raises(DataError, match="choose with benchmark="):
        both.frontier()
    assert both.frontier("y").get_ylabel() == "score, %"


# -- cost -----------------------------------------------------------------------------------------------------


def test_cost_per_right_answer_and_tokens(row, failed):
    made = [row(sample="1", cost=0.002), row(sample="2", cost=0.004, score=0.0), failed(sample="3")]
    line = Results(made).cost().iloc[0]
    assert line["answers"] == 2
    assert line["per_1000"] == pytest.approx(3.0)
    assert line["per_right"] == pytest.approx(0.006)
    assert (line["input_tokens"], line["output_tokens"]) == (40, 10)
    assert line["per_1000_low"] <= line["per_1000"] <= line["per_1000_high"]


def test_answers_that_cost_nothing_cost_nothing_for_sure(row):
    line = Results([row(sample=str(i), cost=0.0) for i in range(3)]).cost().iloc[0]
    assert (line["per_1000_low"], line["per_1000"], line["per_1000_high"]) == (0, 0, 0)


def test_cost_of_no_right_answer_is_unknown(row):
    assert math.isnan(Results([row(score=0.0)]).cost().loc[0, "per_right"])


def test_an_unknown_token_count_makes_the_sum_unknown(row):
    import pandas as pd

    assert pd.isna(Results([row(sample="1"), row(sample="2", input_tokens=None)]).cost().loc[0, "input_tokens"])


def test_cheapest_takes_the_cheap_model_when_it_is_shown_to_be_good_enough(rows):
    made = rows({"cheap": 0.7, "dear": 0.7}, n=400)
    for r in made:
        r["score"] = float(int(r["sample"].split("-")[1]) % 10 < 7)
    choice = Results(made).cheapest(within=0.02)
    assert (choice.model, choice.shown) == ("cheap", True)
    assert "within 2 points" in str(choice)


def test_cheapest_says_when_n_is_too_small_to_show_it(rows):
    made = rows({"cheap": 0.7, "dear": 0.72}, n=30)
    for r in made:
        r["score"] = float(int(r["sample"].split("-")[1]) < (20 if r["model"] == "cheap" else 21))
    choice = Results(made).cheapest(within=0.10)
    assert choice.model == "cheap"
    assert not choice.shown
    assert "n is too small to show it" in str(choice)


def test_cheapest_never_takes_a_clearly_worse_model(rows):
    choice = Results(rows({"cheap": 0.2, "dear": 0.9})).cheapest(within=0.02)
    assert choice.model == "dear"
    assert "nothing cheaper" in str(choice)


def test_cheapest_without_prices_names_no_model(rows):
    made = [r | {"cost": None} for r in rows({"a": 0.5})]
    choice = Results(made).cheapest()
    assert choice.model is None
    assert "No model has a known price" in str(choice)


def test_cheapest_refuses_a_share_that_cannot_be(results):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        results({"a": 0.5}, n=3).cheapest(within=2)


def test_cost_without_any_score_is_refused(failed):
    with pytest.raises(DataError, match="no answer has a score"):
        Results([failed()]).frontier()
