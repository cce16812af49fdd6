"""Attention over packed sequences, generic over the families that use transformers' AttentionInterface.

Many sequences stand in one row without padding. Each sees its own tokens and, where there is one, a prefix that all
of them begin with and whose keys and values were computed once. The two parts are computed apart and merged
by their log-sum-exp, as in FlashAttention (Dao et al. 2022, https://arxiv.org/abs/2205.14135), so the keys
and values of the prefix are never copied. What a model does besides (rotary positions, norms, gates) is untouched.

Windows, capped scores, sinks and position biases are not done here: `attend` refuses what it does not know, and
`llmlab.models.local.check` compares with plain attention before any result is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from llmlab.models.local.interventions import Sides
from llmlab.models.local.undo import surely

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "llmlab_packed"
# arguments of other attention functions that are harmless here, whatever their value
_HARMLESS = frozenset(
    {"position_ids", "output_attentions", "output_router_logits", "use_cache", "is_causal", "cache_position"}
)


class KeyValue(NamedTuple):
    """Keys and values of one layer, each (1, groups, length, width)."""

    key: Tensor
    value: Tensor


Prefix = dict[int, KeyValue]
"""Keys and values by layer."""


class Unsupported(Exception):
    """This model's attention does something that packed attention does not."""


class Plan(Protocol):
    """How the tokens of one forward pass see each other."""

    def sides(self) -> Sides:
        """Which of the tokens are an answer's."""
        ...

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention output for query (batch, heads, length, width) and key, value (batch, groups, length, width)."""
        ...


class Segment(NamedTuple):
    """One sequence in the pack: a stem that is read in order, then tails that branch off it.

    start, stem, end: the stem is at start:stem, its tails at stem:end. mask: (end - stem, end - start), 0 where a
    token of a tail sees a token of the segment and -inf elsewhere; None without tails.
    """

    start: int
    stem: int
    end: int
    mask: Tensor | None = None


@dataclass
class Packed:
    """Segments side by side in one row, behind a prefix or none.

    device: where the model is. keep: called with each layer's keys and values of the pack. asked: whether an answer
    begins where a stem ends; prefixes end before.
    """

    segments: Sequence[Segment]
    prefix: Prefix | None = None
    device: torch.device | str = "cpu"
    keep: Callable[[int, Tensor, Tensor], None] | None = None
    asked: bool = True

    def sides(self) -> Sides:
        if not self.asked:
            return -1
        found = torch.full((1, max(segment.end for segment in self.segments)), -1)
        for _, stem, end, _ in self.segments:
            found[0, stem - 1], found[0, stem:end] = 0, 1
        return found

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        if self.keep is not None:
            self.keep(layer, key, value)
        out, lse = self._own(query, key, value, scale) if on_cpu(query) else self._own_padded(query, key, value, scale)
        if self.prefix is None:
            return out
        heads = query.shape[1] // key.shape[1]
        return merge(out, lse, *folded(query, self.prefix[layer], heads, scale))

    def _own(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Every segment over itself, one after the other: a CPU loses nothing by small pieces."""
        # laid out as the model reads it afterwards: (1, length, heads, width)
        out = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        lse = query.new_empty(query.shape[:3], dtype=torch.float32)
        for start, stem, end, mask in self.segments:
            own = slice(start, end)
            o, s = part(query[:, :, start:stem], key[:, :, start:stem], value[:, :, start:stem], scale, causal=True)
            out[:, :, start:stem], lse[:, :, start:stem] = o, s
            if mask is not None:
                o, s = part(query[:, :, stem:end], key[:, :, own], value[:, :, own], scale, mask=mask)
                out[:, :, stem:end], lse[:, :, stem:end] = o, s
        return out, lse

    def _own_padded(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Every segment over itself, all at once and padded: a GPU would wait for many small pieces."""
        index, place, mask = self._padding
        groups = key.shape[1]
        # (groups, heads, segments, longest, width)
        q = query[0][:, index].view(groups, -1, *index.shape, query.shape[-1])
        k, v = key[0][:, None, index], value[0][:, None, index]
        out, lse = attention(q, k, v, scale, mask=mask)
        out, lse = out.flatten(2, 3).flatten(0, 1), lse.flatten(2, 3).flatten(0, 1)
        return out[None, :, place], lse[None, :, place]

    @functools.cached_property
    def _padding(self) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens by segment (segments, longest), where each token went in that, and who sees whom as a mask."""
        longest = max(end - start for start, _, end, _ in self.segments)
        index = torch.zeros(len(self.segments), longest, dtype=torch.long)
        place = torch.zeros(max(end for _, _, end, _ in self.segments), dtype=torch.long)
        # what pads sees itself, so that it stays finite
        mask = torch.zeros(longest, longest).masked_fill(torch.ones(longest, longest).triu(1).bool(), float("-inf"))
        mask = mask.repeat(len(self.segments), 1, 1)
        for i, (start, stem, end, tails) in enumerate(self.segments):
            index[i, : end - start] = torch.arange(start, end)
            place[start:end] = i * longest + torch.arange(end - start)
            if tails is not None:
                mask[i, stem - start : end - start, : end - start] = tails
        return index.to(self.device), place.to(self.device), mask.to(self.device)


@dataclass
class Decoding:
    """One new token per row, whose earlier keys and values are in preallocated buffers, behind a prefix or none.

    keys, values: by layer, (rows, groups, room, width). lengths: tokens already in each row's buffer. mask:
    (rows, 1, 1, longest + 1), 0 for a row's tokens including the new one and -inf beyond.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor
    mask: Tensor
    prefix: Prefix | None = None
    rows: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.rows = torch.arange(len(self.lengths), device=self.lengths.device)

    def sides(self) -> Sides:
        return 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        n, groups, heads = len(query), key.shape[1], query.shape[1] // key.shape[1]
        keys, values, width = self.keys[layer], self.values[layer], self.mask.shape[-1]
        keys[self.rows, :, self.lengths] = key[:, :, 0]
        values[self.rows, :, self.lengths] = value[:, :, 0]
        grouped = query.view(n, groups, heads, -1)
        out, lse = attention(grouped, keys[:n, :, :width], values[:n, :, :width], scale, mask=self.mask)
        if self.prefix is not None:
            # all rows at once: (rows, groups, heads) -> (1, groups, rows * heads), so the prefix is read once
            together = grouped.transpose(0, 1).reshape(1, groups, n * heads, -1)
            o, s = attention(together, *self.prefix[layer], scale)
            o, s = o.view(groups, n, heads, -1).transpose(0, 1), s.view(groups, n, heads).transpose(0, 1)
            out = merge(out, lse, o, s)
        return out.reshape(query.shape)


def part(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of one segment, (1, heads, length, width); heads of a group read its keys without a copy."""
    groups = key.shape[1]
    heads = query.shape[1] // groups
    # groups become the batch, so that one group's keys can be shown to its heads by a stride of 0
    q = query.view(groups, heads, *query.shape[2:])
    k, v = (x[0][:, None].expand(-1, heads, -1, -1) for x in (key, value))
    out, lse = attention(q, k, v, scale, causal=causal, mask=mask)
    return out.reshape(query.shape), lse.reshape(query.shape[:3])


def folded(query: Tensor, prefix: KeyValue, heads: int, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of a whole pack over its prefix: the heads of a group become more rows of one product."""
    groups, length = prefix.key.shape[1], query.shape[2]
    out, lse = attention(query.reshape(1, groups, heads * length, -1), *prefix, scale)
    return out.reshape(query.shape), lse.reshape(query.shape[:3])


def merge(a: Tensor, a_lse: Tensor, b: Tensor, b_lse: Tensor) -> Tensor:
    """Attention over two sets of keys from that over each and its log-sum-exp of scores."""
    return torch.lerp(b, a, torch.sigmoid(a_lse - b_lse).to(a.dtype)[..., None])


def attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of its scores (float32): (..., length, width) and (..., length)."""
    if not on_cpu(query):
        return formula(query, key, value, scale, causal=causal, mask=mask)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=mask, scale=scale
    )
    return out, lse


def on_cpu(x: Tensor) -> bool:
    """Whether torch's CPU kernel can be used, which also gives the log-sum-exp."""
    return x.device.type == "cpu"


def formula(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`attention` written out, for devices whose kernels do not hand out the log-sum-exp."""
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    if mask is not None:
        scores = scores + mask
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse


def _packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    plan: Plan | None = None,
    sliding_window: int | None = None,  # the engine gives no sequence longer than the window
    **others: Any,
) -> tuple[Tensor, None]:
    unknown = [name for name, v in others.items() if v is not None and name not in _HARMLESS]
    if plan is None or attention_mask is not None or unknown:
        raise Unsupported(f"{type(module).__name__} asks for {', '.join(unknown) or 'a mask of its own'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = plan.attend(module.layer_idx, query, key, value, scale)
    return out.transpose(1, 2), None


@contextmanager
def packed(model: PreTrainedModel) -> Iterator[None]:
    """Let a model attend by the `plan` given to its forward pass; its own attention is put back afterwards."""
    from transformers import AttentionInterface

    before = model.config._attn_implementation
    if before == NAME:
        yield
        return
    AttentionInterface.register(NAME, _packed_attention)
    # by the configuration, which the layers read: `set_attn_implementation` looks at every module, and takes longer
    # than a token of a small model. Where that is not enough, `llmlab.models.local.check` sees it
    try:
        model.config._attn_implementation = NAME
        yield
    finally:
        surely(lambda: setattr(model.config, "_attn_implementation", before))
