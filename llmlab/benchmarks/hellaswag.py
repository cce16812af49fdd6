"""HellaSwag: which ending continues a short text, among machine-written endings chosen to mislead.

Zellers et al. (2019), https://arxiv.org/abs/1905.07830. Data: Rowan/hellaswag, MIT. Chance 25 %. Definition:
lm-evaluation-harness 0.4.13, tasks/hellaswag. Model cards quote 10-shot acc_norm.
"""

from __future__ import annotations

import re
from typing import ClassVar

from llmlab.benchmarks.base import Card, Source
from llmlab.benchmarks.choice import MultipleChoice
from llmlab.benchmarks.sources import Row
from llmlab.types import Sample

_REVISION = "218ec52e09a7e7462a5400043bb9a69a41d06b76"


class HellaSwag(MultipleChoice):
    """Four endings for each context; the rows of the test split have no labels, so validation is scored."""

    card = Card(
        title="HellaSwag",
        paper="https://arxiv.org/abs/1905.07830",
        source=f"Rowan/hellaswag@{_REVISION}",
        licence="MIT",
        chance=0.25,
        metric="acc_norm",
        description="Choose the ending that makes sense",
        n=10042,
    )
    source: ClassVar[Source] = Source("Rowan/hellaswag", "hellaswag", "default", _REVISION, "validation")
    shot_splits = ("train",)
    always_drops_itself = True

    def sample(self, row: Row) -> Sample:
        endings = row.texts("endings")
        label = row.text("label")
        if not label.isdecimal() or int(label) >= len(endings):
            raise row.wrong("label", f"the number of an ending, 0 to {len(endings) - 1}, as text", label)
        activity = row.text("activity_label")
        # capitalize() also lower-cases the rest; that is part of the definition
        context = f"{activity}: {row.text('ctx_a')} {row.text('ctx_b').capitalize()}"
        return Sample(clean(context), int(label), choices=tuple(map(clean, endings)), tags=(activity,))

    def shot(self, row: Row) -> str:
        sample = self.sample(row)
        assert isinstance(sample.target, int)
        return f"{sample.input} {sample.choices[sample.target]}"

    def context(self, sample: Sample) -> str:
        return str(sample.input)

    def question(self, sample: Sample) -> str:
        return f"Which ending continues the text best?\n\n{sample.input}"


def clean(text: str) -> str:
    """Without the marks of the WikiHow part. Double spaces are replaced in a single pass, as the definition has it.

    >>> clean(" Cooking: [header] Boil water [title] Salt it. ")
    'Cooking: Boil water. Salt it.'
    """
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
