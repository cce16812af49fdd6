"""ARC: grade-school science questions, an easy and a challenging set.

Clark et al. (2018), https://arxiv.org/abs/1803.05457. Data: allenai/ai2_arc, CC BY-SA 4.0. Most items have four
options, a few three or five, so that chance is 25 %. Definition: lm-evaluation-harness 0.4.13, tasks/arc. Model cards
quote 25-shot acc_norm.
"""

from __future__ import annotations

from typing import ClassVar

from llmlab.benchmarks.base import Card, Source
from llmlab.benchmarks.choice import LETTERS, MultipleChoice
from llmlab.benchmarks.sources import Row
from llmlab.benchmarks.text import extract
from llmlab.types import Options, Protocol, Sample

_REVISION = "210d026faf9955653af8916fad021475a3f00453"
# after arc_challenge_chat, with real line breaks (that task shows a backslash and an n) and without words put into
# the model's mouth, which several providers do not allow; hence the own name in `wording`
_CHAT = (
    "Given the following question and {number} candidate answers ({listed}), choose the best answer.\n"
    "Question: {question}\n{options}\n"
    'Your response should end with "The best answer is [the_answer_letter]" where the [the_answer_letter] is one of '
    "{either}."
)
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


class ArcChallenge(MultipleChoice):
    """ARC-Challenge: the questions that retrieval and word co-occurrence got wrong."""

    card = Card(
        title="ARC-Challenge",
        paper="https://arxiv.org/abs/1803.05457",
        source=f"allenai/ai2_arc@{_REVISION}",
        licence="CC BY-SA 4.0",
        chance=0.25,
        metric="acc_norm",
        description="Grade-school science questions that need more than looking up",
        n=1172,
    )
    source: ClassVar[Source] = Source("allenai/ai2_arc", "ai2_arc", "ARC-Challenge", _REVISION, "test")
    shot_splits = ("train",)
    reasoned_options: ClassVar[Options] = Options(temperature=0.0, max_tokens=1024)

    def sample(self, row: Row) -> Sample:
        choices = row.record("choices")
        texts, labels = choices.texts("text"), choices.texts("label")
        key = row.text("answerKey")
        if len(texts) != len(labels) or len(texts) < 2:
            raise row.wrong("choices", "two or more texts with as many labels", dict(choices.data))
        if key not in labels:
            raise row.wrong("answerKey", f"one of {', '.join(labels)}", key)
        name = row.text("id") if "id" in row else ""
        return Sample(row.text("question"), labels.index(key), name, texts)

    def shot(self, row: Row) -> str:
        sample = self.sample(row)
        assert isinstance(sample.target, int)
        return f"{self.context(sample)} {sample.choices[sample.target]}"

    def context(self, sample: Sample) -> str:
        return f"Question: {sample.input}\nAnswer:"

    def question(self, sample: Sample) -> str:
        return str(sample.input).strip()

    def reasoned(self, sample: Sample) -> str:
        letters = LETTERS[: len(sample.choices)]
        most = ", ".join(letters[:-1])
        return _CHAT.format(
            number=_NUMBERS.get(len(letters), len(letters)),
            listed=f"{most} and {letters[-1]}",
            either=f"{most} or {letters[-1]}",
            question=self.question(sample),
            options="\n".join(f"{letter}. {text}" for letter, text in zip(letters, sample.choices, strict=True)),
        )

    def read(self, sample: Sample, text: str) -> str | None:
        letter = extract(rf"(?i)best answer is:?[ \t]*[*$\[(\"']*([A-{LETTERS[len(sample.choices) - 1]}])\b", text, -1)
        return letter.upper() if letter else None

    def wording(self, protocol: Protocol) -> str:
        if protocol == "generate":
            return "0-shot answer line (after arc_challenge_chat)"
        return super().wording(protocol)


class ArcEasy(ArcChallenge):
    """ARC-Easy: the rest of the questions."""

    card = Card(
        title="ARC-Easy",
        paper="https://arxiv.org/abs/1803.05457",
        source=f"allenai/ai2_arc@{_REVISION}",
        licence="CC BY-SA 4.0",
        chance=0.25,
        metric="acc_norm",
        description="Grade-school science questions",
        n=2376,
    )
    source: ClassVar[Source] = Source("allenai/ai2_arc", "ai2_arc", "ARC-Easy", _REVISION, "test")
