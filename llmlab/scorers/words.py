"""Scorers that look at the words: exact, contains, regex."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import ClassVar

from llmlab.errors import DataError
from llmlab.scorers.base import Rule, acceptable, no_target, normalise, shorten
from llmlab.types import Sample, Score

_EDGES = " \t\n\r\"'`.,;:!?*_()[]"


@dataclass(frozen=True)
class Exact(Rule):
    """The answer equals a target."""

    name: ClassVar[str] = "exact"
    strict: bool = False

    def __call__(self, text: str, sample: Sample) -> Score:
        targets = acceptable(sample)
        if not targets:
            return no_target(sample)
        answer = self._plain(text)
        right = any(answer == self._plain(target) for target in targets)
        said = f"{'equals' if right else 'is not'} {shorten(' or '.join(targets))!r}"
        return Score(float(right), answer, said, parsed=bool(text.strip()))

    def _plain(self, text: str) -> str:
        return text if self.strict else normalise(text).strip(_EDGES)


def exact(strict: bool = False) -> Exact:
    """The whole answer is a target; `strict` compares every character.

    Otherwise case, runs of white space, Unicode forms (NFKC) and quotes or punctuation at the ends do not count.

    >>> exact()(" Paris.", Sample("Capital of France?", "paris")).value
    1.0
    """
    return Exact(strict)


@dataclass(frozen=True)
class Contains(Rule):
    """The answer has given words in it."""

    name: ClassVar[str] = "contains"
    keywords: tuple[str, ...] = ()
    any: bool = False
    words: bool = False
    case: bool = False

    def __call__(self, text: str, sample: Sample) -> Score:
        keywords = self.keywords or acceptable(sample)
        if not keywords:
            return no_target(sample)
        plain = self._plain(text)
        found = [keyword for keyword in keywords if self._has(plain, self._plain(keyword))]
        # several targets are alternatives of one right answer
        right = bool(found) if self.any or not self.keywords else len(found) == len(keywords)
        missing = [keyword for keyword in keywords if keyword not in found]
        explanation = "; ".join(
            f"{label}: {', '.join(map(repr, which))}" for label, which in (("has", found), ("lacks", missing)) if which
        )
        share = len(found) / len(keywords)
        return Score(float(right), ", ".join(found) or None, shorten(explanation, 400), {"keywords": share})

    def _plain(self, text: str) -> str:
        return " ".join(text.split()) if self.case else normalise(text)

    def _has(self, text: str, keyword: str) -> bool:
        if not self.words:
            return keyword in text
        return re.search(rf"(?<!\w){re.escape(keyword)}(?!\w)", text) is not None


def contains(*keywords: str, any: bool = False, words: bool = False, case: bool = False) -> Contains:  # noqa: A002
    """All `keywords` are in the answer (with `any`, at least one); without keywords: a target is in it.

    Args:
        keywords: pieces of text; "refund" is also found in "refunded", unless
        words: only whole words count.
        any: one of them is enough.
        case: upper and lower case differ.

    The share of keywords found is the metric `keywords`.

    >>> contains("refund", "sorry")("Sorry, a refund is on its way.", Sample("?")).value
    1.0
    """
    if not all(isinstance(k, str) and k.strip() for k in keywords):
        raise DataError(f"contains needs keywords that are texts and not empty, got {keywords!r}")
    return Contains(keywords, any, words, case)


@dataclass(frozen=True)
class Regex(Rule):
    """The answer matches a pattern."""

    name: ClassVar[str] = "regex"
    pattern: str | None = None
    case: bool = False
    compare: bool = False

    def __call__(self, text: str, sample: Sample) -> Score:
        targets = acceptable(sample)
        if not targets and (self.pattern is None or self.compare):
            return no_target(sample)
        patterns = targets if self.pattern is None else (self.pattern,)
        found = next((m for p in patterns if (m := _compiled(p, self.case).search(text))), None)
        if found is None:
            return Score(0.0, None, f"no match of {shorten(' or '.join(patterns))}", parsed=not self.compare)
        answer = next((group for group in found.groups() if group), found[0])
        right = not self.compare or normalise(answer) in map(normalise, targets)
        return Score(float(right), answer, f"matches at {found.start()}" if right else f"found {shorten(answer)!r}")


def regex(pattern: str | None = None, case: bool = False, compare: bool = False) -> Regex:
    r"""The pattern matches somewhere in the answer; without a pattern, the target is one.

    Args:
        pattern: a regular expression of Python's `re`; lines are separate (MULTILINE).
        case: upper and lower case differ.
        compare: what the first group (or the whole pattern) finds must also equal a target.

    >>> regex(r"####\s*(\S+)", compare=True)("So it is\n#### 51", Sample("17 * 3?", "51")).value
    1.0
    """
    if pattern is not None:
        _compiled(pattern, case)
    return Regex(pattern, case, compare)


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str, case: bool) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.MULTILINE if case else re.MULTILINE | re.IGNORECASE)
    except re.error as error:
        raise DataError(f"{pattern!r} is not a regular expression: {error}") from None
