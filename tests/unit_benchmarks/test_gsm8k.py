import pytest

from llmlab.benchmarks.registry import benchmark
from tests.unit_benchmarks.replies import OWN, first, said


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("12 + 9 - 5 = 16\n#### 16", 1, 1),
        ("#### 16.", 1, 1),
        ("#### 16,", 1, 1),
        ("It is 16", 0, 1),
        ("#### 16 but really 17", 1, 0),
        ("#### 17 or 16", 0, 1),
        ("$16.00", 0, 0),
        ("####16", 0, 1),
        ("#### -16", 0, 0),
        ("", 0, 0),
        ("#### 16\n\nQuestion: Next?\nAnswer: #### 3", 1, 1),
    ],
)
def test_strict_and_flexible_reading(text: str, strict: int, flexible: int) -> None:
    made = benchmark("gsm8k", source=OWN)
    score = made.score(first(made), said(text))
    assert score.metrics == {"strict_match": strict, "flexible_extract": flexible}
    assert score.value == strict


def test_thousands_and_dollars_do_not_count() -> None:
    made = benchmark("gsm8k", source=OWN)
    costs = made.samples()[1]
    assert costs.target == "1,200"
    assert made.score(costs, said("#### 1200")).value == 1.0
    assert made.score(costs, said("It costs $1,200")).metrics["flexible_extract"] == 1.0


def test_answer_in_another_form_is_counted_as_unparsable() -> None:
    made = benchmark("gsm8k", source=OWN)
    assert not made.score(first(made), said("sixteen")).parsed
    assert not made.score(first(made), said("16")).parsed  # the form asked for is "#### 16"
    assert benchmark("gsm8k_cot_zeroshot", source=OWN).score(first(made), said("16")).parsed


def test_chain_of_thought_forms_read_their_own_line() -> None:
    cot, llama = benchmark("gsm8k_cot", source=OWN), benchmark("gsm8k_cot_llama", source=OWN)
    assert cot.score(first(cot), said("So it is. The answer is 16. The answer is 3.")).value == 1.0
    assert llama.score(first(llama), said("The final answer is 3, no: The final answer is $16")).value == 1.0
    assert cot.score(first(cot), said("The final answer is 16")).value == 0.0


def test_base_forms_are_continued_and_the_chat_form_alternates() -> None:
    base = benchmark("gsm8k", source=OWN)
    request = base.query(first(base), "generate").request
    assert request is not None and request.template is False
    assert request.prompt.count("Question: ") == 6
    chat = benchmark("gsm8k_cot_llama", source=OWN)
    turns = chat.query(first(chat), "generate").request
    assert turns is not None and turns.template is None
    assert [m.role for m in turns.messages] == ["user", "assistant"] * 8 + ["user"]
    assert turns.messages[1].content.endswith("The final answer is 6")


def test_fewer_chain_of_thought_shots_are_the_first_ones() -> None:
    made = benchmark("gsm8k_cot", shots=2, source=OWN)
    request = made.query(first(made), "generate").request
    assert request is not None
    assert request.prompt.count("The answer is") == 2
    assert request.prompt.startswith("Q: There are 15 trees")


def test_room_for_reasoning_and_the_stop_strings_of_the_definition() -> None:
    options = benchmark("gsm8k").options("generate")
    assert options.max_tokens == 1024
    assert options.stop == ("Question:", "</s>", "<|im_end|>")
