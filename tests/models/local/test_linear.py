from __future__ import annotations

import pytest
import torch
from torch import nn

from llmlab.models.local import check, linear
from llmlab.models.local.transformers import TransformersModel
from llmlab.types import Options


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8, bias=False))


def test_prepacked_layers_compute_the_same_and_are_put_back():
    model = net()
    x = torch.randn(3, 5, 16)
    with torch.inference_mode():
        before = model(x)
        packed = linear.Prepacked(model)
        with packed.used():
            assert "forward" in vars(model[0])
            assert torch.allclose(model(x), before, atol=1e-5)
            with packed.used():  # entered again inside itself
                model(x)
            assert "forward" in vars(model[0])
        assert "forward" not in vars(model[0])
        assert torch.equal(model(x), before)


def test_layers_are_put_back_after_an_error():
    model = net()
    with pytest.raises(KeyError), linear.Prepacked(model).used():
        raise KeyError
    assert "forward" not in vars(model[0])


def test_tied_weights_are_packed_once_and_other_types_left_alone():
    model = net()
    model.append(nn.Linear(8, 4).to(torch.bfloat16))
    twin = nn.Linear(16, 32)
    twin.weight = model[0].weight
    model.append(twin)
    packed = linear.Prepacked(model)
    modules = [module for module, _ in packed._forwards]
    assert modules == [model[0], model[2], twin]
    assert packed._forwards[0][1].args[0] is packed._forwards[2][1].args[0]


def test_the_trial_answers_yes_or_no():
    assert linear.worth_it() in (True, False)


def test_a_model_with_prepacked_layers_scores_and_writes_the_same(folder, lm, monkeypatch):
    monkeypatch.setattr(check, "worth_it", lambda: True)
    fast = TransformersModel(f"hf/{folder('llama')}", Options(max_tokens=12), device="cpu", threads=1)
    assert fast.settings_used["linear"] == "onednn prepacked"
    ours, plain = (
        fast.logprob("The river", [" runs", " sleeps"]),
        lm("llama").logprob("The river", [" runs", " sleeps"]),
    )
    assert [r.logprob for r in ours] == pytest.approx([r.logprob for r in plain], abs=1e-4)
    assert fast.generate("The river").text == lm("llama").generate("The river", max_tokens=12).text
    assert not any("forward" in vars(module) for module in fast.load().model.modules())
