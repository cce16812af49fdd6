"""Multiple choice on every model: the first protocol of `model.protocols` that works.

- loglikelihood: the choice whose text is likeliest after the question; softmax over summed log-probabilities.
- decision: the provider's own typed decision.
- letter_logprob: options shown as A) B) ...; probabilities of the letters as the first generated token.
- letter: options shown; the model writes a letter, which only yields a pick.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmlab.errors import BadRequest, DataError, NeedsLocalModel, UnknownName
from llmlab.types import NAN, Decision, Message, Protocol, Request, Response

if TYPE_CHECKING:
    from llmlab.models.base import Model

LETTERS = string.ascii_uppercase
PROTOCOLS: tuple[Protocol, ...] = ("loglikelihood", "decision", "letter_logprob", "letter")
_TOP = 20


def decide(model: Model, request: Request, choices: tuple[str, ...], protocol: Protocol | None = None) -> Decision:
    """Pick one of `choices`; see `Model.decide`.

    Raises:
        DataError: for fewer than two choices, repeated ones, or more than there are letters where letters are used.
        UnknownName: for a protocol that the model does not have.
    """
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise DataError(f"decide needs at least two different choices; got {list(choices)!r}")
    known = tuple(p for p in PROTOCOLS if p in model.protocols)
    if protocol is not None:
        if protocol not in known:
            raise UnknownName.among(f"decision protocol of {model.name}", protocol, known)
        return _by(model, request, choices, protocol)
    failure: Exception | None = None
    for candidate in known:
        try:
            return _by(model, request, choices, candidate)
        except (NeedsLocalModel, NotImplementedError, BadRequest) as error:
            failure = failure or error
    raise failure or UnknownName.among(f"decision protocol of {model.name}", None, known)


def _by(model: Model, request: Request, choices: tuple[str, ...], protocol: Protocol) -> Decision:
    if protocol == "loglikelihood":
        return _loglikelihood(model, request, choices)
    if protocol == "decision":
        return model._decide(request, choices, protocol)
    return read_letter(model.name, model.generate(ask_letter(request, choices, protocol)), choices, protocol)


def ask_letter(request: Request, choices: Sequence[str], protocol: Protocol) -> Request:
    """What "letter" and "letter_logprob" ask of `generate`.

    Raises:
        DataError: for more choices than there are letters.
    """
    if len(choices) > len(LETTERS):
        raise DataError(f"a decision by letter has at most {len(LETTERS)} choices; got {len(choices)}")
    shown = show(request, choices)
    if protocol == "letter":
        return shown
    options = replace(shown.options, top_logprobs=_TOP, max_tokens=shown.options.max_tokens or 4)
    return replace(shown, options=options)


def read_letter(name: str, response: Response, choices: tuple[str, ...], protocol: Protocol) -> Decision:
    """The decision in what the model called `name` answered to `ask_letter`.

    Raises:
        NeedsLocalModel: when it has no log-probabilities and the protocol needs them.
    """
    if protocol == "letter_logprob":
        return _letter_logprob(name, response, choices)
    return Decision(choices, (NAN,) * len(choices), _read(response, choices), "letter", response)


def _loglikelihood(model: Model, request: Request, choices: tuple[str, ...]) -> Decision:
    context = "\n\n".join(m.content for m in request.messages).rstrip()
    if not context.endswith(":"):
        context += "\nAnswer:"
    changed = (request.interventions,) if request.interventions else ()
    found = model.logprob(context, [f" {choice}" for choice in choices], *changed)
    return _softmax(choices, [f.logprob for f in found], "loglikelihood")


def _letter_logprob(name: str, response: Response, choices: tuple[str, ...]) -> Decision:
    if response.finish_reason == "refusal":
        return Decision(choices, (NAN,) * len(choices), None, "letter_logprob", response)
    if response.logprobs == () and not response.text:
        # it ended at once: an answer that names no letter, not a model without log-probabilities
        return Decision(choices, (NAN,) * len(choices), None, "letter_logprob", response)
    if not response.logprobs:
        raise NeedsLocalModel(f"{name} returned no log-probabilities; use protocol='letter'")
    first = next((t for t in response.logprobs if t.token.strip()), response.logprobs[0])
    shares = [0.0] * len(choices)
    for token, logprob in dict([*first.top, (first.token, first.logprob)]).items():
        # "B", " B", "(B", "B)": different tokens, the same answer
        letter = token.strip(" \n\t()[]*.:").upper()
        if len(letter) == 1 and letter in LETTERS[: len(choices)]:
            shares[LETTERS.index(letter)] += math.exp(logprob)
    total = math.fsum(shares)
    if total == 0:
        return Decision(choices, (NAN,) * len(choices), _read(response, choices), "letter_logprob", response)
    probabilities = tuple(share / total for share in shares)
    pick = max(range(len(choices)), key=probabilities.__getitem__)
    return Decision(choices, probabilities, pick, "letter_logprob", response)


def _softmax(choices: tuple[str, ...], logprobs: Sequence[float], protocol: Protocol) -> Decision:
    if any(math.isnan(value) for value in logprobs):
        return Decision(choices, (NAN,) * len(choices), None, protocol)
    best = max(logprobs)
    weights = [math.exp(value - best) for value in logprobs]
    total = math.fsum(weights)
    return Decision(choices, tuple(w / total for w in weights), logprobs.index(best), protocol)


def show(request: Request, choices: Sequence[str]) -> Request:
    """The request with the options under its last turn, and the wish for a letter."""
    options = "\n".join(f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    last = request.messages[-1]
    text = f"{last.content.rstrip()}\n\n{options}\n\nAnswer with the letter of the right option only."
    return replace(request, messages=(*request.messages[:-1], Message(last.role, text)))


def _read(response: Response, choices: Sequence[str]) -> int | None:
    if response.finish_reason == "refusal":
        return None
    return read_choice(response.text, choices)


def read_choice(text: str, choices: Sequence[str]) -> int | None:
    """Which option an answer picks, None when it picks none or several.

    >>> options = ["Paris", "Rome", "Bern"]
    >>> read_choice("B", options), read_choice("**(c)** Bern", options), read_choice("The answer is A.", options)
    (1, 2, 0)
    >>> read_choice("I think it is Rome.", options), read_choice("A or B", options), read_choice("A city.", options)
    (1, None, None)
    """
    letters = LETTERS[: len(choices)]
    said = text.strip()
    for pattern in _patterns(letters):
        found = {letters.index(m.upper()) for m in re.findall(pattern, said)}
        if found:
            return found.pop() if len(found) == 1 else None
    named = {i for i, choice in enumerate(choices) if _contains(said, choice)}
    # "New York" also contains "York": the longer name is meant
    named = {i for i in named if not any(i != j and _contains(choices[j], choices[i]) for j in named)}
    return named.pop() if len(named) == 1 else None


def _patterns(letters: str) -> tuple[str, ...]:
    one = f"[{letters}{letters.lower()}]"
    upper = f"[{letters}]"
    return (
        rf"^\W*({one})\W*$",  # nothing but a letter
        rf"\\boxed\{{\W*({one})\W*\}}",
        # "answer: b", "the correct option is (B)"; an article after "is" is no answer
        rf"(?i:answer|option|choice)(?i:\s+is)?\s*[:=]?\s*[\"'*(\[]*({upper})\b(?![ \w]*[a-z]{{2}})",
        rf"^[\W_]*({upper})\s*[).:\]*]",  # "B) Rome", "**B**: Rome"
        rf"^\W*\(({one})\)",
        rf"[(*\[]({upper})[)*\]]",  # "... so (B)"
        # a letter on its own; "A" and "I" are words as well, unless a list goes on
        rf"(?<![\w'])((?![AI]\s+(?!or\b|and\b)\w){upper})(?![\w'])",
    )


def _contains(text: str, part: str) -> bool:
    wanted = part.strip().rstrip(".").casefold()
    return bool(wanted) and re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text.casefold()) is not None
