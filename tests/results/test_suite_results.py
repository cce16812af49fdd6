"""What a suite's results say: consistency, coverage, differences, and what is required of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.errors import DataError, LabError, RequirementFailed, UnknownName
from llmlab.results import Results
from llmlab.results.words import difference, marked, words

mpl.use("agg")


def row(sample: str, score: float, model: str = "a", repeat: int = 0, **more: Any) -> dict[str, Any]:
    text = more.pop("text", f"said {score:g}")
    fixed = {"benchmark": "suite", "protocol": "generate", "prompt": f"question {sample}", "cost": 0.01, "seconds": 0.5}
    return {**fixed, "model": model, "sample": sample, "repeat": repeat, "score": score, "text": text, **more}


def results(*scores: float, model: str = "a", **more: Any) -> Results:
    return Results([row(f"i{i}", score, model, **more) for i, score in enumerate(scores)])


# -- consistency --------------------------------------------------------------------------------------------------


def test_agreement_of_repeats_is_over_pairs_within_an_item() -> None:
    found = Results(
        [row("x", s, repeat=i) for i, s in enumerate((1, 1, 0))] + [row("y", 1, repeat=i) for i in range(3)]
    ).consistency()
    line = found.repeats.iloc[0]
    assert (line["n"], line["answers"]) == (2, 3)
    assert line["same_verdict"] == pytest.approx((1 / 3 + 1) / 2)
    assert line["flaky"] == 0.5 and line["flaky_low"] < 0.5 < line["flaky_high"]
    assert "50.0 %" in repr(found) and "flaky" in found._repr_html_()


def test_items_asked_once_do_not_count_between_repeats() -> None:
    found = Results([row("x", 1), row("y", 1), row("y", 0, repeat=1)]).consistency()
    assert found.repeats["n"].tolist() == [1]


def test_agreement_of_models_is_on_the_items_of_both() -> None:
    both = results(1, 0, 1, 1) + results(1, 1, 1, model="b")
    line = both.consistency().models.iloc[0]
    assert (line["a"], line["b"], line["n"]) == ("a", "b", 3)
    assert line["same_verdict"] == pytest.approx(2 / 3)
    assert line["by_chance"] == pytest.approx(2 / 3)


def test_models_that_wrote_nothing_do_not_agree_in_their_words() -> None:
    silent = {"protocol": "loglikelihood", "text": ""}
    found = Results([row("x", 1, m, **silent) for m in "ab"]).consistency()
    assert math.isnan(found.models["same_text"].iloc[0]) and found.models["same_verdict"].iloc[0] == 1
    assert repr(found).splitlines()[-1].endswith("–")


def test_failed_answers_agree_with_nothing() -> None:
    rows = [row("x", 1), row("x", math.nan, repeat=1, error="timeout"), row("x", 1, repeat=2)]
    assert Results(rows).consistency().repeats["answers"].tolist() == [2]


def test_one_answer_each_is_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="ask again with repeats=5, or ask a second model"):
        results(1, 0).consistency()


# -- coverage -----------------------------------------------------------------------------------------------------


def test_coverage_counts_items_by_tag_and_model_and_shows_gaps() -> None:
    found = Results(
        [
            *(row("x", 1, tags="facts,short"), row("y", 0, tags="facts"), row("z", 1)),
            *(row("x", 1, "b", tags="facts,short"), row("y", math.nan, "b", tags="facts", error="timeout")),
        ]
    ).coverage()
    cells = {
        (t, m): (n, p) for t, m, n, p in zip(*(found.table[c] for c in ("tag", "model", "n", "passed")), strict=True)
    }
    assert cells["facts", "a"] == (2, 1) and cells["short", "a"] == (1, 1)
    assert cells["facts", "b"] == (1, 1) and cells["(no tag)", "b"] == (0, 0)
    assert found.gaps() == [("(no tag)", "b")]
    assert found.matrix().loc["facts", "b"] == "1 of 1 [20.7, 100.0], 1 without a score"
    assert "untested" in repr(found) and "untested" in found._repr_html_()
    assert found.plot().get_title(loc="left") == "1 of 6 cells untested"


def test_item_passes_from_the_threshold() -> None:
    flaky = Results([row("x", s, repeat=i, tags="t") for i, s in enumerate((1, 1, 1, 0))])
    assert flaky.coverage().table["passed"].tolist() == [0]
    assert flaky.coverage(threshold=0.75).table["passed"].tolist() == [1]
    with pytest.raises(ValueError, match=r"in \(0, 1\]; got 75"):
        flaky.coverage(threshold=75)


# -- differences --------------------------------------------------------------------------------------------------

PAIR = Results(
    [
        row("same", 1, text="It is\nfine."),
        row("words", 1, text="a red ball"),
        row("fixed", 0, text="no"),
        row("broke", 1, text="yes <b>"),
        row("lost", math.nan, error="timeout"),
        row("alone", 1),
        row("same", 1, "b", text="It is fine."),
        row("words", 1, "b", text="a blue ball"),
        row("fixed", 1, "b", text="yes"),
        row("broke", 0, "b", text="no <i>"),
        row("lost", 1, "b", text="here"),
    ]
)


def test_flipped_verdicts_come_first() -> None:
    found = PAIR.diff("a", "b")
    assert found.table["sample"].tolist() == ["broke", "fixed", "lost", "words", "same"]
    assert found.counts() == {"broke": 1, "fixed": 1, "lost": 1, "changed, right": 1, "same": 1}
    assert found.left_out == 1
    assert "1 of 5 broke and 1 were fixed: +0.0 points" in found.finding()
    assert found.only("fixed").finding() == found.finding(), "a choice of lines is no other comparison"


def test_changed_words_are_marked_in_text_and_page(tmp_path: Path) -> None:
    found = PAIR.diff("a", "b")
    assert "a [-red-] {+blue+} ball" in found.text()
    page = found.save(tmp_path / "new" / "diff.html").read_text()
    assert "<del>red </del>" in page and "<ins>blue </ins>" in page
    assert "<del>yes </del>" in page and "&lt;" in page and "<b>" not in page
    assert "<del>red </del>" in found._repr_html_()


def test_notebook_shows_the_first_and_says_how_many_more() -> None:
    many = results(*[1] * 200) + results(*[0] * 200, model="b")
    found = many.diff("a", "b")
    assert "140 answers more" in found._repr_html_() and "180 more" in found.text()
    assert len(found.only("fixed")) == 0
    with pytest.raises(UnknownName, match="Did you mean 'fixed'"):
        found.only("fixd")


def test_models_of_a_difference_are_checked() -> None:
    with pytest.raises(UnknownName, match="No model in these results 'c'"):
        PAIR.diff("a", "c")
    with pytest.raises(DataError, match="two models are compared"):
        PAIR.diff("a", "a")
    with pytest.raises(DataError, match="no item in common"):
        (results(1) + Results([row("other", 1, "b")])).diff("a", "b")


@given(st.text(max_size=60), st.text(max_size=60))
def test_both_texts_can_be_put_together_from_the_pieces(old: str, new: str) -> None:
    pieces = difference(old, new)
    assert "".join(p.old for p in pieces) == old
    assert "".join(p.new for p in pieces) == new
    assert "".join(words(old)) == old


def test_words_are_compared_without_spaces_and_letters_where_there_are_none() -> None:
    assert marked(difference("one  two", "one\ntwo")) == "one\ntwo"
    assert marked(difference("東京です。", "京都です。")) == "[-東-]京{+都+}です。"
    assert marked(difference("is 42.", "is 43.")) == "is [-42-]{+43+}."


# -- requirements -------------------------------------------------------------------------------------------------


def test_a_met_requirement_says_what_it_would_take_to_show_it() -> None:
    found = results(*[1] * 20).require(rate=0.95)
    assert found.met and found.table["verdict"].tolist() == ["met, not shown"]
    assert "73 items, all passed, would show it" in repr(found)
    assert results(*[1] * 73).require(rate=0.95, evidence="shown").met
    with pytest.raises(RequirementFailed, match="met, not shown"):
        results(*[1] * 72).require(rate=0.95, evidence="shown")


def test_a_missed_requirement_raises_with_the_evidence() -> None:
    with pytest.raises(RequirementFailed) as caught:
        results(*[1] * 50, *[0] * 50).require(rate=0.9)
    said = str(caught.value)
    assert said.startswith("NOT MET: a on suite passes 50.0 % [40.4 %, 59.6 %], required at least 90.0 % (n = 100;")
    assert "shown missed" in said and "a · i50: 'said 0'" in said and "and 47 more" in said
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, LabError)


def test_few_items_do_not_refute() -> None:
    few = results(1, 1, 1, 1, 0)
    with pytest.raises(RequirementFailed, match="missed, not shown"):
        few.require(rate=0.9)
    assert few.require(rate=0.9, evidence="not refuted").met


def test_lost_answers_are_not_passed_over() -> None:
    lossy = Results([row("x", 1), row("y", math.nan, error="timeout")])
    with pytest.raises(RequirementFailed, match=r"loses answers: 50.0 %.*\n.*'timeout'"):
        lossy.require(rate=0.9)
    assert lossy.require(rate=0.9, max_failed=0.5).met


def test_cost_and_seconds_are_required_of_each_model() -> None:
    two = results(1, 1, 1) + results(1, 1, 1, model="b", cost=0.05)
    assert two.require(max_cost=0.06, max_seconds=1).met
    with pytest.raises(RequirementFailed, match=r"^NOT MET: b on suite costs per answer \$0.050 "):
        two.require(max_cost=0.02)
    assert two.filter(model="a").require(max_cost=0.02).met
    with pytest.raises(RequirementFailed, match="costs per answer unpriced"):
        results(1, cost=math.nan).require(max_cost=1)


@pytest.mark.parametrize(
    "wrong", [{"rate": 95}, {"rate": math.nan}, {"max_cost": -1}, {"max_seconds": math.nan}, {"evidence": "proved"}]
)
def test_impossible_requirements_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, UnknownName), match=r"got|Known"):
        results(1).require(**wrong)
