"""Rows of training data in the forms that people have, turned into one: an `Example`.

| form | fields of a row |
|---|---|
| conversation | `messages` (role, content), or ShareGPT's `conversations` (from, value) |
| completion | `instruction`, `input`, `output` (Alpaca); or `prompt` and `completion`, as text or messages |
| preference | `chosen` and `rejected`, with or without `prompt`; HH-RLHF's texts of "Human: …", "Assistant: …" too |
| labelled | `prompt`, `completion` and `label` (true: good) |
| prompt | `prompt` alone, for rewards; every other field stays in `extra` |
| text | `text` |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from llmlab.benchmarks.sources import Row
from llmlab.errors import DataError
from llmlab.types import Message, Role, digest

Form: TypeAlias = Literal["conversation", "completion", "preference", "labelled", "prompt", "text"]
FORMS: tuple[Form, ...] = get_args(Form)

Messages: TypeAlias = tuple[Message, ...]

# what others call the same thing
_PROMPT = ("prompt", "question", "query", "input")
_COMPLETION = ("completion", "response", "answer", "output", "target")
_ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "system": "system",
}  # fmt: skip
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_HH_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn from.

    Attributes:
        context: turns that are read and not trained on.
        answer: turns after them; the assistant's among them are trained on. With preferences, the chosen answer.
        rejected: the answer that should become less likely.
        label: whether the answer is good.
        text: plain text, all of which is trained on; the turns are then empty.
        extra: further fields of the row.
        where: file and line.
    """

    context: Messages = ()
    answer: Messages = ()
    rejected: Messages = ()
    label: bool | None = None
    text: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def prompt(self) -> Messages:
        """What comes before the first answer."""
        turns = self.context + self.answer
        first = next((i for i, m in enumerate(turns) if i >= len(self.context) and m.role == "assistant"), len(turns))
        return turns[:first]

    @property
    def key(self) -> str:
        """16 hex digits of all that is trained on."""
        return digest(
            *([[m.role, m.content] for m in part] for part in (self.context, self.answer, self.rejected)),
            self.label,
            self.text,
        )

    @property
    def words(self) -> str:
        """All its text, for comparing examples with each other and with benchmarks."""
        return "\n".join([m.content for m in self.context + self.answer] + ([self.text] if self.text else []))


def detect(row: Row) -> Form:
    """The form that a row has, from the names of its fields.

    Raises:
        DataError: when it has none, with the forms there are.
    """
    if "chosen" in row and "rejected" in row:
        return "preference"
    if "messages" in row or "conversations" in row:
        return "conversation"
    prompt, completion = _first(row, ("instruction", *_PROMPT)), _first(row, _COMPLETION)
    if prompt and completion and "label" in row:
        return "labelled"
    if prompt and completion:
        return "completion"
    if "text" in row:
        return "text"
    if prompt:
        return "prompt"
    raise DataError(
        f"{row.where}: no known form of training data: the fields are {', '.join(map(str, row.data)) or 'none'}. "
        "Known: messages; conversations; instruction, input, output; prompt, completion; prompt, chosen, rejected; "
        "prompt, completion, label; text; prompt"
    )


def example(row: Row, form: Form) -> Example:
    """The example in a row.

    Raises:
        DataError: for a field that is missing, empty or of the wrong type, with file, line and field.
    """
    return _READERS[form](row)


def _one_of(row: Row, names: Sequence[str], form: Form) -> str:
    """The first of these fields that the row has."""
    found = _first(row, names)
    if found is None:
        has = ", ".join(map(str, row.data)) or "nothing"
        raise DataError(
            f"{row.where}: no field {names[0]!r} (or {', '.join(names[1:])}) of the form {form!r}; it has {has}"
        )
    return found


def _conversation(row: Row) -> Example:
    field_name = _one_of(row, ("messages", "conversations"), "conversation")
    turns = _turns(row, field_name)
    if "system" in row and row.data["system"] and turns[0].role != "system":
        turns = (Message("system", row.text("system")), *turns)
    if not any(m.role == "assistant" and m.content for m in turns):
        raise DataError(f"{row.where}: no turn of the assistant, so there is nothing to learn from")
    return Example(answer=turns, where=row.where)


def _completion(row: Row) -> Example:
    answer = _answer(row, _one_of(row, _COMPLETION, "completion"))
    return Example(_prompt(row), answer, where=row.where, extra=_rest(row))


