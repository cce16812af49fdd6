"""What scorers share: rules with an identity, the acceptable answers of a sample, and text normalisation."""

from __future__ import annotations

import inspect
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from llmlab.types import Sample, Score, digest


@dataclass(frozen=True)
class Rule:
    """A scorer that is data: it compares, prints and pickles, and its identity says all that its verdict depends on."""

    name: ClassVar[str]

    def __call__(self, text: str, sample: Sample) -> Score:
        """The verdict on an answer. Pure: the same text and sample always get the same score."""
        raise NotImplementedError

    def identity(self) -> Mapping[str, Any]:
        """Name and settings: stored with every score, part of the key of a cached one."""
        return {"scorer": self.name, **{f.name: describe(getattr(self, f.name)) for f in fields(self)}}

    def __str__(self) -> str:
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{self.name}({', '.join(f'{f.name}={getattr(self, f.name)!s}' for f in changed)})"


def describe(value: Any) -> Any:
    """A setting as data that JSON can hold."""
    if isinstance(value, Rule):
        return dict(value.identity())
    if isinstance(value, tuple | list):
        return [describe(v) for v in value]
    return _describe_function(value) if callable(value) else value


def _describe_function(function: Any) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt, built in, or an object that is called
        source = re.sub(r" at 0x[0-9a-f]+", "", repr(function))
    closed_over = [repr(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    return digest(source, repr(getattr(function, "__defaults__", None)), closed_over)


def acceptable(sample: Sample) -> tuple[str, ...]:
    """The right answers of a sample as texts; empty when it has none."""
    if isinstance(sample.target, int):
        return (sample.choices[sample.target],) if sample.choices else (str(sample.target),)
    if isinstance(sample.target, str):
        return (sample.target,)
    return sample.target or ()


def no_target(sample: Sample) -> Score:
    """The verdict when there is nothing to compare with: not a number, which is not a wrong answer."""
    return Score(math.nan, explanation=f"sample {sample.id} has no target")


def normalise(text: str) -> str:
    r"""One spelling for what reads the same: Unicode NFKC, case folded, white space single, ends stripped.

    >>> normalise("  The ﬁrst\nANSWER ")
    'the first answer'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shorten(text: str, length: int = 80) -> str:
    """For explanations: the end of a long text is left out."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
