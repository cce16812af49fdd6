"""The fused step of an adapted layer against PEFT's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from llmlab.finetune import adapters, methods
from llmlab.testing.tiny import tiny_model

IDS = torch.arange(5, 37)[None]


def adapted(folder: Path, kind: str = "llama", **settings: Any) -> Any:
    """A tiny model with an adapter that does something."""
    if not folder.exists():
        tiny_model(folder, kind, num_attention_heads=4, num_key_value_heads=2)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made: Any = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    with methods.quiet():
        model = get_peft_model(base, made)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    return model.train()


def passed(model: Any, half: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["llama", "qwen2"])  # qwen2 has biases
def test_loss_and_gradients_are_pefts(kind: str, tmp_path: Path) -> None:
    loss, gradients = passed(adapted(tmp_path / kind, kind), half=False)
    model = adapted(tmp_path / kind, kind)
    assert adapters.fuse(model, torch.float32) == 7 * model.config.num_hidden_layers
    found, others = passed(model, half=False)
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(others, gradients)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_in_bfloat16_gradients_are_as_near_to_float32_as_pefts(kind: str, tmp_path: Path) -> None:
    def off(gradients: dict[str, torch.Tensor]) -> float:
        return sum(float((gradients[name] - one).norm() / one.norm()) for name, one in exact.items()) / len(exact)

    loss, exact = passed(adapted(tmp_path / kind, kind), half=False)
    _, pefts = passed(adapted(tmp_path / kind, kind), half=True)
    model = adapted(tmp_path / kind, kind)
    adapters.fuse(model, torch.bfloat16)
    found, ours = passed(model, half=True)
    torch.testing.assert_close(found, loss, rtol=2e-3, atol=0)
    assert {p.dtype for p in ours.values()} == {torch.float32}
    assert off(ours) < 1.15 * off(pefts)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_adapter_can_be_switched_off(dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    model = adapted(tmp_path / "tiny").eval()
    with torch.no_grad(), model.disable_adapter():
        base = model(IDS).logits
    adapters.fuse(model, dtype)
    with torch.no_grad():
        with model.disable_adapter():
            assert distance(model(IDS).logits, base) < near
        assert distance(model(IDS).logits, base) > 2 * near


def test_answers_in_between_are_those_of_the_training(tmp_path: Path) -> None:
    model = adapted(tmp_path / "tiny").eval()
    before = model(IDS).logits
    adapters.fuse(model, torch.bfloat16)
    with torch.inference_mode():  # neither autocast nor versions of tensors
        assert distance(model(IDS).logits, before) < 0.1


def test_frozen_weights_are_held_in_the_format_of_the_products(tmp_path: Path) -> None:
    model = adapted(tmp_path / "tiny")
    adapters.fuse(model, torch.bfloat16)
    inside = [m.get_base_layer().weight for m in model.modules() if hasattr(m, "lora_A")]
    assert {w.dtype for w in inside} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_what_is_not_plain_is_left_to_peft(settings: dict[str, Any], tmp_path: Path) -> None:
    assert adapters.fuse(adapted(tmp_path / "tiny", **settings), torch.float32) == 0
