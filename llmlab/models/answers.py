"""What an answer comes down to, so that answers in different words can be counted as the same."""

from __future__ import annotations

import re

from llmlab.scorers.numbers import numbers

_MARKED = re.compile(r"\\boxed\{([^{}]*)\}|####\s*(.+)|\b(?:answer|result)\b(?:\s+is\b)?\s*[:=]?\s*(.+)", re.IGNORECASE)
_LETTER = re.compile(r"[\s*\"'(\[]*([A-Z])(?:[)\].:*]|\s*$)")


def final_answer(text: str) -> str | None:
    r"""The letter, number or words that an answer ends in; None for an empty one.

    Looked at is what follows the last "answer", "####" or \boxed, else the whole text. In it count, in order: a
    letter that opens it, the last number, the words without case, marks and spaces at the ends.

    >>> final_answer("17 * 3 = 51, so the answer is 51.0."), final_answer("**B)** Paris"), final_answer("It's Paris!")
    ('51', 'B', "it's paris")
    """
    marked = list(_MARKED.finditer(text))
    part = next(group for group in marked[-1].groups() if group is not None) if marked else text
    letter = _LETTER.match(part)
    if letter:
        return letter[1]
    if found := numbers(part):
        return f"{found[-1].value:.12g}"
    words = " ".join(part.casefold().split()).strip(" .,;:!?*\"'`()[]")
    return words or None
