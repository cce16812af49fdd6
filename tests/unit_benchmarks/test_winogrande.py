from llmlab.benchmarks.base import Reply
from llmlab.benchmarks.registry import benchmark
from llmlab.types import ContinuationLogprob
from tests.unit_benchmarks.replies import OWN, first


def test_same_words_are_scored_after_each_option() -> None:
    made = benchmark("winogrande", source=OWN)
    pairs = made.query(first(made), "loglikelihood").pairs
    assert pairs == (
        ("The bucket did not fit into the well because the bucket", (" was too wide.",)),
        ("The bucket did not fit into the well because the well", (" was too wide.",)),
    )


def test_likelier_context_wins() -> None:
    made = benchmark("winogrande", source=OWN)
    reply = Reply(logprobs=((ContinuationLogprob(-3, 3, False),), (ContinuationLogprob(-2, 3, False),)))
    assert made.score(first(made), reply).metrics == {"acc": 0.0}
    assert made.score(first(made), reply).answer == "well"
