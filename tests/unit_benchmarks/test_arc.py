import pytest

from llmlab.benchmarks.registry import benchmark
from tests.unit_benchmarks.replies import OWN, said


def test_answer_key_is_found_by_label_and_any_number_of_options_works() -> None:
    samples = benchmark("arc_challenge", source=OWN).samples()
    assert [s.target for s in samples] == [1, 2, 0, 0, 2]
    assert [len(s.choices) for s in samples] == [4, 4, 3, 5, 4]


def test_chat_wording_names_the_options_there_are() -> None:
    made = benchmark("arc_challenge", source=OWN)
    three, five = (made.query(made.samples()[i], "generate").request for i in (2, 3))
    assert three is not None and five is not None
    assert "three candidate answers (A, B and C)" in three.prompt
    assert three.prompt.endswith("where the [the_answer_letter] is one of A, B or C.")
    assert "five candidate answers (A, B, C, D and E)" in five.prompt
    assert "\\n" not in five.prompt


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The best answer is B.", True),
        ("the best answer is: **B**", True),
        ("The best answer is [B]", True),
        ("The best answer is A. No: The best answer is B", True),
        ("The best answer is A", False),
        ("The best answer is Badger", False),
    ],
)
def test_best_answer_line_is_read(text: str, right: bool) -> None:
    made = benchmark("arc_challenge", source=OWN)
    assert made.score(made.samples()[0], said(text)).value == float(right)
