"""GPQA: questions on physics, chemistry and biology that search engines do not answer.

Rein et al. (2023), https://arxiv.org/abs/2311.12022. Data: Idavidrein/gpqa, CC BY 4.0, gated: accept its terms on the
hub and set HF_TOKEN. Please do not publish its questions. Chance 25 %. Definition: lm-evaluation-harness 0.4.13,
tasks/gpqa v2.2; the generative protocol is that of simple-evals (gpqa_eval.py).

Both tools shuffle the options with a random generator, so that an item's order depends on all items before it. Here the
order depends on the item alone and is kept in `metadata["order"]`: a score on any subset is a score on the same items.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

from llmlab.benchmarks.base import Card, Query, Reply, Source
from llmlab.benchmarks.choice import LETTERS, MultipleChoice, shuffled
from llmlab.benchmarks.rows import completion
from llmlab.benchmarks.sources import Row
from llmlab.benchmarks.text import cut, exact_match, extract
from llmlab.errors import UnknownName
from llmlab.types import Options, Protocol, Sample, Score

_REVISION = "633f5ee89ab8ad4522a9f850766b73f62147ffdd"
_DESCRIPTION = (
    "Here are some example questions from experts. Answer the final question yourself, following the format of the "
    "previous questions exactly.\n"
)
_FIELDS = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3", "Correct Answer")
SUBSETS = {"diamond": 198, "main": 448, "extended": 546}


def _card(subset: str, metric: str, description: str) -> Card:
    return Card(
        title="GPQA",
        paper="https://arxiv.org/abs/2311.12022",
        source=f"Idavidrein/gpqa@{_REVISION}",
        licence="CC BY 4.0 (gated)",
        chance=0.25,
        metric=metric,
        description=description,
        n=SUBSETS[subset],
    )


class GPQA(MultipleChoice):
    """Four options; their letters are scored. `subset` is diamond (the usual one), main or extended.

    Without shots the wording is that of lm-eval's gpqa_*_zeroshot, with shots that of gpqa_*_n_shot.
    """

    card = _card("diamond", "acc", "Graduate-level science questions")
    source: ClassVar[Source] = Source("Idavidrein/gpqa", "gpqa", "gpqa_diamond", _REVISION, "train")
    # the data has only this split: shots are drawn from the items themselves
    shot_splits = ("train",)
    reasoned_options: ClassVar[Options] = Options(temperature=0.5, max_tokens=4096)

    def __init__(
        self,
        name: str,
        *,
        subset: str = "diamond",
        shots: int | None = None,
        source: str | os.PathLike[str] | None = None,
        split: str | None = None,
    ) -> None:
        if subset not in SUBSETS:
            raise UnknownName.among(f"subset of {name}", subset, SUBSETS)
        kind = type(self)
        self.source = Source(kind.source.hub, kind.source.folder, f"gpqa_{subset}", _REVISION, "train")  # type: ignore[misc]
        self.card = _card(subset, kind.card.metric, kind.card.description)
        super().__init__(name, shots=shots, source=source, split=split)
        self.subset = subset
        if subset != "diamond":
            self.name = f"{self.name}[subset={subset}]".replace("][", ",")

    def sample(self, row: Row) -> Sample:
        question = row.text("Question")
        options = [_clean(row.text(name)) if row.data.get(name) is not None else " " for name in _FIELDS]
        order = permutation(question)
        tags = (row.text("High-level domain"),) if row.data.get("High-level domain") else ()
        # two options may read the same: then the first of them counts, as in lm-eval
        choices = tuple(options[i] for i in order)
        return Sample(question, choices.index(options[3]), choices=choices, metadata={"order": tuple(order)}, tags=tags)

    def shot(self, row: Row) -> str:
        sample = self.sample(row)
        assert isinstance(sample.target, int)
        return f"{self.context(sample)} ({LETTERS[sample.target]})"

    def prefix(self, sample: Sample) -> str:
        return _DESCRIPTION + super().prefix(sample) if self.shots else ""

    def context(self, sample: Sample) -> str:
        return f"{self.stem(sample)}Answer:"

    def stem(self, sample: Sample) -> str:
        """Question and options."""
        options = "".join(f"({letter}) {text}\n" for letter, text in zip(LETTERS, sample.choices, strict=False))
        opening = "Question: " if self.shots else "What is the correct answer to this question:"
        return f"{opening}{sample.input}\nChoices:\n{options}"

    def continuations(self, sample: Sample) -> tuple[str, ...]:
        return tuple(f"({letter})" for letter in LETTERS[: len(sample.choices)])

    def question(self, sample: Sample) -> str:
        return str(sample.input)

    def read(self, sample: Sample, text: str) -> str | None:
        # simple-evals cleans the text for MMLU, but not for GPQA
        found = re.search(r"(?i)Answer[ \t]*:[ \t]*\$?([A-D])\$?", text)
        return found[1].upper() if found else None


class GPQACoT(GPQA):
    """The question, "Let's think step by step: ", and a letter read out of the answer.

    flexible_extract takes the last letter in parentheses, else an option's text, else a letter after a colon;
    strict_match what follows "The answer is". lm-eval stops at 256 tokens, which cuts reasoned answers off; here it is
    2048, and cut answers are counted.
    """

    card = _card("diamond", "flexible_extract", "Graduate-level science questions, step by step")
    protocols: tuple[Protocol, ...] = ("generate",)
    stops: ClassVar[tuple[str, ...]] = ("</s>",)

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        return Query(protocol, request=completion(self.prefix(sample) + self.context(sample)))

    def context(self, sample: Sample) -> str:
        return f"{self.stem(sample)}Let's think step by step: "

    def options(self, protocol: Protocol) -> Options:
        return Options(temperature=0.0, max_tokens=2048, stop=self.stops)

    def metric(self, protocol: Protocol) -> str:
        return self.card.metric

    def wording(self, protocol: Protocol) -> str:
        form = "n_shot" if self.shots else "zeroshot"
        return f"{self.shots}-shot chain of thought (lm-eval gpqa_{self.subset}_cot_{form})"

    def score(self, sample: Sample, reply: Reply) -> Score:
        text = cut(reply.text, self.stops)
        assert isinstance(sample.target, int)
        answers = {
            "strict_match": extract(r"(?<=The answer is )(.*)(?=.)", text),
            "flexible_extract": flexible_letter(text, sample.choices),
        }
        right = f"({LETTERS[sample.target]})"
        metrics = {
            name: float(answer is not None and exact_match(answer, right, ignore_case=True, ignore_punctuation=True))
            for name, answer in answers.items()
        }
        answer = answers["flexible_extract"]
        explanation = "no letter in the answer" if answer is None else None
        return Score(metrics["flexible_extract"], answer, explanation, metrics, parsed=answer is not None)


def permutation(question: str) -> list[int]:
    """The order in which an item shows its four answers (the right one is number 3): by its question alone."""
    return shuffled(4, "gpqa", question)


def flexible_letter(text: str, choices: Sequence[str]) -> str | None:
    """The letter of an answer as lm-eval's multi_choice_regex filter finds it, "(B)"; None when there is none.

    The last "(X)"; else the option whose text comes last (case and punctuation aside); else the last ": X".
    """
    found = extract(r"(\([A-Z]\))", text, -1)
    if found:
        return found
    # of two options with the same text the later one counts here
    letters = {_bare(choice.strip()): f"({letter})" for letter, choice in zip(LETTERS, choices, strict=False)}
    longest_first = sorted((re.escape(option) for option in map(_bare, map(str.strip, choices))), key=len, reverse=True)
    matched = extract("|".join(longest_first), _bare(text), -1)
    if matched:
        return letters.get(matched, matched)
    letter = extract(rf":[\s]*([{LETTERS[: len(choices)]}])", text, -1)
    return f"({letter})" if letter else None


def _clean(text: str) -> str:
    return text.strip().replace(" [title]", ". ").replace("  ", " ")


def _bare(text: str) -> str:
    return text.lower().translate(_punctuation())


@cache
def _punctuation() -> dict[int, None]:
    return {i: None for i in range(sys.maxunicode) if unicodedata.category(chr(i)).startswith("P")}
