"""Token by token: rows that share a batch, each with its own sampling, stops and length."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from llmlab.errors import BadRequest, LabError, ProviderError
from llmlab.models.local.tokens import Tokens
from llmlab.types import FinishReason, Options, Request, TokenLogprob, digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from llmlab.models.local.decoding import Decoder
    from llmlab.models.local.structured import Form

DEFAULT_MAX_TOKENS = 256


def check(options: Options) -> None:
    """Make sure that options make sense.

    Raises:
        BadRequest: naming the one that does not.
    """
    rules: list[tuple[str, Any, float, float, str]] = [
        ("max_tokens", Integral, 1, math.inf, "at least 1"),
        ("temperature", Real, 0, sys.float_info.max, "0 (greedy) or more"),
        ("top_p", Real, 0, 1, "from 0 to 1"),
        ("top_k", Integral, 0, math.inf, "0 (all tokens) or more"),
        ("top_logprobs", Integral, 0, math.inf, "0 or more"),
    ]
    for name, kind, least, most, wanted in rules:
        value = getattr(options, name)
        if value is not None and not (isinstance(value, kind) and least <= value <= most):
            raise BadRequest(f"{name} should be {wanted}, it is {value!r}")


@dataclass(eq=False)
class Row:
    """One answer while it is written.

    Attributes:
        prompt: token ids the model reads.
        limit: how many tokens may be generated.
        ends: token ids that end the answer; they are not part of it.
        form: which tokens may come next, None for all of them.
        written: generated token ids.
        begun: whether its prompt has been read, or is being read.
        seconds: this row's share of the time of its batches.
    """

    prompt: tuple[int, ...]
    limit: int
    options: Options
    tokens: Tokens
    ends: frozenset[int]
    generator: torch.Generator | None
    form: Form | None = None
    written: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason | None = None
    error: LabError | None = None
    begun: bool = False
    seconds: float = 0.0

    @classmethod
    def of(
        cls,
        request: Request,
        prompt: Sequence[int],
        tokens: Tokens,
        ends: frozenset[int],
        context: int,
        form: Form | None = None,
    ) -> Row:
        """A row for a request whose prompt leaves room in the context."""
        options = request.options
        limit = min(options.max_tokens or DEFAULT_MAX_TOKENS, context - len(prompt))
        return cls(tuple(prompt), limit, options, tokens, ends, generator(request), form)

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end the answer."""
        return tuple(stop for stop in self.options.stop or () if stop)

    def restart(self) -> None:
        """Back to the beginning, after a batch that was too large."""
        self.written, self.logprobs, self.finish, self.error, self.begun = [], [], None, None, False
        if self.generator is not None:
            self.generator.manual_seed(self.generator.initial_seed())
        if self.form is not None:
            self.form.restart()

    @property
    def done(self) -> bool:
        """Whether nothing more is to be written."""
        return self.finish is not None or self.error is not None

    def take(self, token: int) -> None:
        """Append a token, or end the answer."""
        if token in self.ends:
            self.finish = "stop"
            return
        self.written.append(token)
        whole = self.form is not None and self.form.take(token)
        if whole or self._stopped():
            self.finish = "stop"
        elif len(self.written) >= self.limit:
            self.finish = "length"

    def _stopped(self) -> bool:
        stops = self.stops
        if not stops:
            return False
        # a stop string that ends in the last token begins at most its own length before: a token is a character or more
        recent = self.tokens.raw(self.written[-max(map(len, stops)) - 8 :])
        return any(stop in recent for stop in stops)

    @property
    def text(self) -> str:
        """The answer so far, cut at the first stop string."""
        text = self.tokens.answer(self.written)
        for stop in self.stops:
            text = text.partition(stop)[0]
        return text

    @property
    def settled_text(self) -> str:
        """The part of the text that no later token can take back."""
        text = self.text
        if self.done:
            return text
        # a character whose bytes are not all there yet decodes to U+FFFD
        text = text.rstrip("\ufffd")
        held = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return text[: len(text) - max(held, default=0)]


def generator(request: Request) -> torch.Generator | None:
    """The row's own source of randomness, None for greedy decoding.

    It depends on the prompt, the seed and the repeat alone, so the answer does not depend on the batch.
    """
    options = request.options
    if not options.temperature:
        return None
    import torch

    seed = int(digest(request.prompt_hash, options.seed or 0, request.repeat), 16) % (1 << 63)
    return torch.Generator().manual_seed(seed)


