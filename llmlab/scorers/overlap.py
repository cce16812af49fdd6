"""Scorers that count shared pieces of text: BLEU and chrF (sacrebleu), ROUGE (rouge-score).

They say how alike two wordings are, not whether an answer is right.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from llmlab.errors import DataError, MissingPackage
from llmlab.scorers.base import Rule, acceptable, no_target, shorten
from llmlab.types import Sample, Score

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass(frozen=True)
class Bleu(Rule):
    """BLEU with the nearest target."""

    name: ClassVar[str] = "bleu"

    def __call__(self, text: str, sample: Sample) -> Score:
        return _nearest(text, sample, lambda target: bleu_score(text, target, effective_order=True), "BLEU")


@dataclass(frozen=True)
class Chrf(Rule):
    """chrF with the nearest target."""

    name: ClassVar[str] = "chrf"
    word_order: int = 0

    def __call__(self, text: str, sample: Sample) -> Score:
        return _nearest(text, sample, lambda target: chrf_score(text, target, self.word_order), "chrF")


@dataclass(frozen=True)
class Rouge(Rule):
    """ROUGE F1 with the nearest target."""

    name: ClassVar[str] = "rouge"
    kind: str = "rougeL"

    def __call__(self, text: str, sample: Sample) -> Score:
        return _nearest(text, sample, lambda target: rouge_scores(text, target)[self.kind], self.kind)


def bleu() -> Bleu:
    """BLEU / 100 with the nearest target, for one sentence (up to four words in a row, fewer in short texts).

    Source: Papineni et al. (2002); tokens "intl", smoothing "exp", as lm-evaluation-harness has it.
    """
    return Bleu()


def chrf(word_order: int = 0) -> Chrf:
    """Character F-score (chrF) / 100 with the nearest target; word_order=2 is chrF++.

    Source: Popovic (2015), https://aclanthology.org/W15-3049
    """
    return Chrf(word_order)


def rouge(kind: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL") -> Rouge:
    """ROUGE F1 with the nearest target: shared words, word pairs, or longest common subsequence.

    Words are runs of a-z and 0-9, so that text in other scripts has none and scores 0.

    Source: Lin (2004), https://aclanthology.org/W04-1013
    """
    if kind not in ROUGE_TYPES:
        raise DataError(f"rouge: kind={kind!r}; possible: {', '.join(ROUGE_TYPES)}")
    return Rouge(kind)


def bleu_score(text: str, reference: str, effective_order: bool = False) -> float:
    """BLEU of one text with one reference, 0 to 100.

    Args:
        text: what was generated.
        reference: what it is compared with.
        effective_order: leave out n-gram orders that the text is too short for; without it a short text never
            reaches 100, which is how TruthfulQA is defined.
    """
    score: float = (
        _sacrebleu()
        .corpus_bleu(
            [text],
            [[reference]],
            smooth_method="exp",
            tokenize="intl",
            use_effective_order=effective_order,
        )
        .score
    )
    return min(score, 100.0)


def chrf_score(text: str, reference: str, word_order: int = 0) -> float:
    """Character F-score of one text with one reference, 0 to 100."""
    score: float = _sacrebleu().sentence_chrf(text, [reference], word_order=word_order).score
    return min(score, 100.0)


def rouge_scores(text: str, reference: str) -> dict[str, float]:
    """F1 of each kind of ROUGE of one text with one reference, 0 to 100."""
    # line ends separate the sentences for rougeLsum
    prepared = (t.replace(" . ", ".\n") for t in (reference, text))
    return {kind: score.fmeasure * 100 for kind, score in _rouge_scorer().score(*prepared).items()}


def _nearest(text: str, sample: Sample, score: Any, label: str) -> Score:
    targets = acceptable(sample)
    if not targets:
        return no_target(sample)
    points, target = max(((score(target), target) for target in targets), key=lambda pair: pair[0])
    return Score(points / 100, text.strip(), f"{label} {points:.1f} with {shorten(target)!r}")


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ModuleNotFoundError as error:
        raise MissingPackage("BLEU and chrF need the package: pip install sacrebleu") from error
    return sacrebleu


@functools.cache
def _rouge_scorer() -> Any:
    try:
        from rouge_score import rouge_scorer
    except ModuleNotFoundError as error:
        raise MissingPackage("ROUGE needs the package: pip install rouge-score") from error
    return rouge_scorer.RougeScorer(ROUGE_TYPES)
