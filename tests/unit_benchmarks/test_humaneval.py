import math
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmlab.benchmarks.base import Benchmark
from llmlab.benchmarks.humaneval import HumanEval, mean_pass_at_k, pass_at_k
from llmlab.benchmarks.registry import benchmark
from llmlab.errors import NeedsConsent
from llmlab.types import Sample
from tests.unit_benchmarks.replies import OWN, first, real_rows, said

pytestmark = pytest.mark.skipif(os.name != "posix", reason="generated code is confined on POSIX systems only")


def own(name: str = "humaneval") -> HumanEval:
    made = benchmark(name, source=OWN, allow_code=True)
    assert isinstance(made, HumanEval)
    return made


def test_without_consent_nothing_is_asked_and_nothing_run() -> None:
    made = benchmark("humaneval", source=OWN)
    with pytest.raises(NeedsConsent, match=r"lab.benchmark\('humaneval', allow_code=True\)"):
        made.query(first(made), "generate")
    with pytest.raises(NeedsConsent, match="no protection from a determined attacker"):
        made.score(first(made), said("    return 1"))


def test_consent_can_be_written_with_the_name() -> None:
    made = benchmark("humaneval[allow_code=true]", source=OWN)
    assert made.name == "humaneval"
    assert made.query(first(made), "generate").request is not None


@pytest.mark.parametrize("number", range(3))
def test_canonical_solution_passes_and_an_empty_body_fails(number: int) -> None:
    made = own()
    sample = made.samples()[number]
    assert made.score(sample, said(str(sample.target))).value == 1.0
    failed = made.score(sample, said("    pass"))
    assert (failed.value, failed.parsed) == (0.0, True)
    assert failed.explanation is not None
    assert failed.explanation.startswith(("AssertionError", "TypeError"))


def test_what_follows_the_function_is_cut_off() -> None:
    made = own()
    sample = first(made)
    assert made.program(sample, "    return 2 * x\n\ndef broken(:") == f"{sample.input}    return 2 * x\n"


def test_instruct_form_begins_the_answer_and_ends_at_the_fence() -> None:
    made = own("humaneval_instruct")
    sample = first(made)
    request = made.query(sample, "generate").request
    assert request is not None
    assert [m.role for m in request.messages] == ["user", "assistant"]
    assert request.messages[1].content == f"Here is the completed function:\n```python\n{sample.input}\n"
    assert made.score(sample, said("    return 2 * x\n```\nIt doubles.")).value == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "So:\n```python\ndef longest(words: List[str]) -> str:\n    return max(words, key=len, default='')\n```\nDone",
        "```\n    return max(words, key=len, default='')\n```",
        "def longest(words: List[str]) -> str:\n    return max(words, key=len, default='')",
    ],
)
def test_chat_form_reads_the_first_block(answer: str) -> None:
    made = own("humaneval_chat")
    assert made.score(made.samples()[1], said(answer)).value == 1.0


def test_helper_given_with_the_problem_is_kept() -> None:
    made = own("humaneval_chat")
    answer = "```python\ndef twice_next(x):\n    return 2 * helper(x)\n```"
    assert made.score(made.samples()[2], said(answer)).value == 1.0


@pytest.mark.parametrize(
    ("n", "correct", "k", "value"), [(1, 1, 1, 1.0), (5, 0, 3, 0.0), (10, 3, 1, 0.3), (4, 2, 2, 5 / 6), (5, 4, 2, 1.0)]
)
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(n: int, correct: int, k: int, value: float) -> None:
    assert pass_at_k(n, correct, k) == pytest.approx(value)


def test_pass_at_k_equals_the_product_form_of_the_paper() -> None:
    n, k = 200, 100
    for correct in (1, 7, 60, 100):
        product = 1.0 - math.prod(1.0 - k / i for i in range(n - correct + 1, n + 1))
        assert pass_at_k(n, correct, k) == pytest.approx(product)


@pytest.mark.parametrize(("n", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_pass_at_k_refuses_the_impossible(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"pass@k needs 0 <= correct <= n and 1 <= k <= n"):
        pass_at_k(n, correct, k)


def test_mean_pass_at_k_leaves_out_what_was_not_scored() -> None:
    assert mean_pass_at_k([[1, 0], [0, 0], [math.nan, math.nan]], 1) == 0.25
    assert mean_pass_at_k([[1, 0], [1]], 2) == 1.0
    assert math.isnan(mean_pass_at_k([], 1))


def _run_all(samples: list[Sample], made: Benchmark, answer: str | None) -> list[str]:
    def failing(sample: Sample) -> str:
        score = made.score(sample, said(str(sample.target) if answer is None else answer))
        return "" if score.value else f"{sample.id}: {score.explanation}"

    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        return [failure for failure in pool.map(failing, samples) if failure]


def test_some_published_solutions_pass_and_empty_bodies_fail() -> None:
    made = benchmark("humaneval", source=real_rows(), allow_code=True)
    some = list(made.samples())[::16]
    assert _run_all(some, made, None) == []
    assert len(_run_all(some, made, "    pass\n")) == len(some)


@pytest.mark.slow
def test_all_published_solutions_pass_and_empty_bodies_fail() -> None:
    made = benchmark("humaneval", source=real_rows(), allow_code=True)
    samples = list(made.samples())
    assert len(samples) == made.card.n
    assert _run_all(samples, made, None) == []
    assert len(_run_all(samples, made, "    pass\n")) == len(samples)
