import math

import pytest
import sacrebleu
from rouge_score import rouge_scorer

from llmlab import scorers
from llmlab.errors import DataError
from llmlab.scorers.overlap import bleu_score, chrf_score, rouge_scores
from llmlab.types import Sample, Score

HYPOTHESIS, REFERENCE = "the cat sat on the mat today", "the cat is on the mat"


def test_overlap_is_that_of_the_reference_packages() -> None:
    expected = sacrebleu.sentence_bleu(HYPOTHESIS, [REFERENCE], tokenize="intl").score
    assert bleu_score(HYPOTHESIS, REFERENCE, effective_order=True) == pytest.approx(expected)
    assert chrf_score(HYPOTHESIS, REFERENCE) == pytest.approx(sacrebleu.sentence_chrf(HYPOTHESIS, [REFERENCE]).score)
    rouge = rouge_scorer.RougeScorer(["rougeL"]).score(REFERENCE, HYPOTHESIS)["rougeL"].fmeasure
    assert rouge_scores(HYPOTHESIS, REFERENCE)["rougeL"] == pytest.approx(100 * rouge)


def test_rouge_of_a_case_worked_out_by_hand() -> None:
    # 5 of 7 words in common order, of 6 in the reference: the cat on the mat
    assert rouge_scores(HYPOTHESIS, REFERENCE)["rougeL"] == pytest.approx(100 * 2 * 5 / (7 + 6))


def test_nearest_of_several_targets_counts() -> None:
    sample = Sample("?", ("something else entirely", "the cat sat"))
    assert scorers.rouge("rouge1")("the cat sat", sample).value == pytest.approx(1.0)


def test_short_text_reaches_one_only_with_effective_order() -> None:
    assert bleu_score("the cat", "the cat", effective_order=True) == 100
    assert bleu_score("the cat", "the cat") < 100


def test_unknown_kind_of_rouge_is_refused() -> None:
    with pytest.raises(DataError, match="possible: rouge1, rouge2, rougeL, rougeLsum"):
        scorers.rouge("rouge9")  # type: ignore[arg-type]


def test_json_schema_says_where_it_fails() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "array", "items": {"type": "integer"}}}}
    score = scorers.json(schema)('{"n": [1, "two"]}', Sample("?"))
    assert score.value == 0.0
    assert score.explanation == "at $['n'][1]: 'two' is not of type 'integer'"
    assert score.parsed


def test_json_schema_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="not a JSON Schema"):
        scorers.json({"type": "thing"})


def test_text_around_json_is_not_json() -> None:
    assert not scorers.json()('Here you are: {"a": 1}', Sample("?")).parsed


def unknown(text: str, sample: Sample) -> Score:
    return Score(math.nan)


def test_what_cannot_be_judged_stays_so_in_combinations() -> None:
    sample, yes, no = Sample("?"), scorers.contains("a"), scorers.contains("z")
    assert math.isnan(scorers.not_(unknown)("a", sample).value)
    assert math.isnan(scorers.all_of(unknown, yes)("a", sample).value)
    assert scorers.all_of(unknown, no)("a", sample).value == 0.0
    assert scorers.any_of(unknown, yes)("a", sample).value == 1.0
    assert math.isnan(scorers.any_of(unknown, no)("a", sample).value)


def test_parts_of_a_combination_are_kept() -> None:
    score = scorers.weighted((scorers.contains("a"), 3), (scorers.contains("z"), 1))("a", Sample("?"))
    assert score.value == 0.75
    assert score.metrics == {"1:contains": 1.0, "2:contains": 0.0}


def test_combinations_need_parts_and_weights() -> None:
    with pytest.raises(DataError, match="at least one scorer"):
        scorers.all_of()
    with pytest.raises(DataError, match="not negative and not all 0"):
        scorers.weighted((scorers.exact(), 0))


@pytest.mark.parametrize(("result", "message"), [("yes", "a Score, a number or a bool"), (2.0, "from 0 to 1")])
def test_function_that_returns_something_else_is_an_error(result: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scorers.custom(lambda text: result)("a", Sample("?"))


def test_identity_of_a_function_follows_its_code_and_what_it_closes_over() -> None:
    def longer(n: int) -> scorers.combine.Custom:  # type: ignore[name-defined]
        return scorers.custom(lambda text: len(text) > n)

    assert longer(3).identity() == longer(3).identity()
    assert longer(3).identity() != longer(4).identity()
