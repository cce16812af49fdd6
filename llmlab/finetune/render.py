"""From an example to tokens, and which of them are trained on.

The prompt is rendered exactly as the model reads it when it answers (`llmlab.models.local.tokens`): by the chat
template where there is one, as plain text where there is none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError
from llmlab.finetune.formats import Example, Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids, and for each whether its prediction is in the loss."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def labels(self) -> list[int]:
        """The ids, with -100 where nothing is learnt."""
        return [i if t else IGNORED for i, t in zip(self.ids, self.trained, strict=True)]

    def cut(self, length: int) -> Rendered:
        """The first `length` tokens."""
        return Rendered(self.ids[:length], self.trained[:length])


class Renderer:
    """A tokenizer with its template, for training."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer  # its calls are not typed
        self.chats = tokenizer.chat_template is not None
        self.end = str(tokenizer.eos_token or "")

    def __call__(self, example: Example) -> Rendered:
        """What supervised training sees of an example.

        Raises:
            DataError: when the model has no template for it, or the template hides where an answer begins.
        """
        if example.text:
            ids = (*self._encode(example.text, special=True), *self._ending)
            return Rendered(ids, (True,) * len(ids))
        return self.turns(example.context, example.answer, example.where)

    def turns(self, context: Messages, answer: Messages, where: str = "") -> Rendered:
        """A conversation of which the assistant's turns in `answer` are trained on, each with its end token."""
        if not self.chats:
            return self._completion(context, answer, where)
        messages = context + answer
        text = self._template(messages, False, where)
        spans = []
        for i in range(len(context), len(messages)):
            if messages[i].role == "assistant":
                span = self._span(text, messages, i, where)
                if span is None:
                    return self._marked(messages, len(context), where)
                spans.append(span)
        return self._tokens(text, spans, special=False)

    def prompt(self, messages: Messages, where: str = "") -> tuple[int, ...]:
        """What the model reads before it answers."""
        if self.chats:
            return self._encode(self._template(messages, True, where), special=False)
        return self._encode(self._only(messages, where), special=True)

    # -- inside -----------------------------------------------------------------------------------------------

    def _span(self, text: str, messages: Messages, i: int, where: str) -> tuple[int, int] | None:
        """Characters of turn i with its end token; None where the template renders a part unlike the whole."""
        head = self._template(messages[:i], True, where)
        until = self._template(messages[: i + 1], False, where)
        if not (text.startswith(head) and text.startswith(until) and until.startswith(head)):
            return None
        # many templates put a line break after the end token; no model writes it
        end = until.rfind(self.end, len(head)) + len(self.end) if self.end and self.end in until[len(head) :] else 0
        return len(head), end or len(until)

    def _tokens(self, text: str, spans: Sequence[tuple[int, int]], special: bool) -> Rendered:
        encoded = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        # a token that begins before the answer is the prompt's, as the model has read it when it answers
        inside = [
            any(a <= start and stop <= b and start < stop for a, b in spans)
            for start, stop in encoded["offset_mapping"]
        ]
        return Rendered(tuple(encoded["input_ids"]), tuple(inside))

    def _marked(self, messages: Messages, first: int, where: str) -> Rendered:
        """By the template's own `{% generation %}` marks, where rendering in parts does not work."""
        if "generation %}" not in str(self.tokenizer.chat_template) or first:
            raise DataError(
                f"{where}: the chat template renders earlier turns differently once later ones follow, so the answers "
                "cannot be found in its text; give the model a template with {% generation %} marks, or one turn a row"
            )
        made = self.tokenizer.apply_chat_template(
            [_plain(m) for m in messages], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return Rendered(tuple(made["input_ids"]), tuple(bool(m) for m in made["assistant_masks"]))

    def _completion(self, context: Messages, answer: Messages, where: str) -> Rendered:
        """Without a template: the prompt's text, then the answer's with the end token."""
        prompt = self._only(context or answer[:-1], where)
        text = prompt + self._only(answer[-1:], where)
        made = self._tokens(text, [(len(prompt), len(text))], special=True)
        return Rendered(made.ids + self._ending, made.trained + (True,) * len(self._ending))

    def _only(self, messages: Messages, where: str) -> str:
        if len(messages) != 1:
            raise DataError(
                f"{where}: this model's tokenizer has no chat template, so a row can have one prompt and one answer; "
                f"this one has {len(messages)} turns. Take an instruct model, or set tokenizer.chat_template"
            )
        return messages[0].content

    def _template(self, messages: Messages, asks: bool, where: str) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [_plain(m) for m in messages], tokenize=False, add_generation_prompt=asks
                )
            )
        except Exception as error:  # templates are programs of their own and raise what they like
            raise DataError(f"{where}: the chat template does not take this conversation: {error}") from None

    def _encode(self, text: str, special: bool) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    @functools.cached_property
    def _ending(self) -> tuple[int, ...]:
        end = self.tokenizer.eos_token_id
        return () if end is None else (int(end),)


def _plain(message: Any) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
