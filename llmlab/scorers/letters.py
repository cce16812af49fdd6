"""The scorer for multiple choice: reads a letter or the text of an option out of an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from llmlab.errors import DataError
from llmlab.scorers.base import Rule, no_target, normalise, shorten
from llmlab.types import Sample, Score

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Choice(Rule):
    """The answer picks the right option."""

    name: ClassVar[str] = "choice"

    def __call__(self, text: str, sample: Sample) -> Score:
        if len(sample.choices) < 2:
            raise DataError(f"sample {sample.id}: choice needs at least two choices, it has {len(sample.choices)}")
        if sample.target is None:
            return no_target(sample)
        target = right_index(sample)
        pick = read_choice(text, sample.choices)
        if pick is None:
            return Score(0.0, None, "no option could be read", parsed=False)
        shown = f"{LETTERS[pick]}: {shorten(sample.choices[pick])}"
        return Score(float(pick == target), LETTERS[pick], f"{shown}; right is {LETTERS[target]}")


def choice() -> Choice:
    """The answer names the right option, by letter or by its text.

    The target of the sample is the index of the right option, its letter, or its text. What is read, in order: a
    letter after "answer" (the last one), an answer that is only a letter, the text of one option, one letter standing
    alone. Two different options of equal standing are read as none.

    >>> choice()("I think it is (B).", Sample("2 + 2?", 1, choices=("3", "4"))).value
    1.0
    """
    return Choice()


def right_index(sample: Sample) -> int:
    """Index of the right option.

    Raises:
        DataError: when the target is not one of the options.
    """
    target = sample.target
    if isinstance(target, int) and 0 <= target < len(sample.choices):
        return target
    if isinstance(target, str):
        texts = [normalise(option) for option in sample.choices]
        if normalise(target) in texts:
            return texts.index(normalise(target))
        if target.strip().upper() in LETTERS[: len(sample.choices)] and len(target.strip()) == 1:
            return LETTERS.index(target.strip().upper())
    raise DataError(
        f"sample {sample.id}: target {target!r} is not one of its {len(sample.choices)} choices "
        f"(index from 0, letter from A, or text): {shorten(', '.join(sample.choices), 200)}"
    )


def read_choice(text: str, choices: Sequence[str]) -> int | None:
    """Index of the option that an answer picks, None when that is not clear."""
    letters = LETTERS[: len(choices)]
    marked = re.findall(
        rf"(?i:answer|option|choice)(?i:\s+is)?\s*[:=]?\s*[*$\"'(\[]*([{letters}{letters.lower()}])(?![\w'])", text
    )
    if marked:
        return letters.index(marked[-1].upper())
    alone = re.fullmatch(rf"[\s*\"'(\[]*([{letters}{letters.lower()}])[\s*\"')\].:]*", text)
    if alone:
        return letters.index(alone[1].upper())
    return _by_text(normalise(text), [normalise(option) for option in choices], text, letters)


def _by_text(plain: str, options: Sequence[str], text: str, letters: str) -> int | None:
    if plain.strip(" .!\"'*") in options:
        return options.index(plain.strip(" .!\"'*"))
    # "B) four" at the start counts for the letter even when other options are mentioned later
    leading = re.match(rf"\s*[*(\[\"']*([{letters}])[)\].:,]", text)
    if leading:
        return letters.index(leading[1])
    named = [i for i, option in enumerate(options) if option and _stands_in(option, plain)]
    # an option that is part of a longer one that was named was not named itself
    named = [i for i in named if not any(i != j and options[i] in options[j] for j in named)]
    if len(named) == 1:
        return named[0]
    # "A" alone could be the article
    lone = set(re.findall(rf"(?<![\w'])([{letters}])(?![\w'])", re.sub(r"\bA (?!or |and )(?=[a-z])", "", text)))
    return letters.index(lone.pop()) if len(lone) == 1 and not named else None


def _stands_in(option: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text) is not None
