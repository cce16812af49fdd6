"""The scorer for numbers: reads them out of text in the forms that people and models write."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, NamedTuple, SupportsFloat

from llmlab.errors import DataError
from llmlab.scorers.base import Rule, acceptable, no_target, shorten
from llmlab.types import Sample, Score

# 1,234.5 | 1 234 (thin or no-break spaces) | 12.5 | .5, each with an exponent
_PLAIN = r"(?:\d{1,3}(?:[,'\u00a0\u202f\u2009]\d{3})+(?![\d])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}\b)?"
_NUMBER = re.compile(
    # a minus sign after a letter, digit or bracket is an operation or a dash, not a sign
    rf"(?P<sign>(?<![\w)\]])[-+\u2212])?(?:[$€£¥](?P<sign2>[-\u2212])?)?(?<![\w.])"
    r"(?:(?<!/)(?:(?P<whole>\d{1,15})\s+)?(?P<top>\d{1,15})\s?[/\u2044]\s?(?P<bottom>\d{1,15})(?![\d/])"
    rf"|(?P<plain>{_PLAIN}))(?P<percent>\s?%)?"
)


class Number(NamedTuple):
    """A number found in a text."""

    value: float
    percent: bool
    text: str


def numbers(text: str) -> list[Number]:
    """All numbers in a text, in order: signs, thousands separators, decimals, exponents, fractions, percents.

    A comma is a thousands separator when three digits follow; decimal commas are not read. Units and currency signs
    around a number are passed over.

    >>> [n.value for n in numbers("-3.5 km, then $1,200 or 3/4 of it, 12%")]
    [-3.5, 1200.0, 0.75, 12.0]
    """
    return [_number(match) for match in _NUMBER.finditer(text)]


def _number(match: re.Match[str]) -> Number:
    sign = -1 if (match["sign"] or match["sign2"] or "+") in "-\u2212" else 1
    percent = match["percent"] is not None
    if match["plain"] is not None:
        value = float(re.sub(r"[,'\u00a0\u202f\u2009]", "", match["plain"]))
    elif int(match["bottom"]) == 0:
        value = math.nan
    else:
        value = float(int(match["whole"] or 0) + Fraction(int(match["top"]), int(match["bottom"])))
    return Number(sign * value, percent, match[0].strip())


@dataclass(frozen=True)
class Numeric(Rule):
    """A number in the answer equals the target."""

    name: ClassVar[str] = "numeric"
    tolerance: float = 0.0
    relative: float = 1e-9
    which: Literal["last", "first", "any"] = "last"

    def __call__(self, text: str, sample: Sample) -> Score:
        targets = [self._target(target, sample) for target in acceptable(sample)]
        if not targets:
            return no_target(sample)
        found = numbers(text)
        if not found:
            return Score(0.0, None, "no number in the answer", parsed=False)
        looked = {"last": found[-1:], "first": found[:1], "any": found}[self.which]
        match = next((n for n in looked if any(self._equal(n, target) for target in targets)), None)
        shown = match or looked[-1]
        verdict = "equals" if match else "is not"
        return Score(float(match is not None), shown.text, f"{shown.value:g} {verdict} {targets[0].text}")

    def _target(self, target: str, sample: Sample) -> Number:
        found = numbers(target)
        if len(found) != 1:
            raise DataError(f"sample {sample.id}: numeric needs one number as target, got {shorten(target)!r}")
        return found[0]

    def _equal(self, answer: Number, target: Number) -> bool:
        # "50%" answers 50 as well as 0.5; what the question left open is not an error
        values = {answer.value, answer.value / 100} if answer.percent != target.percent else {answer.value}
        wanted = {target.value, target.value / 100} if target.percent and not answer.percent else {target.value}
        return any(math.isclose(v, w, rel_tol=self.relative, abs_tol=self.tolerance) for v in values for w in wanted)


def numeric(tolerance: float = 0.0, relative: float = 1e-9, which: Literal["last", "first", "any"] = "last") -> Numeric:
    """The last number in the answer (or the first, or any) is the target's number.

    Args:
        tolerance: largest difference that still counts as equal, in the target's unit.
        relative: the same as a share of the target.
        which: number that is compared.

    >>> numeric()("17 * 3 = 51.", Sample("What is 17 * 3?", "51")).value
    1.0
    """
    if which not in ("last", "first", "any"):
        raise DataError(f"numeric: which={which!r}; possible: last, first, any")
    for name, number in (("tolerance", tolerance), ("relative", relative)):
        if not isinstance(number, SupportsFloat) or math.isnan(number):
            raise DataError(f"numeric: {name} is a number, 0 or more; got {number!r}")
    if tolerance < 0 or relative < 0:
        raise DataError(f"numeric: a tolerance is not negative, got {min(tolerance, relative)}")
    return Numeric(float(tolerance), float(relative), which)
