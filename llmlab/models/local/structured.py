"""Answers that follow a JSON schema: after each token llguidance says which ones may come next.

https://github.com/guidance-ai/llguidance, as vLLM and SGLang use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmlab.errors import BadRequest, MissingPackage
from llmlab.models.local.thinking import CLOSE
from llmlab.models.local.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

_POSSIBLE = "https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md"
# a line break and an indentation at most: models that are unsure write white space without end
_LAYOUT: Any = {"whitespace_pattern": r"\n? {0,16}"}


def vocabulary(tokens: Tokens, ends: frozenset[int], size: int, name: str) -> Any:
    """What each token writes, as `llguidance.LLTokenizer`; takes a second where there are 100,000 of them.

    Args:
        tokens: the tokenizer.
        ends: ids that end an answer.
        size: how many logits the model has.
        name: of the model, for errors.

    Raises:
        MissingPackage: without llguidance.
        BadRequest: for a tokenizer that llguidance does not read.
    """
    try:
        from llguidance.hf import from_tokenizer
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"{name} follows a schema with the package 'llguidance': pip install 'llmlab[local]'"
        ) from error
    tokenizer: Any = tokens.tokenizer
    try:
        with tokens.lock:
            return from_tokenizer(tokenizer, n_vocab=max(size, len(tokenizer)), eos_token=sorted(ends))
    except ValueError as error:
        raise BadRequest(f"{name} cannot be held to a schema, its tokenizer does not allow it: {error}") from error


class Form:
    """One answer's way through a schema.

    Args:
        schema: JSON schema; properties are written in its order.
        vocabulary: see `vocabulary`.
        tokens: the tokenizer.
        thinking: whether the answer begins inside a thinking block, after which the schema holds.

    Raises:
        BadRequest: for a schema that is wrong, that nothing can fulfil, or with keywords that llguidance lacks.
    """

    def __init__(self, schema: Mapping[str, Any], vocabulary: Any, tokens: Tokens, *, thinking: bool = False) -> None:
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=_LAYOUT)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadRequest(f"the schema is no JSON schema: {error}") from error
        self._matcher = LLMatcher(vocabulary, grammar, log_level=0)
        if self._matcher.is_error():
            raise BadRequest(
                f"a local model cannot be held to this schema: {self._error}; what is possible: {_POSSIBLE}"
            )
        self._vocabulary = vocabulary
        self._tokens = tokens
        self._thinks = thinking
        self._thought: list[int] | None = [] if thinking else None

    @property
    def whole(self) -> bool:
        """Whether the answer fulfils the schema as it is."""
        return self._thought is None and bool(self._matcher.is_accepting())

    @property
    def _error(self) -> str:
        """What went wrong, without the state of the parser that follows."""
        return str(self._matcher.get_error()).partition("\n\n")[0].partition("\n<state>")[0]

    def allowed(self, logits: Tensor) -> Tensor:
        """Logits (vocabulary,) of the next token, -inf for what the schema does not allow.

        Raises:
            BadRequest: when no token goes on, or the schema is too complex to be followed.
        """
        import numpy as np
        import torch

        if self._thought is not None:
            return logits
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        mask = torch.from_numpy(bits[: len(logits)]).to(logits.device, torch.bool)
        if self._matcher.is_error() or not mask.any():
            raise BadRequest(f"no token can go on with the answer as its schema says: {self._error or 'none is left'}")
        return logits.masked_fill(~mask, float("-inf"))

    def take(self, token: int) -> bool:
        """Go on with a token; whether nothing may follow it."""
        if self._thought is None:
            self._matcher.consume_token(token)
            return bool(self._matcher.is_stopped() and not self._matcher.is_error())
        self._thought.append(token)
        # the mark is in the last few tokens, or not there yet
        _, closed, answer = self._tokens.raw(self._thought[-len(CLOSE) :]).partition(CLOSE)
        if closed:
            self._thought = None
            self._matcher.consume_tokens(self._vocabulary.tokenize_str(answer.lstrip()))
        return False

    def restart(self) -> None:
        """Back to the beginning."""
        self._matcher.reset()
        self._thought = [] if self._thinks else None
