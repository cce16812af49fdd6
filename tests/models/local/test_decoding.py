from __future__ import annotations

import pytest
import torch

from llmlab.models.local.decoding import PackedDecoder, PlainDecoder
from llmlab.models.local.forward import Prefixes

PREFIX = tuple(range(30, 70))
PROMPTS = [(*PREFIX, 5, 6, 7), (*PREFIX, 9), (*PREFIX, 11, 12, 13, 14, 15), (*PREFIX, 4, 8)]


def alone(loaded, ids):
    """Log-probabilities of the next token after one sequence."""
    with torch.inference_mode():
        return loaded.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


def same(logits, loaded, sequences):
    for row, ids in zip(logits, sequences, strict=True):
        assert torch.allclose(row.log_softmax(-1), alone(loaded, ids), atol=2e-4)


@pytest.fixture
def loaded(lm):
    return lm("llama").load()


@torch.inference_mode()
def test_rows_leave_and_join_while_others_go_on(loaded):
    prefix = Prefixes(loaded, 0).get(PREFIX)
    decoder = PackedDecoder(loaded, 4, 8, len(PREFIX), prefix)
    sequences = [list(p) for p in PROMPTS[:3]]
    same(decoder.add(PROMPTS[:3]), loaded, sequences)
    for token in (20, 21):
        for i, ids in enumerate(sequences):
            ids.append(token + i)
        same(decoder.step([ids[-1] for ids in sequences]), loaded, sequences)
    order = decoder.keep([0, 2])
    sequences = [sequences[i] for i in order]
    same(decoder.add(PROMPTS[3:]), loaded, PROMPTS[3:])
    sequences.append(list(PROMPTS[3]))
    for i, ids in enumerate(sequences):
        ids.append(40 + i)
    same(decoder.step([ids[-1] for ids in sequences]), loaded, sequences)


@torch.inference_mode()
def test_buffers_grow_with_the_rows(loaded):
    decoder = PackedDecoder(loaded, 2, 64)
    sequences = [[5, 6], [7]]
    decoder.add(sequences)
    room = decoder._keys[0].shape[2]
    for step in range(room + 5):
        for i, ids in enumerate(sequences):
            ids.append((7 * step + i) % 300)
        logits = decoder.step([ids[-1] for ids in sequences])
    assert decoder._keys[0].shape[2] > room
    same(logits, loaded, sequences)


@torch.inference_mode()
def test_keeping_rows_moves_only_what_must_move(loaded):
    decoder = PackedDecoder(loaded, 5, 64)
    decoder.add([[5], [6, 6], [7, 7, 7], [8], [9, 9]])
    assert decoder.keep([0, 2, 4]) == [0, 4, 2]
    assert decoder._lengths == [1, 2, 3]


@torch.inference_mode()
def test_the_plain_decoder_does_the_same(loaded):
    decoder = PlainDecoder(loaded)
    sequences = [list(p) for p in PROMPTS]
    same(decoder.add(PROMPTS), loaded, sequences)
    sequences = [sequences[i] for i in decoder.keep([1, 2])]
    for ids in sequences:
        ids.append(17)
    same(decoder.step([17, 17]), loaded, sequences)


@torch.inference_mode()
def test_prefixes_are_kept_extended_and_forgotten(loaded):
    prefixes = Prefixes(loaded, 1 << 30)
    whole = prefixes.get(PREFIX)
    assert prefixes.longest((*PREFIX, 1)) == len(PREFIX)
    assert prefixes.longest(PREFIX) == len(PREFIX) - 1  # a token is left to compute
    longer = prefixes.get((*PREFIX, 5, 6, 7))
    assert torch.allclose(longer[1].key[:, :, : len(PREFIX)], whole[1].key)
    fresh = Prefixes(loaded, 0).get((*PREFIX, 5, 6, 7))
    assert torch.allclose(longer[1].value, fresh[1].value, atol=1e-5)
    # the longer one has taken the place of its own beginning
    assert [ids for ids, _ in prefixes._kept] == [(*PREFIX, 5, 6, 7)]
    small = Prefixes(loaded, 1)
    small.get(PREFIX)
    small.get(tuple(range(100, 140)))
    assert [ids for ids, _ in small._kept] == [tuple(range(100, 140))]
