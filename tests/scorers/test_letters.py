import pytest

from llmlab import scorers
from llmlab.errors import DataError
from llmlab.scorers.letters import read_choice
from llmlab.types import Sample

OPTIONS = ("the sun", "the moon", "a red star", "a star")


@pytest.mark.parametrize(
    ("text", "pick"),
    [
        ("B", 1),
        ("b.", 1),
        ("(C)", 2),
        ("**D**", 3),
        ("Answer: A", 0),
        ("The answer is (B), because the sun is hot.", 1),
        ("Option C", 2),
        ("Answer: A\n...wait.\nAnswer: B", 1),
        ("B) the moon", 1),
        ("the moon", 1),
        ("It is the Moon, of course.", 1),
        ("I see a red star", 2),
        ("I see a star", 3),
        ("A star is what I see", 3),
        ("The sun or the moon", None),
        ("Definitely D", 3),
        ("A or B", None),
        ("E", None),
        ("none of them", None),
        ("", None),
    ],
)
def test_letter_or_text_is_read(text: str, pick: int | None) -> None:
    assert read_choice(text, OPTIONS) == pick


@pytest.mark.parametrize("target", [1, "B", "b", "the moon", "The  Moon"])
def test_target_is_an_index_a_letter_or_a_text(target: str | int) -> None:
    assert scorers.choice()("B", Sample("?", target, choices=OPTIONS)).value == 1.0


@pytest.mark.parametrize("target", [4, -1, "E", "a comet"])
def test_target_outside_the_choices_is_an_error(target: str | int) -> None:
    with pytest.raises(DataError, match="is not one of its 4 choices"):
        scorers.choice()("B", Sample("?", target, choices=OPTIONS))


def test_question_without_choices_is_an_error() -> None:
    with pytest.raises(DataError, match="at least two choices, it has 0"):
        scorers.choice()("B", Sample("?", "B"))


def test_unread_answer_is_wrong_and_counted() -> None:
    score = scorers.choice()("hm", Sample("?", 0, choices=OPTIONS))
    assert (score.value, score.parsed) == (0.0, False)
