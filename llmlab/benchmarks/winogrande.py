"""WinoGrande: which of two nouns a pronoun stands for.

Sakaguchi et al. (2019), https://arxiv.org/abs/1907.10641. Data: allenai/winogrande (winogrande_xl), CC BY. Chance
50 %. Definition: lm-evaluation-harness 0.4.13, tasks/winogrande. Model cards quote 5-shot acc.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from llmlab.benchmarks.base import Card, Source
from llmlab.benchmarks.choice import MultipleChoice, score_sums
from llmlab.benchmarks.sources import Row
from llmlab.types import ContinuationLogprob, Sample, Score

_REVISION = "01e74176c63542e6b0bcb004dcdea22d94fb67b5"


class WinoGrande(MultipleChoice):
    """A sentence with a blank and two words for it. The rest of the sentence is scored after each word."""

    card = Card(
        title="WinoGrande",
        paper="https://arxiv.org/abs/1907.10641",
        source=f"allenai/winogrande@{_REVISION}",
        licence="CC BY 4.0",
        chance=0.5,
        metric="acc",
        description="Fill the blank with one of two nouns",
        n=1267,
    )
    source: ClassVar[Source] = Source("allenai/winogrande", "winogrande", "winogrande_xl", _REVISION, "validation")
    shot_splits = ("train",)
    always_drops_itself = True

    def sample(self, row: Row) -> Sample:
        sentence, answer = row.text("sentence"), row.text("answer")
        if "_" not in sentence:
            raise row.wrong("sentence", "a sentence with a blank, written _", sentence)
        if answer not in ("1", "2"):
            raise row.wrong("answer", "'1' or '2'", answer)
        return Sample(sentence, int(answer) - 1, choices=(row.text("option1"), row.text("option2")))

    def shot(self, row: Row) -> str:
        sample = self.sample(row)
        assert isinstance(sample.target, int)
        before, after = _halves(sample)
        return f"{before}{sample.choices[sample.target]} {after}"

    def pairs(self, sample: Sample) -> tuple[tuple[str, tuple[str, ...]], ...]:
        prefix = self.prefix(sample)
        before, after = _halves(sample)
        return tuple((f"{prefix}{before}{option}", (f" {after}",)) for option in sample.choices)

    def score_logprobs(self, sample: Sample, logprobs: Sequence[Sequence[ContinuationLogprob]]) -> Score:
        # the same words are scored in each case: a length to divide by would change nothing
        return score_sums(sample, [pair[0].logprob for pair in logprobs], sample.choices, "acc", ("acc",))

    def question(self, sample: Sample) -> str:
        return f"Which option fills the blank (_)?\n\n{sample.input}"


def _halves(sample: Sample) -> tuple[str, str]:
    before, _, after = str(sample.input).partition("_")
    return before, after.strip()
