"""Documents packed into rows without padding or leaks between neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from llmlab.microworld.documents import Document
from llmlab.microworld.tokenizer import PAD

TOKENS_PER_STEP = 1024  # many small steps beat fewer large ones at this scale
_ROW_LENGTHS = (512, 256, 128)  # a document goes to the shortest row that holds it; longer ones are left out
_POOL = 512  # documents mixed before packing


@dataclass(frozen=True)
class Batch:
    """One optimiser step: rows of whole documents, each blind to the others in its row.

    ids and positions (rows, length) int64; weights (rows, length) float32, the loss weight of predicting that token;
    mask (rows, 1, length, length) bool, True where attention is allowed.
    """

    ids: Tensor
    positions: Tensor
    weights: Tensor
    mask: Tensor


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    weights: list[float]


def _encode(tokenizer: Tokenizer, documents: list[Document]) -> list[_Encoded]:
    encodings = tokenizer.encode_batch([document.text for document in documents], add_special_tokens=False)
    encoded = []
    for document, encoding in zip(documents, encodings, strict=True):
        by_character = [piece.weight for piece in document.pieces for _ in piece.text]
        weights = [by_character[start] for start, _ in encoding.offsets]
        weights[0] = 0.0  # nothing predicts the first token
        encoded.append(_Encoded(encoding.ids, weights))
    return encoded


def _pack(encoded: list[_Encoded], fillers: list[_Encoded], length: int) -> list[list[_Encoded]]:
    """First fit, longest first: rows of at most `length` tokens; gaps take `fillers`, which leave their list."""
    rows: list[list[_Encoded]] = []
    room: list[int] = []

    def place(item: _Encoded) -> bool:
        fit = next((i for i, free in enumerate(room) if free >= len(item.ids)), None)
        if fit is not None:
            rows[fit].append(item)
            room[fit] -= len(item.ids)
        return fit is not None

    for item in sorted(encoded, key=lambda e: -len(e.ids)):
        if not place(item):
            rows.append([item])
            room.append(length - len(item.ids))
    fillers[:] = [item for item in sorted(fillers, key=lambda e: -len(e.ids)) if not place(item)]
    return rows


def _collate(rows: list[list[_Encoded]], length: int) -> Batch:
    ids = torch.full((len(rows), length), PAD)
    positions, owner = torch.zeros_like(ids), torch.full_like(ids, -1)
    weights = torch.zeros(len(rows), length)
    for r, row in enumerate(rows):
        at = 0
        for number, item in enumerate(row):
            span = slice(at, at + len(item.ids))
            ids[r, span], weights[r, span] = torch.tensor(item.ids), torch.tensor(item.weights)
            positions[r, span], owner[r, span] = torch.arange(len(item.ids)), number
            at += len(item.ids)
    # padding forms a document of its own, so no row of the mask is empty
    mask = (owner[:, :, None] == owner[:, None, :]).tril()
    return Batch(ids, positions, weights, mask[:, None])


def batches(tokenizer: Tokenizer, make: Callable[[], Document], rng: Random) -> Iterator[Batch]:
    """Steps of TOKENS_PER_STEP tokens each, without end; `make` gives the next document."""
    waiting: dict[int, list[_Encoded]] = {length: [] for length in _ROW_LENGTHS}
    while True:
        for item in _encode(tokenizer, [make() for _ in range(_POOL)]):
            fitting = [length for length in _ROW_LENGTHS if len(item.ids) <= length]
            if fitting:
                waiting[fitting[-1]].append(item)
        ready = []
        for length in _ROW_LENGTHS:
            fillers = waiting[_ROW_LENGTHS[-1]] if length != _ROW_LENGTHS[-1] else []
            rows = _pack(waiting[length], fillers, length)
            rng.shuffle(rows)
            n = TOKENS_PER_STEP // length
            whole = len(rows) - len(rows) % n
            ready += [_collate(rows[i : i + n], length) for i in range(0, whole, n)]
            waiting[length] = [item for row in rows[whole:] for item in row]
        rng.shuffle(ready)
        yield from ready
