"""What every scorer promises."""

import json
import math
import pickle
import time
from dataclasses import replace

import pytest

from llmlab import scorers
from llmlab.scorers.registry import table
from llmlab.types import Sample, Score
from tests.contract.scorers import CASES, Case

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
IN_PROCESS = {name: case for name, case in CASES.items() if name != "code"}
QUICK = pytest.mark.parametrize("case", IN_PROCESS.values(), ids=IN_PROCESS)
ODD = ["", " \n\t", "\x00", "🦆" * 50, "ÅÅ ﬁ ½ ٣", "-" * 5000, "A", "1/0", "{" * 3000, "NaN", "\ud800"]


WITH_FILES = {"hf_evaluate", "similarity"}
"""Their tests write a metric script and an encoder first: tests/scorers/test_hub.py, test_embedding.py."""
HOLD_A_MODEL = {"judge", "jury", "pairwise"}
"""A model has connections or weights, and does not pickle."""


def valid(score: Score) -> bool:
    return isinstance(score.value, float) and (math.isnan(score.value) or 0 <= score.value <= 1)


@EVERY
def test_right_answer_scores_one(case: Case) -> None:
    assert case.scorer(case.right, case.sample).value == pytest.approx(1.0)


@EVERY
def test_wrong_answer_scores_zero(case: Case) -> None:
    assert case.scorer(case.wrong, case.sample).value == 0.0


@EVERY
def test_verdict_comes_with_evidence(case: Case) -> None:
    for text in (case.right, case.wrong):
        score = case.scorer(text, case.sample)
        assert score.explanation
        assert len(score.explanation) < 2000
    assert case.scorer(case.right, case.sample).parsed


@QUICK
@pytest.mark.parametrize("text", ODD, ids=[ascii(t[:8]) for t in ODD])
def test_odd_text_gets_a_valid_verdict(case: Case, text: str) -> None:
    score = case.scorer(text, case.sample)
    assert valid(score)


@QUICK
def test_huge_text_is_judged_quickly(case: Case) -> None:
    started = time.process_time()
    assert valid(case.scorer("so it goes, 1 and on " * 2_500, case.sample))
    assert time.process_time() - started < 5


@EVERY
def test_same_answer_gets_the_same_verdict(case: Case) -> None:
    assert case.scorer(case.right, case.sample) == case.scorer(case.right, case.sample)


@EVERY
def test_without_a_target_nothing_is_judged(case: Case) -> None:
    if case.needs_target:
        score = case.scorer(case.right, replace(case.sample, target=None))
        assert math.isnan(score.value)
        assert score.explanation


@EVERY
def test_identity_is_data_and_tells_settings_apart(case: Case) -> None:
    identity = case.scorer.identity()  # type: ignore[attr-defined]
    assert identity == case.scorer.identity()  # type: ignore[attr-defined]
    assert json.loads(json.dumps(identity)) == identity
    others = [other.scorer.identity() for other in CASES.values() if other is not case]  # type: ignore[attr-defined]
    assert identity not in others


@EVERY
def test_scorer_has_a_name(case: Case) -> None:
    assert str(case.scorer)


@pytest.mark.parametrize("name", [name for name in CASES if name not in HOLD_A_MODEL])
def test_scorer_survives_pickling(name: str) -> None:
    scorer = CASES[name].scorer
    twin = pickle.loads(pickle.dumps(scorer))
    assert twin == scorer
    assert twin.identity() == scorer.identity()  # type: ignore[attr-defined]


def test_every_scorer_of_the_table_is_held_to_the_contract() -> None:
    held = {name.partition("-")[0].removesuffix("_") for name in CASES}
    assert {name.removesuffix("_") for name in table()} <= held | WITH_FILES


def test_a_plain_function_is_a_scorer_too() -> None:
    def loud(text: str, sample: Sample) -> Score:
        return Score(float(text.isupper()))

    assert scorers.parse(loud) is loud
    assert scorers.not_(loud)("HI", Sample("?")).value == 0.0
