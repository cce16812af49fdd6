from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llmlab.models.local import attention
from llmlab.models.local.attention import NAME, Decoding, KeyValue, Packed, Segment, Unsupported, packed

HEADS, GROUPS, WIDTH = 6, 2, 16
SCALE = 0.2


def draw(length, seed=0, rows=1):
    source = torch.Generator().manual_seed(seed)
    shapes = [(rows, HEADS, length, WIDTH), (rows, GROUPS, length, WIDTH), (rows, GROUPS, length, WIDTH)]
    return [torch.randn(s, generator=source) for s in shapes]


def direct(query, key, value, sees):
    """Grouped attention as torch does it with a mask."""
    key, value = (x.repeat_interleave(HEADS // GROUPS, 1) for x in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=sees, scale=SCALE)


def causal(n):
    return torch.ones(n, n, dtype=torch.bool).tril()


def additive(sees):
    return torch.zeros(sees.shape).masked_fill(~sees, float("-inf"))


def same(a, b):
    assert torch.allclose(a, b, atol=2e-6)


@pytest.fixture(params=["cpu kernel", "any device"], autouse=True)
def _kernel(request, monkeypatch):
    """The formula that other devices use, too."""
    if request.param == "any device":
        monkeypatch.setattr(attention, "on_cpu", lambda x: False)


def test_segments_attend_to_themselves_alone():
    query, key, value = draw(12)
    out = Packed([Segment(0, 5, 5), Segment(5, 12, 12)]).attend(0, query, key, value, SCALE)
    for at in (slice(0, 5), slice(5, 12)):
        parts = [x[:, :, at] for x in (query, key, value)]
        same(out[:, :, at], direct(*parts, causal(at.stop - at.start)))


def test_a_prefix_comes_before_every_segment():
    query, key, value = draw(9)
    _, before_key, before_value = draw(7, seed=1)
    prefix = {0: KeyValue(before_key, before_value)}
    out = Packed([Segment(0, 4, 4), Segment(4, 9, 9)], prefix).attend(0, query, key, value, SCALE)
    for at in (slice(0, 4), slice(4, 9)):
        n = at.stop - at.start
        sees = torch.cat([torch.ones(n, 7, dtype=torch.bool), causal(n)], 1)
        keys, values = torch.cat([before_key, key[:, :, at]], 2), torch.cat([before_value, value[:, :, at]], 2)
        same(out[:, :, at], direct(query[:, :, at], keys, values, sees))


def test_tails_branch_off_their_stem():
    query, key, value = draw(8)
    # two tails of two tokens on a stem of four
    tails = torch.tensor(
        [[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0, 1, 1]]
    )
    sees = torch.cat([torch.nn.functional.pad(causal(4), (0, 4)), tails.bool()])
    out = Packed([Segment(0, 4, 8, additive(tails.bool()))]).attend(0, query, key, value, SCALE)
    same(out, direct(query, key, value, sees))


def test_segments_of_different_lengths_with_and_without_tails_share_a_pack():
    query, key, value = draw(15)
    _, before_key, before_value = draw(4, seed=3)
    prefix = {0: KeyValue(before_key, before_value)}
    tails = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1]]).bool()
    segments = [Segment(0, 2, 4, additive(tails)), Segment(4, 12, 12), Segment(12, 15, 15)]
    out = Packed(segments, prefix).attend(0, query, key, value, SCALE)
    for start, stem, end, mask in segments:
        n = end - start
        sees = causal(n)
        if mask is not None:
            sees = torch.cat([torch.nn.functional.pad(causal(stem - start), (0, end - stem)), tails])
        sees = torch.cat([torch.ones(n, 4, dtype=torch.bool), sees], 1)
        own = slice(start, end)
        keys, values = torch.cat([before_key, key[:, :, own]], 2), torch.cat([before_value, value[:, :, own]], 2)
        same(out[:, :, own], direct(query[:, :, own], keys, values, sees))


def test_keys_and_values_are_handed_out():
    query, key, value = draw(3)
    kept = {}
    Packed([Segment(0, 3, 3)], keep=lambda layer, k, v: kept.update({layer: (k, v)})).attend(
        5, query, key, value, SCALE
    )
    assert torch.equal(kept[5][0], key)
    assert torch.equal(kept[5][1], value)


def test_a_new_token_sees_its_row_and_the_prefix():
    rows, lengths, room = 3, torch.tensor([4, 2, 0]), 6
    query, key, value = draw(1, rows=rows)
    _, keys, values = draw(room, seed=1, rows=rows)
    _, before_key, before_value = draw(5, seed=2)
    mask = additive(torch.arange(5) <= lengths[:, None])[:, None, None]
    buffers = [keys.clone()], [values.clone()]
    out = Decoding(*buffers, lengths, mask, {0: KeyValue(before_key, before_value)}).attend(0, query, key, value, SCALE)
    for row, n in enumerate(lengths.tolist()):
        all_keys = torch.cat([before_key, keys[row : row + 1, :, :n], key[row : row + 1]], 2)
        all_values = torch.cat([before_value, values[row : row + 1, :, :n], value[row : row + 1]], 2)
        same(out[row : row + 1], direct(query[row : row + 1], all_keys, all_values, None))
        assert torch.equal(buffers[0][0][row, :, n], key[row, :, 0])


def test_merging_two_halves_is_attention_over_the_whole():
    query, key, value = draw(6)
    query = query[:, :GROUPS]
    whole, lse = attention.attention(query, key, value, SCALE)
    a = attention.attention(query, key[:, :, :2], value[:, :, :2], SCALE)
    b = attention.attention(query, key[:, :, 2:], value[:, :, 2:], SCALE)
    same(attention.merge(*a, *b), whole)
    same(torch.logaddexp(a[1], b[1]), lse)


def test_a_model_has_its_own_attention_back_afterwards(lm):
    model = lm("llama").load().model
    before = model.config._attn_implementation
    with pytest.raises(KeyError), packed(model):
        assert model.config._attn_implementation == NAME
        raise KeyError
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("unknown", [{"softcap": 30.0}, {"s_aux": 1}, {"position_bias": 1}])
def test_attention_of_another_kind_is_refused(unknown):
    query, key, value = draw(3)
    plan = Packed([Segment(0, 3, 3)])
    with pytest.raises(Unsupported, match=next(iter(unknown))):
        attention._packed_attention(torch.nn.Identity(), query, key, value, None, plan=plan, **unknown)
