import pytest

from llmlab import scorers
from llmlab.errors import DataError
from llmlab.scorers.base import normalise
from llmlab.types import Sample


def test_any_of_several_targets_is_right() -> None:
    sample = Sample("Colour?", ("grey", "gray"))
    assert scorers.exact()("Gray.", sample).value == 1.0
    assert scorers.contains()("It is grey", sample).value == 1.0
    assert scorers.regex()("gr[ae]y", Sample("?", "gr..a")).value == 0.0


def test_index_target_stands_for_its_option() -> None:
    assert scorers.exact()("the pear", Sample("?", 1, choices=("the plum", "the pear"))).value == 1.0


@pytest.mark.parametrize(
    ("text", "target", "equal"),
    [
        ("'Paris'", "paris", True),
        ("  New\n York ", "New York", True),
        ("ﬁve", "five", True),
        ("STRASSE", "straße", True),
        ("Paris, France", "Paris", False),
        ("C++", "C", False),
        ("", "x", False),
    ],
)
def test_exact_passes_over_case_space_and_edges_only(text: str, target: str, equal: bool) -> None:
    assert scorers.exact()(text, Sample("?", target)).value == float(equal)


def test_share_of_keywords_and_the_missing_ones_are_told() -> None:
    score = scorers.contains("refund", "days", "sorry")("Sorry! A REFUND takes a week.", Sample("?"))
    assert score.value == 0.0
    assert score.metrics["keywords"] == pytest.approx(2 / 3)
    assert score.explanation == "has: 'refund', 'sorry'; lacks: 'days'"


def test_whole_words_of_other_scripts_are_found() -> None:
    scorer = scorers.contains("mühle", words=True)
    assert scorer("Die Mühle, sagt er", Sample("?")).value == 1.0
    assert scorer("Mühlen", Sample("?")).value == 0.0
    assert scorers.contains("c++", words=True)("I like C++ best", Sample("?")).value == 1.0


@pytest.mark.parametrize("keywords", [("",), (" ",), (3,)])
def test_empty_keywords_are_refused(keywords: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="keywords that are texts and not empty"):
        scorers.contains(*keywords)


def test_case_can_matter() -> None:
    assert scorers.contains("US", case=True)("tell us", Sample("?")).value == 0.0
    assert scorers.regex("US", case=True)("tell us", Sample("?")).value == 0.0


def test_broken_pattern_is_an_error_when_the_scorer_is_made() -> None:
    with pytest.raises(DataError, match=r"is not a regular expression: .*unterminated"):
        scorers.regex("(")


def test_regex_reads_its_group_out() -> None:
    score = scorers.regex(r"total: (\S+)", compare=True)("TOTAL: 12 apples", Sample("?", "13"))
    assert (score.value, score.answer) == (0.0, "12")
    missed = scorers.regex(r"total: (\S+)", compare=True)("nothing", Sample("?", "13"))
    assert not missed.parsed


def test_normalise_is_stable() -> None:
    assert normalise(normalise(" Ａ\u00a0b ")) == normalise(" Ａ\u00a0b ") == "a b"
