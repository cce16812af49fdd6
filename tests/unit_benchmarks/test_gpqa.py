import pytest

from llmlab.benchmarks.gpqa import GPQA, flexible_letter, permutation
from llmlab.benchmarks.registry import benchmark
from llmlab.errors import UnknownName
from tests.unit_benchmarks.replies import OWN, first, likely, said


def test_order_of_options_depends_on_the_item_alone() -> None:
    one, two = benchmark("gpqa", source=OWN), benchmark("gpqa_cot", source=OWN, shots=2)
    assert [s.choices for s in one.samples()] == [s.choices for s in two.samples()]
    orders = {s.metadata["order"] for s in one.samples()}
    assert len(orders) > 3
    assert permutation("What?") == permutation("What?") != permutation("Who?")


def test_target_is_where_the_right_answer_went() -> None:
    sample = first(benchmark("gpqa", source=OWN))
    assert isinstance(sample.target, int)
    assert sample.choices[sample.target] == "12 J"
    assert sample.metadata["order"][sample.target] == 3


def test_options_are_cleaned_and_a_missing_one_is_a_space() -> None:
    samples = benchmark("gpqa", source=OWN).samples()
    assert {"7 J", "0.75 J"} <= set(samples[0].choices)
    assert {"propane. a gas", "carbon monoxide"} <= set(samples[1].choices)
    assert "cyclopenta[c]pyridine" in samples[3].choices
    assert " " in samples[6].choices


def test_zero_shot_and_shots_have_their_own_wordings() -> None:
    plain = benchmark("gpqa", source=OWN)
    context, continuations = plain.query(first(plain), "loglikelihood").pairs[0]
    assert context.startswith("What is the correct answer to this question:A lantern of 3 W")
    assert context.endswith("\nAnswer:")
    assert continuations == (" (A)", " (B)", " (C)", " (D)")
    shown = benchmark("gpqa", source=OWN, shots=2)
    context, _ = shown.query(first(shown), "loglikelihood").pairs[0]
    assert context.startswith("Here are some example questions from experts.")
    assert context.count("Question: ") == 3
    assert "A lantern" not in context.partition("\nAnswer: ")[0].partition("\nAnswer: ")[2]
    assert context.count("A lantern of 3 W") == 1


def test_likeliest_letter_is_the_pick() -> None:
    made = benchmark("gpqa", source=OWN)
    sample = first(made)
    sums = [-2.0] * 4
    assert isinstance(sample.target, int)
    sums[sample.target] = -1.0
    assert made.score(sample, likely(*sums)).metrics == {"acc": 1.0, "acc_norm": 1.0}


@pytest.mark.parametrize(
    ("text", "letter"), [("Answer: C", "C"), ("so\nanswer : $b$", "B"), ("**Answer:** C", None), ("Answer: E", None)]
)
def test_reasoned_answer_is_read_without_cleaning(text: str, letter: str | None) -> None:
    made = benchmark("gpqa", source=OWN)
    assert isinstance(made, GPQA)
    assert made.read(first(made), text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(A) is wrong, so (C).", "(C)"),
        ("It must be Red Giant!", "(B)"),
        ("neither red giant nor red", "(A)"),
        ("my choice: D", "(D)"),
        ("I pass", None),
        ("", None),
    ],
)
def test_letter_is_found_in_several_ways(text: str, letter: str | None) -> None:
    assert flexible_letter(text, ("red", "red giant", "a dwarf", "dust")) == letter


def test_chain_of_thought_counts_both_readings() -> None:
    made = benchmark("gpqa_cot", source=OWN)
    sample = first(made)
    assert isinstance(sample.target, int)
    right = "ABCD"[sample.target]
    score = made.score(sample, said(f"Energy is power times time. The answer is ({right})."))
    assert score.metrics == {"strict_match": 1.0, "flexible_extract": 1.0}
    assert made.score(sample, said(f"So ({right})")).metrics == {"strict_match": 0.0, "flexible_extract": 1.0}
    assert not made.score(sample, said("I pass")).parsed


def test_subset_is_part_of_the_name() -> None:
    made = benchmark("gpqa", subset="main", shots=5)
    assert made.name == "gpqa[shots=5,subset=main]"
    assert made.card.n == 448
    with pytest.raises(UnknownName, match=r"No subset of gpqa 'dimond'\. Did you mean 'diamond'"):
        benchmark("gpqa", subset="dimond")