def _preference(row: Row) -> Example:
    if "prompt" in row:
        context = _prompt(row)
        chosen, rejected = _answer(row, "chosen"), _answer(row, "rejected")
        if chosen[: len(context)] == context and len(chosen) > len(context):
            # whole conversations beside the prompt
            chosen, rejected = chosen[len(context) :], rejected[len(context) :]
    else:
        one, other = _whole(row, "chosen"), _whole(row, "rejected")
        shared = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        context, chosen, rejected = one[:shared], one[shared:], other[shared:]
    if chosen == rejected:
        raise DataError(f"{row.where}: chosen and rejected are equal, so neither is better")
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            raise DataError(f"{row.where}: field {name!r} should end with a turn of the assistant")
    return Example(context, chosen, rejected, where=row.where)


def _labelled(row: Row) -> Example:
    value = row.data["label"]
    # 1 and 0 are equal to True and False
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    lowered = value.lower() if isinstance(value, str) else value
    if not isinstance(lowered, bool | int | str) or lowered not in known:
        raise row.wrong("label", "true or false", value)
    answer = _answer(row, _one_of(row, _COMPLETION, "labelled"))
    return Example(_prompt(row), answer, label=known[lowered], where=row.where)


def _prompt_only(row: Row) -> Example:
    return Example(_prompt(row), where=row.where, extra=_rest(row))


def _text(row: Row) -> Example:
    text = row.text("text")
    if not text.strip():
        raise DataError(f"{row.where}: field 'text' is empty")
    return Example(text=text, where=row.where)


_READERS: dict[Form, Callable[[Row], Example]] = {
    "conversation": _conversation,
    "completion": _completion,
    "preference": _preference,
    "labelled": _labelled,
    "prompt": _prompt_only,
    "text": _text,
}


def _prompt(row: Row) -> Messages:
    """The turns before the answer. Alpaca's `input` follows its instruction after a blank line."""
    if "instruction" in row:
        more = row.data.get("input")
        if more is not None and not isinstance(more, str):
            raise row.wrong("input", "text", more)
        text = _filled(row, "instruction")
        turns: Messages = (Message("user", f"{text}\n\n{more}" if more else text),)
    else:
        name = _one_of(row, _PROMPT, "prompt")
        value = _parsed(row.data[name])
        turns = _turns(row, name) if isinstance(value, list | tuple) else (Message("user", _filled(row, name)),)
    if "system" in row and row.data["system"] and turns[0].role != "system":
        turns = (Message("system", row.text("system")), *turns)
    return turns


def _answer(row: Row, name: str) -> Messages:
    if isinstance(_parsed(row.data[name]), list | tuple):
        return _turns(row, name)
    return (Message("assistant", _filled(row, name)),)


def _whole(row: Row, name: str) -> Messages:
    """A whole conversation, as turns or in HH-RLHF's text."""
    value = _parsed(row.data[name])
    if isinstance(value, list | tuple):
        return _turns(row, name)
    text = _filled(row, name)
    parts = _TURN.split(text if text.startswith("\n\n") else "\n\n" + text)
    if parts[0].strip() or len(parts) < 3:
        raise row.wrong(name, "turns, or text of '\\n\\nHuman: …\\n\\nAssistant: …'; or add a field 'prompt'", value)
    return tuple(Message(_HH_ROLES[who], said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True))


def _turns(row: Row, name: str) -> Messages:
    value = _parsed(row.data[name])
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise row.wrong(name, "a list of turns with role and content", row.data[name])
    return tuple(_turn(row, name, i, turn) for i, turn in enumerate(value))


def _turn(row: Row, name: str, number: int, turn: object) -> Message:
    where = f"{name}[{number}]"
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping):
        raise row.wrong(where, "an object with role and content", turn)
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise row.wrong(f"{where}.role", f"one of {', '.join(_ROLES)}", role)
    if isinstance(content, Sequence) and not isinstance(content, str):
        # text in parts, as providers' APIs take it
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if parts and len(texts) == len(parts) else content
    if not isinstance(content, str):
        raise row.wrong(f"{where}.content", "text", content)
    return Message(_ROLES[role.lower()], content)


def _parsed(value: object) -> object:
    """Turns that a table holds as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    # parquet gives arrays
    return value.tolist() if hasattr(value, "tolist") else value


def _filled(row: Row, name: str) -> str:
    text = row.text(name)
    if not text.strip():
        raise DataError(f"{row.where}: field {name!r} is empty")
    return text


def _rest(row: Row) -> dict[str, Any]:
    own = {*_PROMPT, "instruction", "system"}
    return {k: v for k, v in row.data.items() if k not in own}


def _first(row: Row, names: Sequence[str]) -> str | None:
    return next((name for name in names if row.data.get(name) is not None), None)
