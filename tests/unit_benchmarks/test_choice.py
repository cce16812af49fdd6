import math
from typing import Any

import pytest

from llmlab.benchmarks.base import Reply
from llmlab.benchmarks.choice import read_answer_line, reasoned_prompt, score_sums, shuffled
from llmlab.benchmarks.registry import benchmark
from llmlab.types import ContinuationLogprob, Sample
from tests.unit_benchmarks.replies import OWN, decided, first, likely, said

SAMPLE = Sample("?", 1, choices=("a long option", "short"))


def test_acc_takes_the_sum_and_acc_norm_the_mean_per_character() -> None:
    score = score_sums(SAMPLE, [-6.0, -5.0], SAMPLE.choices, "acc_norm")
    assert score.metrics == {"acc": 1.0, "acc_norm": 0.0}
    assert (score.value, score.answer) == (0.0, "a long option")
    assert score_sums(SAMPLE, [-6.0, -5.0], SAMPLE.choices, "acc").value == 1.0


def test_first_of_equals_wins() -> None:
    assert score_sums(SAMPLE, [-1.0, -1.0], ("x", "y"), "acc").value == 0.0


def test_log_probability_that_is_no_number_is_not_a_wrong_answer() -> None:
    assert math.isnan(score_sums(SAMPLE, [math.nan, -1.0], SAMPLE.choices, "acc").value)


def test_empty_option_divides_by_nothing() -> None:
    assert score_sums(SAMPLE, [-4.0, -1.0], ("", "ab"), "acc_norm").metrics["acc_norm"] == 1.0


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Because of this.\n\nAnswer: C", "C"),
        ("**Answer: $\\boxed{B}$**", "B"),
        ("answer : d", "D"),
        ("Answer: A\nAnswer: B", "A"),
        ("Answer:\\text{C}", "C"),
        ("The answer is C", None),
        ("Answer:\nB", None),
        ("Answer: E", None),
        ("", None),
    ],
)
def test_answer_line_is_read_as_simple_evals_does(text: str, letter: str | None) -> None:
    assert read_answer_line(text, 4) == letter


def test_reasoned_prompt_lists_only_the_letters_there_are() -> None:
    prompt = reasoned_prompt("Which?", ("one", "two", "three"))
    assert "where LETTER is one of ABC." in prompt
    assert prompt.endswith("Which?\n\nA) one\nB) two\nC) three")


def test_shuffle_depends_on_its_key_alone_and_is_fair() -> None:
    assert shuffled(4, "key") == shuffled(4, "key")
    assert sorted(shuffled(4, "key")) == [0, 1, 2, 3]
    firsts = [shuffled(4, i)[0] for i in range(4000)]
    assert all(900 < firsts.count(i) < 1100 for i in range(4))


CHOICES = ["arc_challenge", "arc_easy", "hellaswag", "mmlu", "truthfulqa_binary", "winogrande"]


@pytest.mark.parametrize("name", CHOICES)
def test_every_protocol_asks_and_scores(name: str) -> None:
    made: Any = benchmark(name, source=OWN, **({} if name == "truthfulqa_binary" else {"shots": 1}))
    sample = first(made)
    right, wrong = sample.target, (sample.target + 1) % len(sample.choices)
    letters = "ABCDE"
    pairs = made.query(sample, "loglikelihood").pairs
    for pick, value in ((right, 1.0), (wrong, 0.0)):
        sums = [0.0 if i == pick else -99.0 for i in range(len(sample.choices))]
        reply = (
            likely(*sums)
            if len(pairs) == 1
            else Reply(logprobs=tuple((ContinuationLogprob(s, 1, False),) for s in sums))
        )
        assert made.score(sample, reply).value == value
        assert made.score(sample, decided(sample, pick)).value == value
        line = f"So.\nAnswer: {letters[pick]}\nThe best answer is {letters[pick]}"
        assert made.score(sample, said(line)).value == value
    for protocol in ("decision", "letter_logprob", "letter"):
        query = made.query(sample, protocol)
        assert query.choices == sample.choices
        assert query.request is not None and sample.choices[0] not in query.request.prompt.splitlines()
    unread = made.score(sample, said("I would rather not say."))
    assert (unread.value, unread.parsed) == (0.0, False)
    undecided = made.score(sample, decided(sample, None))
    assert (undecided.value, undecided.parsed) == (0.0, False)


def test_probability_of_the_right_choice_is_kept() -> None:
    made = benchmark("arc_easy", source=OWN)
    sample = first(made)
    score = made.score(sample, decided(sample, 0, (0.7, 0.1, 0.1, 0.1), "decision"))
    assert score.metrics == {"acc": 1.0, "probability": 0.7}
    assert "probability" not in made.score(sample, decided(sample, 0)).metrics


@pytest.mark.parametrize("name", CHOICES)
def test_protocols_are_worded_apart(name: str) -> None:
    made = benchmark(name, source=OWN)
    wordings = [made.wording(protocol) for protocol in made.protocols]
    assert len(set(wordings)) == len(wordings)
    assert made.options("generate").max_tokens is not None
    assert made.options("loglikelihood").set() == {}
