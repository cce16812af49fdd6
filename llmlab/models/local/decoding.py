"""How a batch of sequences is read and continued, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from llmlab.models.local import packing
from llmlab.models.local.attention import Decoding, Packed, Prefix, Segment, packed
from llmlab.models.local.forward import call, forward
from llmlab.models.local.interventions import prompts_on_the_left, reading
from llmlab.models.local.loading import Loaded

# tokens of room beyond what is needed now; buffers grow by as much and half of what they have
_ROOM = 64


class Decoder(Protocol):
    """A batch of sequences under way. Logits are (rows, vocabulary); call it in inference mode."""

    joins: bool
    """Whether `add` works while other rows are under way."""

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts, which become the last rows; logits of the next token of each."""
        ...

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token per row; logits of all rows."""
        ...

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Go on with these rows only, in the order that is returned."""
        ...


class PlainDecoder:
    """transformers' own cache and attention, prompts padded on the left: right for every architecture."""

    joins = False

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self._ids = self._mask = torch.zeros(0, 0, dtype=torch.long)
        self._cache: Any = None
        self._width = 0  # of the prompts

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        self._width = width = max(map(len, prompts))
        device = self.loaded.device
        self._ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
        self._mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        self._cache = None
        return self._forward(width)

    def step(self, tokens: Sequence[int]) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        new = torch.tensor(tokens, device=self.loaded.device)[:, None]
        self._ids = torch.cat([self._ids, new], 1)
        if self.loaded.turn is not None and self._ids.shape[1] == self.loaded.turn + 1:
            self._cache = None  # every position is rotated anew, as transformers' `generate` does
        return self._forward(1 if self._cache is not None else self._ids.shape[1])

    def keep(self, rows: Sequence[int]) -> list[int]:
        index = torch.tensor(rows, dtype=torch.long, device=self.loaded.device)
        self._ids, self._mask = self._ids[index], self._mask[index]
        if rows and self._cache is not None:
            self._cache.batch_select_indices(index)
        return list(rows)

    def _forward(self, n: int) -> Tensor:
        """Read the last n tokens of every row."""
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        with reading(prompts_on_the_left(self._width, n) if n >= self._width else lambda: 1):
            out = call(
                self.loaded,
                input_ids=self._ids[:, -n:],
                attention_mask=self._mask,
                position_ids=positions[:, -n:],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        # an architecture with another kind of memory (a recurrent one) reads everything again for each token
        self._cache = getattr(out, "past_key_values", None)
        logits: Tensor = out.logits[:, -1]
        return logits


class PackedDecoder:
    """Rows behind a common prefix that is kept once; their own keys and values in buffers that only grow.

    Args:
        loaded: the model.
        size: most rows at a time.
        budget: tokens of prompts in one forward pass.
        start: how many tokens of every prompt the prefix has.
        prefix: their keys and values, None when start is 0.
    """

    joins = True

    def __init__(self, loaded: Loaded, size: int, budget: int, start: int = 0, prefix: Prefix | None = None) -> None:
        self.loaded = loaded
        self.size = size
        self.budget = budget
        self.start = start
        self.prefix = prefix
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._lengths: list[int] = []

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        first = len(self._lengths)
        self._lengths += [len(p) - self.start for p in prompts]
        sizes = self._lengths[first:]
        logits: list[Any] = [None] * len(prompts)
        with packed(self.loaded.model):
            for batch in packing.batches(sizes, self.budget, [1] * len(sizes), len(sizes)):
                found = self._read([prompts[i][self.start :] for i in batch], [first + i for i in batch])
                for i, row in zip(batch, found, strict=True):
                    logits[i] = row
        return torch.stack(logits)

    def step(self, tokens: Sequence[int]) -> Tensor:
        self._make_room(max(self._lengths) + 1)
        lengths = torch.tensor(self._lengths, device=self.loaded.device)
        seen = torch.arange(max(self._lengths) + 1, device=self.loaded.device) <= lengths[:, None]
        mask = torch.zeros(seen.shape, dtype=self.loaded.dtype, device=self.loaded.device)
        mask = mask.masked_fill_(~seen, float("-inf"))[:, None, None]
        plan = Decoding(self._keys, self._values, lengths, mask, self.prefix)
        positions = [[self.start + length] for length in self._lengths]
        with packed(self.loaded.model):
            logits = forward(self.loaded, [[token] for token in tokens], positions, plan, [0])
        self._lengths = [length + 1 for length in self._lengths]
        return logits[:, 0]

    def keep(self, rows: Sequence[int]) -> list[int]:
        kept = len(rows)
        holes = sorted(set(range(kept)) - set(rows))
        order = list(range(kept))
        for hole, row in zip(holes, (r for r in rows if r >= kept), strict=True):
            order[hole] = row
            for buffer in (*self._keys, *self._values):
                buffer[hole] = buffer[row]
        self._lengths = [self._lengths[row] for row in order]
        return order

    def _read(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        """One pass over some prompts, side by side; their keys and values go into the buffers."""
        ids = [token for p in prompts for token in p]
        positions = [self.start + i for p in prompts for i in range(len(p))]
        segments, at = [], 0
        for p in prompts:
            segments.append(Segment(at, at + len(p), at + len(p)))
            at += len(p)

        def keep(layer: int, key: Tensor, value: Tensor) -> None:
            self._make_buffers(layer, key, value)
            for (start, end, *_), row in zip(segments, rows, strict=True):
                self._keys[layer][row, :, : end - start] = key[0, :, start:end]
                self._values[layer][row, :, : end - start] = value[0, :, start:end]

        plan = Packed(segments, self.prefix, self.loaded.device, keep)
        self._make_room(max(map(len, prompts)))
        return forward(self.loaded, [ids], [positions], plan, [s.end - 1 for s in segments])[0]

    def _make_buffers(self, layer: int, key: Tensor, value: Tensor) -> None:
        if layer < len(self._keys):
            return
        room = max(self._lengths) + _ROOM
        for buffers, x in ((self._keys, key), (self._values, value)):
            # zeros: what is masked must be finite
            buffers.append(x.new_zeros(len(self._lengths), x.shape[1], room, x.shape[3]))

    def _make_room(self, length: int) -> None:
        """Let the buffers hold all rows, each of this length."""
        if not self._keys:
            return
        rows, _, room, _ = self._keys[0].shape
        if len(self._lengths) > rows:
            rows = min(self.size, max(len(self._lengths), 2 * rows))
        if length > room:
            room = max(length, room + room // 2 + _ROOM)
        if (rows, room) == (self._keys[0].shape[0], self._keys[0].shape[2]):
            return
        for buffers in (self._keys, self._values):
            for layer, old in enumerate(buffers):
                buffers[layer] = old.new_zeros(rows, old.shape[1], room, old.shape[3])
                buffers[layer][: old.shape[0], :, : old.shape[2]] = old