def sample(logits: Tensor, options: Options, source: torch.Generator) -> int:
    """Draw from logits (vocabulary,): temperature, then top_k, then top_p.

    One uniform number is looked up in the cumulative distribution in the order of the ids, so that rounding, which
    differs between batches, almost never changes a draw.
    """
    import torch

    assert options.temperature
    shares = torch.softmax(logits.double().cpu() / options.temperature, -1)
    if options.top_k is not None and 0 < options.top_k < len(shares):
        shares = shares * (shares >= shares.topk(options.top_k).values[-1])
    if options.top_p is not None and options.top_p < 1:
        ordered, ids = shares.sort(descending=True, stable=True)
        # the smallest set that reaches top_p of what is left, never empty
        kept = int((ordered.cumsum(-1) < options.top_p * ordered.sum()).sum()) + 1
        shares = shares.index_fill(0, ids[kept:], 0.0)
    cumulative = shares.cumsum(-1)
    u = torch.rand((), generator=source, dtype=torch.float64) * cumulative[-1]
    # of several ids with the same cumulative share the first is the one that has a share
    return min(int(torch.searchsorted(cumulative, u, right=True)), int(shares.nonzero()[-1]))


def write(decoder: Decoder, waiting: deque[Row], size: int) -> Iterator[None]:
    """Write all rows to their end, at most `size` at a time; yields after every token of the batch.

    Finished rows leave at once. Where the decoder allows it, others join as soon as a quarter of the places is free;
    more of them may be put into `waiting` meanwhile. A row that gets its error from elsewhere leaves, too.
    """
    import torch

    active = list[Row]()
    while waiting or active:
        began = time.perf_counter()
        with torch.inference_mode():
            if waiting and (not active or (decoder.joins and len(active) <= size * 3 // 4)):
                new = _next(waiting, size - len(active))
                if not new:
                    continue
                weights = [len(row.prompt) for row in new]
                for row in new:
                    row.begun = True
                _take(new, decoder.add([row.prompt for row in new]))
                active += new
            else:
                new, weights = active, [1] * len(active)
                _take(active, decoder.step([row.written[-1] for row in active]))
            left = [i for i, row in enumerate(active) if not row.done]
            if len(left) < len(active):
                active = [active[i] for i in decoder.keep(left)]
        _share(new, time.perf_counter() - began, weights)
        yield


def _next(waiting: deque[Row], n: int) -> list[Row]:
    """Take at most n rows that are still to be written."""
    new: list[Row] = []
    while waiting and len(new) < n:
        row = waiting.popleft()
        if not row.done:
            new.append(row)
    return new


def _share(rows: Sequence[Row], seconds: float, weights: Sequence[int]) -> None:
    total = sum(weights)
    for row, weight in zip(rows, weights, strict=True):
        row.seconds += seconds * weight / total


def _take(rows: Sequence[Row], logits: Tensor) -> None:
    """Choose the next token of every row from logits (rows, vocabulary)."""
    best, greedy = logits.max(-1)
    picks = greedy.tolist()
    broken = best.isnan().tolist()
    for i, row in enumerate(rows):
        if broken[i]:
            row.error = ProviderError("the model's logits are NaN here (weights or dtype are broken)")
            continue
        try:
            token = picks[i] if row.generator is None and row.form is None else _pick(row, logits[i])
        except LabError as error:
            row.error = error
            continue
        if row.options.top_logprobs is not None and token not in row.ends:
            row.logprobs.append(_logprob(logits[i], token, row))
        row.take(token)


def _pick(row: Row, logits: Tensor) -> int:
    if row.form is not None:
        logits = row.form.allowed(logits)
    return int(logits.argmax()) if row.generator is None else sample(logits, row.options, row.generator)


def _logprob(logits: Tensor, token: int, row: Row) -> TokenLogprob:
    logprobs = logits.float().log_softmax(-1)
    values, ids = logprobs.topk(row.options.top_logprobs or 0)
    top = tuple((row.tokens.raw([i]), v) for v, i in zip(values.tolist(), ids.tolist(), strict=True))
    return TokenLogprob(row.tokens.raw([token]), float(logprobs[token]), top)
