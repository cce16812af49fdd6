"""Text to token ids and back: prompts, chat templates, and pairs of context and continuation."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.errors import BadRequest
from llmlab.models.local.thinking import OPEN
from llmlab.types import Message, Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Pair:
    """A continuation to be scored after its context, as token ids; neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def input(self) -> tuple[int, ...]:
        """What the model reads: everything but the last token, which is only predicted."""
        return self.context + self.continuation[:-1]


class Prompt(NamedTuple):
    """What the model reads before it answers.

    Attributes:
        ids: the tokens.
        chat: whether they are in the chat template.
        opened: whether the template has begun a thinking block that the model goes on with.
        folded: whether the system message became a part of the first user turn.
    """

    ids: list[int]
    chat: bool = False
    opened: bool = False
    folded: bool = False


class Tokens:
    """A tokenizer as lm-evaluation-harness 0.4.13 uses one (`api/model.py`, `models/huggingface.py`)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # fast tokenizers cannot be used by two threads at once ("Already borrowed")
        self.lock = threading.Lock()
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.prefix = None if prefix is None else int(prefix)
        self._prefix_text = "" if self.prefix is None else self._decode([self.prefix])

    def encode(self, text: str) -> list[int]:
        """Token ids, with the special tokens that the tokenizer adds by itself; a BOS in the text is not doubled."""
        if self._prefix_text and text.startswith(self._prefix_text):
            return self._encode(text, special=False)
        with self.lock:
            # lengths are checked where the context is known; transformers' warning would tell of "indexing errors"
            return list(self.tokenizer.encode(text, verbose=False))

    def pairs(self, context: str, continuations: Sequence[str]) -> list[Pair]:
        """Split context + continuation into token ids.

        Trailing white space of the context moves to the continuation, because most tokenizers put a space at the
        start of a word. The continuation is what follows the context's own number of tokens; where the two
        merge into one token, what follows their common beginning. An empty context is one BOS (else EOS) token.

        Raises:
            BadRequest: for an empty continuation.
        """
        stripped = context.rstrip()
        moved = context[len(stripped) :]
        head = self.encode(stripped) if stripped else []
        found = []
        for i, continuation in enumerate(continuations):
            if not continuation:
                raise BadRequest(f"continuation {i} of {context[-60:]!r} is empty: there is nothing to score")
            found.append(self._pair(stripped, head, moved + continuation))
        return found

    def _pair(self, context: str, head: list[int], continuation: str) -> Pair:
        if not context:
            return self._first(self._encode(continuation, special=False))
        whole = self.encode(context + continuation)
        if len(whole) > len(head):
            return Pair(tuple(head), tuple(whole[len(head) :]))
        shared = next((i for i, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), len(whole) - 1)
        shared = min(shared, len(whole) - 1)
        return Pair(tuple(whole[:shared]), tuple(whole[shared:])) if shared else self._first(whole)

    def _first(self, ids: list[int]) -> Pair:
        if self.prefix is None:
            raise BadRequest("an empty context needs a BOS or EOS token, and this tokenizer has neither")
        if ids[0] == self.prefix and len(ids) > 1:
            return Pair((ids[0],), tuple(ids[1:]))
        return Pair((self.prefix,), tuple(ids))

    def prompt(self, request: Request) -> list[int]:
        """The tokens of a request's prompt; raises as `read`."""
        return self.read(request).ids

    def read(self, request: Request) -> Prompt:
        """What the model reads before it answers.

        Raises:
            BadRequest: when a chat template is asked for and there is none, or it does not take these messages.
        """
        has_template = self.tokenizer.chat_template is not None
        if request.template and not has_template:
            raise BadRequest("the tokenizer has no chat template: leave `template` at None, or send plain text")
        if has_template if request.template is None else request.template:
            # the template writes BOS itself where the model wants one
            text, folded = self._chat(request.messages)
            return Prompt(self._encode(text, special=False), True, text.rstrip().endswith(OPEN), folded)
        ids = self.encode(plain(request.messages))
        if not ids and self.prefix is None:
            raise BadRequest("the prompt is empty, and the tokenizer has no BOS or EOS token to begin with")
        return Prompt(ids or [self.prefix or 0])

    def chat(self, messages: Sequence[Message]) -> str:
        """The messages in the chat template, open for the assistant's turn (or to go on with its last one).

        A system message that the template does not know becomes the beginning of the first user turn.
        """
        return self._chat(messages)[0]

    def _chat(self, messages: Sequence[Message]) -> tuple[str, bool]:
        """The text, and whether the system message was merged into a user turn."""
        import jinja2

        try:
            text = self._render(messages)
        except jinja2.TemplateSyntaxError as error:
            raise BadRequest(
                f"the chat template is broken: {error} (line {error.lineno}); repair it (chat_template.jinja), or send "
                "text without it (template=False)"
            ) from error
        except Exception as error:  # templates raise whatever they like
            if not _has_system(messages):
                raise BadRequest(f"the chat template does not take these messages: {error}") from error
            return self._chat(_merge_system(messages))[0], True
        if _has_system(messages) and messages[0].content.strip() not in text:
            return self._render(_merge_system(messages)), True
        return text, False

    def _render(self, messages: Sequence[Message]) -> str:
        goes_on = bool(messages) and messages[-1].role == "assistant"
        rendered = self.tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages],
            tokenize=False,
            add_generation_prompt=not goes_on,
            continue_final_message=goes_on,
        )
        assert isinstance(rendered, str)
        return rendered

    def answer(self, ids: Sequence[int]) -> str:
        """Generated tokens as text, without special tokens."""
        with self.lock:
            text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def raw(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens included: where stop strings are looked for."""
        return self._decode(list(ids))

    def _decode(self, ids: list[int]) -> str:
        with self.lock:
            return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _encode(self, text: str, *, special: bool) -> list[int]:
        with self.lock:
            return list(self.tokenizer.encode(text, add_special_tokens=special, verbose=False))

    def stops(self, generation_config: Any) -> frozenset[int]:
        """Ids that end an answer: the model's own, and the tokenizer's EOS."""
        own = getattr(generation_config, "eos_token_id", None)
        ids = own if isinstance(own, list) else [own]
        return frozenset(int(i) for i in (*ids, self.tokenizer.eos_token_id) if i is not None)


def plain(messages: Sequence[Message]) -> str:
    """Messages as a text to be continued: one message as it is, a conversation with the speakers' names."""
    if not any(m.role == "assistant" for m in messages):
        return "\n\n".join(m.content for m in messages)
    turns = [m.content if m.role == "system" else f"{m.role.capitalize()}: {m.content}" for m in messages]
    return "\n\n".join(turns if messages[-1].role == "assistant" else [*turns, "Assistant:"])


def _has_system(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[0].role == "system"


def _merge_system(messages: Sequence[Message]) -> list[Message]:
    system, rest = messages[0], list(messages[1:])
    if rest and rest[0].role == "user":
        return [Message("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:]]
    return [Message("user", system.content), *rest]
