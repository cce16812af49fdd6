"""Multiple choice: by log-likelihood of the options, by a decision among letters, or by a reasoned answer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import ClassVar

from llmlab.benchmarks.base import Query, Reply
from llmlab.benchmarks.rows import RowsBenchmark
from llmlab.types import ContinuationLogprob, Decision, Options, Protocol, Request, Sample, Score, digest

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# wording of simple-evals, common.py (openai/simple-evals)
_REASONED = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'Answer: $LETTER' (without quotes) where LETTER is one of {letters}. Think step by step before answering.\n\n"
    "{question}\n\n{options}"
)
# marks that models put around the letter; the longer ones first, as their pieces are in the list too
_MARKS = (
    "**", "$\\boxed{", "}$", "\\$", "$\\text{", "$", "\\mathrm{", "\\{", "\\text", "\\(", "\\mathbf{", "{", "\\boxed",
)  # fmt: skip


class MultipleChoice(RowsBenchmark):
    """Options, of which one is right: `sample.target` is its index in `sample.choices`.

    The log-likelihood protocol is that of lm-evaluation-harness and is preferred: it needs no reading of text.
    """

    protocols: tuple[Protocol, ...] = ("loglikelihood", "generate", "decision", "letter_logprob", "letter")
    reasoned_options: ClassVar[Options] = Options(temperature=0.0, max_tokens=1024)

    def context(self, sample: Sample) -> str:
        """The end of the prompt, after which the options are scored."""
        raise NotImplementedError

    def continuations(self, sample: Sample) -> tuple[str, ...]:
        """What is scored after the context, without the space that separates them."""
        return sample.choices

    def question(self, sample: Sample) -> str:
        """The question as a chat model reads it, without the options."""
        raise NotImplementedError

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        if protocol == "loglikelihood":
            return Query(protocol, pairs=self.pairs(sample))
        if protocol == "generate":
            return Query(protocol, request=Request.of(self.reasoned(sample)))
        return Query(protocol, request=Request.of(self.question(sample)), choices=sample.choices)

    def pairs(self, sample: Sample) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Contexts with their continuations, for the log-likelihood protocol."""
        context = self.prefix(sample) + self.context(sample)
        return ((context, tuple(f" {text}" for text in self.continuations(sample))),)

    def reasoned(self, sample: Sample) -> str:
        """The prompt of the generative protocol: reasons first, then a line with the letter."""
        return reasoned_prompt(self.question(sample), sample.choices)

    def options(self, protocol: Protocol) -> Options:
        return self.reasoned_options if protocol == "generate" else Options()

    def metric(self, protocol: Protocol) -> str:
        return self.card.metric if protocol == "loglikelihood" else "acc"

    def wording(self, protocol: Protocol) -> str:
        if protocol == "loglikelihood":
            return f"{self.shots}-shot log-likelihood (lm-eval)"
        return {"generate": "0-shot chain of thought (simple-evals)"}.get(protocol, f"0-shot {protocol}")

    def score(self, sample: Sample, reply: Reply) -> Score:
        if reply.logprobs:
            return self.score_logprobs(sample, reply.logprobs)
        if reply.decision is not None:
            return score_decision(sample, reply.decision)
        return score_letter(sample, self.read(sample, reply.text))

    def read(self, sample: Sample, text: str) -> str | None:
        """The letter that a generated answer chose, None when there is none."""
        return read_answer_line(text, len(sample.choices))

    def score_logprobs(self, sample: Sample, logprobs: Sequence[Sequence[ContinuationLogprob]]) -> Score:
        """The verdict by log-likelihood."""
        sums = [c.logprob for c in logprobs[0]]
        return score_sums(sample, sums, self.continuations(sample), self.card.metric)


def score_sums(
    sample: Sample,
    sums: Sequence[float],
    texts: Sequence[str],
    headline: str,
    metrics: Sequence[str] = ("acc", "acc_norm"),
) -> Score:
    """acc: the option with the highest summed log-probability is right; acc_norm: highest per character of its text.

    Ties go to the first. `headline` says which of the metrics is the value.
    """
    if any(math.isnan(s) for s in sums):
        return Score(math.nan, explanation="a log-probability is not a number")
    # an empty option has no character to divide by
    per_character = [s / max(len(text), 1) for s, text in zip(sums, texts, strict=True)]
    picks = {"acc": best(sums), "acc_norm": best(per_character)}
    numbers = {name: float(picks[name] == sample.target) for name in metrics}
    shown = ", ".join(f"{letter} {s:.2f}" for letter, s in zip(LETTERS, sums, strict=False))
    return Score(numbers[headline], sample.choices[picks[headline]], f"log-probabilities: {shown}", numbers)


def score_decision(sample: Sample, decision: Decision) -> Score:
    """The verdict on a decision among the sample's choices."""
    if decision.choice is None:
        return Score(0.0, None, "no choice could be read", {"acc": 0.0}, parsed=False)
    if sample.target is None:
        return Score(math.nan, decision.text, "the sample has no target")
    right = float(decision.choice == sample.target)
    metrics = {"acc": right}
    probability = decision.probabilities[sample.target] if isinstance(sample.target, int) else math.nan
    if not math.isnan(probability):
        metrics["probability"] = probability
    return Score(right, decision.text, f"by {decision.protocol}", metrics)


def score_letter(sample: Sample, letter: str | None) -> Score:
    """The verdict on a letter read out of a generated answer."""
    if letter is None:
        return Score(0.0, None, "no line with an answer letter", {"acc": 0.0}, parsed=False)
    index = LETTERS.index(letter)
    right = float(index == sample.target)
    return Score(right, letter, f"{letter}: {sample.choices[index]}", {"acc": right})


def best(values: Sequence[float]) -> int:
    """Index of the largest value; the first of equals."""
    return max(range(len(values)), key=values.__getitem__)


def reasoned_prompt(question: str, choices: Sequence[str]) -> str:
    """The zero-shot chain-of-thought prompt of simple-evals, for any number of options."""
    options = "\n".join(f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return _REASONED.format(letters=LETTERS[: len(choices)], question=question, options=options)


def read_answer_line(text: str, n: int) -> str | None:
    r"""The letter of the first `Answer: X` among the first n letters, as simple-evals reads it.

    >>> read_answer_line("Paris is the capital.\n**Answer: $B$**", 4)
    'B'
    """
    for mark in _MARKS:
        text = text.replace(mark, "")
    found = re.search(rf"(?i)Answer\s*:[ \t]*([A-{LETTERS[n - 1]}])", text)
    return found[1].upper() if found else None


def shuffled(n: int, *key: object) -> list[int]:
    """A permutation of range(n) that depends on the key alone: the same in every run and process."""
    order = list(range(n))
    return sorted(order, key=lambda i: digest(i, *key))
