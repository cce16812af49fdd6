import pytest

from llmlab.benchmarks.hellaswag import clean
from llmlab.benchmarks.registry import benchmark
from tests.unit_benchmarks.replies import OWN


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (" [header] How to row [title] Sit down. [step] Hold on. ", " How to row. Sit down. Hold on."),
        ("a   b", "a  b"),
        ("[a] b [c", " b [c"),
    ],
)
def test_marks_are_removed_in_a_single_pass(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_second_half_of_the_context_is_capitalised_and_the_rest_lowered() -> None:
    rowing = benchmark("hellaswag", source=OWN).samples()[2]
    assert rowing.input == "Rowing: Two men carry a boat to the lake. Then they row"
    assert rowing.choices[2] == "under the bridge of stone."
