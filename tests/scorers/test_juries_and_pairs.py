"""Several judges; two answers in both orders; a scorer against people."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from llmlab.agreement import alpha
from llmlab.errors import BudgetExceeded, DataError, ProviderError
from llmlab.ledger import Ledger
from llmlab.models.scripted import Scripted
from llmlab.scorers.calibrate import Labelled, calibration
from llmlab.scorers.juries import jury
from llmlab.scorers.pairs import pairwise
from llmlab.scorers.words import exact
from llmlab.types import Request, Sample

CAPITAL = Sample("Capital of France?", "Paris", id="capital")


def says(verdict: str, name: str) -> Scripted:
    return Scripted(f"Because.\nVerdict: {verdict}", name)


def first_and_second(prompt: str) -> tuple[str, str]:
    found = [
        re.findall(rf"<<{place} answer \w+>>\n(.*?)\n<<end", prompt, re.DOTALL)[0] for place in ("first", "second")
    ]
    return found[0], found[1]


def longer(request: Request) -> str:
    """A judge who likes length, wherever it stands."""
    first, second = first_and_second(request.prompt)
    return f"Longer.\nVerdict: {'first' if len(first) > len(second) else 'second'}"


# -- jury -------------------------------------------------------------------------------------------------------


def test_mean_and_majority_of_the_judges() -> None:
    judges = [says("5", "scripted/a"), says("4", "scripted/b"), says("1", "scripted/c")]
    mean = jury(judges, "helpfulness")("Paris", CAPITAL)
    assert mean.value == pytest.approx((1 + 0.75 + 0) / 3)
    assert mean.metrics["judge:scripted/b"] == 0.75 and mean.metrics["agreement"] == 0.0
    judges[1] = says("1", "scripted/b")
    score = jury(judges, "helpfulness", how="majority")("Paris", CAPITAL)
    assert score.value == 0.0 and score.metrics["agreement"] == pytest.approx(1 / 3)


def test_a_tied_majority_is_the_mean_of_the_tied() -> None:
    judges = [says("correct", "scripted/a"), says("incorrect", "scripted/b")]
    assert jury(judges, how="majority")("Paris", CAPITAL).value == 0.5


def test_an_unreadable_or_failing_judge_has_no_vote() -> None:
    judges = [says("correct", "a"), Scripted("Hm.", "b"), Scripted([ProviderError("down")], "c")]
    score = jury(judges)("Paris", CAPITAL)
    assert (score.value, score.parsed) == (1.0, True)
    assert math.isnan(score.metrics["judge:b"]) and math.isnan(score.metrics["judge:c"])
    assert "down" in (score.explanation or "")
    silent = jury(judges[1:])("Paris", CAPITAL)
    assert math.isnan(silent.value)


def test_when_every_judge_fails_the_failure_is_raised_and_a_budget_always_is() -> None:
    failing = [Scripted([ProviderError("down")], "a"), Scripted([ProviderError("down too")], "b")]
    with pytest.raises(ProviderError, match="down"):
        jury(failing)("Paris", CAPITAL)
    dear = [Scripted("Verdict: correct", "a", cost=1.0), Scripted("Verdict: correct", "b", cost=1.0)]
    with Ledger(budget=1.5), pytest.raises(BudgetExceeded):
        jury(dear)("Paris", CAPITAL)


def test_agreement_over_answers_is_krippendorffs_alpha() -> None:
    def strict(request: Request) -> str:
        return f"Verdict: {'correct' if 'Paris' in request.prompt.split('<<answer')[1] else 'incorrect'}"

    def lenient(request: Request) -> str:
        answer = request.prompt.split("<<answer")[1].split("<<end")[0][20:]
        return f"Verdict: {'correct' if 'a' in answer else 'incorrect'}"

    panel = jury([Scripted(strict, "strict"), Scripted(lenient, "lenient")], how="majority")
    answers = ["Paris", "Milan", "Rome", "Paris!", "Bonn", "Oslo", "Malta", "Paris."]
    scores = [panel(a, CAPITAL) for a in answers]
    table = np.array([[s.metrics[label] for label in panel.labels()] for s in scores])
    found = panel.agreement(s.metrics for s in scores)
    assert 0 < found.value < 1
    assert found.value == alpha(table, "nominal").value
    assert found.n == len(answers) and found.low < found.value < found.high


def test_judges_of_the_same_name_stay_apart_and_one_is_no_jury() -> None:
    assert jury([says("correct", "a"), says("correct", "a")]).labels() == ["judge:a (1)", "judge:a (2)"]
    with pytest.raises(DataError, match="at least two"):
        jury([says("correct", "a")])
    with pytest.raises(DataError, match="'median'"):
        jury([says("correct", "a"), exact()], how="median")  # type: ignore[arg-type]


# -- pairwise ---------------------------------------------------------------------------------------------------


def test_a_win_needs_both_orders() -> None:
    compare = pairwise(Scripted(longer), {"capital": "Rome"})
    assert compare("It is Paris.", CAPITAL).value == 1.0
    assert compare("Oh", CAPITAL).value == 0.0
    assert compare("It is Paris.", CAPITAL).metrics == {"consistent": 1.0}


@pytest.mark.parametrize("favourite", ["first", "second"])
def test_a_judge_who_goes_by_place_only_makes_ties(favourite: str) -> None:
    model = Scripted(f"Verdict: {favourite}")
    score = pairwise(model, {"capital": "Rome"})("Paris", CAPITAL)
    assert (score.value, score.answer, model.calls) == (0.5, "tie", 2)
    assert score.metrics == {"consistent": 0.0} and "changes with the order" in (score.explanation or "")


def test_a_tie_in_one_order_only_is_a_tie() -> None:
    score = pairwise(Scripted(["Verdict: first", "Verdict: tie"]), {"capital": "Rome"})("Paris", CAPITAL)
    assert (score.value, score.metrics["consistent"]) == (0.5, 0.0)


def test_the_mean_is_the_win_rate() -> None:
    compare = pairwise(Scripted(longer), lambda sample: "12345")
    answers = ["123456", "1234567", "12345", "1"]
    values = [compare(a, CAPITAL).value for a in answers]
    assert np.mean(values) == (2 + 1 / 2) / 4


def test_the_same_answer_is_a_tie_without_a_call_and_an_unreadable_verdict_is_unknown() -> None:
    model = Scripted(["Verdict: first", "Hm."])
    compare = pairwise(model, {"capital": "Rome"})
    assert compare("Rome\n", CAPITAL).value == 0.5 and model.calls == 0
    score = compare("Paris", CAPITAL)
    assert math.isnan(score.value) and not score.parsed


def test_a_model_as_baseline_is_asked_once_per_sample() -> None:
    baseline = Scripted("Rome")
    compare = pairwise(Scripted(longer), baseline)
    for answer in ("Paris it is", "Paris, surely"):
        assert compare(answer, CAPITAL).value == 1.0
    assert baseline.calls == 1
    with pytest.raises(DataError, match="no answer to sample 'other'"):
        pairwise(Scripted(longer), {"capital": "Rome"})("Paris", Sample("?", id="other"))


# -- calibration ------------------------------------------------------------------------------------------------


def labelled() -> list[Labelled]:
    good, bad = Sample("?", "yes", id="s"), Sample("?", "no", id="t")
    # exact() says 1 1 1 0 0 0; people say 1 1 0 0 0 1
    return [
        *(Labelled("yes", good, label) for label in (1, 1, 0)),
        *(Labelled("yes", bad, label) for label in (0, 0, 1)),
    ]


def test_calibration_against_human_labels() -> None:
    found = calibration(exact(), labelled())
    assert found.accuracy.value == pytest.approx(4 / 6)
    assert found.kappa.value == pytest.approx(1 / 3) and found.kappa.low < 1 / 3 < found.kappa.high
    assert found.confusion.loc[1.0, 0.0] == 1 and found.confusion.to_numpy().sum() == 6
    assert (found.bias.value, found.n, found.unjudged) == (0.0, 6, 0)


def test_a_lenient_judge_has_a_positive_bias_and_unreadable_verdicts_are_counted() -> None:
    from llmlab.scorers.judges import judge

    replies = Scripted(["Verdict: correct"] * 5 + ["Hm."])
    found = calibration(judge(replies), labelled())
    assert found.bias.value == pytest.approx(3 / 5)  # people call 2 of these 5 right
    assert (found.n, found.unjudged) == (5, 1)
    assert "1 not judged" in repr(found) and "confusion" not in repr(found)
    assert math.isnan(calibration(judge(Scripted("Hm.")), labelled()).accuracy.value)


def test_graded_labels_use_the_nearest_level() -> None:
    from llmlab.scorers.judges import judge

    items = [("text", Sample("?", id=str(i)), label) for i, label in enumerate([0.0, 0.5, 1.0, 1.0])]
    grader = judge(Scripted(["Verdict: 1", "Verdict: 4", "Verdict: 5", "Verdict: 3"]), "helpfulness")
    found = calibration(grader, items)
    assert found.confusion.loc[0.5, 1.0] == 1  # 0.75 lies between two levels and is taken up
    assert found.accuracy.value == 0.5 and found.kappa.method.startswith("quadratic")
    with pytest.raises(DataError, match="from 0 to 1, got 7"):
        calibration(grader, [("text", Sample("?"), 7)])
