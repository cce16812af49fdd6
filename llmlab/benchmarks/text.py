"""Reading answers out of generated text, by the rules of lm-evaluation-harness filters and metrics."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def extract(pattern: str, text: str, which: int = 0) -> str | None:
    """The match number `which` (-1 the last) of a pattern; of its groups the first that is not empty.

    Returns None when there is none, or only empty groups.
    """
    matches = re.findall(pattern, text)
    if not matches:
        return None
    found = matches[which]
    if isinstance(found, tuple):
        found = next((group for group in found if group), None)
    return found.strip() if found is not None else None


def exact_match(
    answer: str,
    target: str,
    ignore: Sequence[str] = (),
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
) -> bool:
    """Whether two texts are equal after deleting every match of the patterns in `ignore`, in order, from both."""
    return _plain(answer, ignore, ignore_case, ignore_punctuation) == _plain(
        target, ignore, ignore_case, ignore_punctuation
    )


def _plain(text: str, ignore: Sequence[str], ignore_case: bool, ignore_punctuation: bool) -> str:
    for pattern in ignore:
        text = re.sub(pattern, "", text)
    text = text.lower() if ignore_case else text
    return text.translate(_NO_PUNCTUATION) if ignore_punctuation else text


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stop strings: not every provider leaves them out."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
