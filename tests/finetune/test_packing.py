"""Batches without padding: what each example gives alone, it gives among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM

from llmlab.errors import DataError
from llmlab.finetune import methods, segments
from llmlab.finetune.steps import packed
from llmlab.finetune.train import finetune
from llmlab.finetune.watch import Watch
from llmlab.testing.tiny import tiny_model

from .conftest import QUICK, TICKETS

# heads in groups; a window of 8 tokens, shorter than the examples
KINDS: dict[str, dict[str, Any]] = {"llama": {}, "mistral": {"sliding_window": 8}, "qwen2": {}}
ROWS = [
    {"input_ids": list(range(10, 10 + n)), "labels": [-100] * (n // 2) + list(range(10 + n // 2, 10 + n))}
    for n in (13, 5, 21, 2)
]


def load(kind: str, folder: Path) -> Any:
    changes = {"num_attention_heads": 4, "num_key_value_heads": 2, **KINDS.get(kind, {})}
    tiny_model(folder, kind, **changes)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def summed(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Loss of a batch by the model's own logits, summed over tokens."""
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")


@pytest.mark.parametrize("multiple", [1, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_rows_alone(kind: str, multiple: int, tmp_path: Path) -> None:
    model = load(kind, tmp_path / "tiny").train()
    alone = []
    for row in ROWS:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        alone.append(summed(model, {"input_ids": ids, "labels": labels}))
    sum(alone).backward()  # type: ignore[union-attr]
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    segments.use(model)
    together = summed(model, packed(ROWS, multiple))
    together.backward()
    torch.testing.assert_close(together, sum(alone))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_of_attention_in_bfloat16_are_as_near_to_float32_as_torchs(groups: int) -> None:
    torch.manual_seed(0)
    given = [torch.randn(1, heads, 41, 16, requires_grad=True) for heads in (4, groups, groups)]
    wanted = torch.randn(1, 41, 4, 16)

    def gradients(ours: bool, half: bool) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            if ours:
                out = segments.attend(torch.nn.Module(), *given, None, segments=(0, 13, 18, 39, 41))[0]
            else:
                kind = torch.bfloat16 if half else torch.float32
                parts = zip(*(t.to(kind).split((13, 5, 21, 2), 2) for t in given), strict=True)
                found = [scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True) for part in parts]
                out = torch.cat(found, 2).transpose(1, 2)
        return list(torch.autograd.grad((out.float() * wanted).sum(), given))

    exact = gradients(ours=False, half=False)
    for one, ours, torchs in zip(exact, gradients(True, True), gradients(False, True), strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - one).norm() <= 1.1 * (torchs - one).norm() < 0.05 * one.norm()


def test_no_example_sees_another(tmp_path: Path) -> None:
    model = load("llama", tmp_path / "tiny").eval()
    segments.use(model)
    other = [*ROWS[:2], {"input_ids": [99] * 21, "labels": [99] * 21}, ROWS[3]]
    with torch.no_grad():
        first, second = (
            model(**{k: v for k, v in packed(rows).items() if k != "labels"}, use_cache=False).logits
            for rows in (ROWS, other)
        )
    kept = [*range(18), *range(39, 41)]
    assert torch.equal(first[:, kept], second[:, kept])
    assert not torch.equal(first[:, 18:39], second[:, 18:39])


def test_what_fills_a_row_is_neither_trained_on_nor_counted() -> None:
    row = packed([{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [7], "labels": [7]}], multiple=8)
    assert row["input_ids"].shape == row["position_ids"].shape == row["labels"].shape == (1, 8)
    assert row["labels"].tolist() == [[-100, 6, *[-100] * 6]] and row["segments"] == (0, 2, 3)
    watch = Watch()
    watch.count(row)
    found = watch.measured()
    assert (found["tokens"], found["padding"], found["trained_tokens"]) == (3, 5 / 8, 1)


def test_first_token_of_an_example_is_not_predicted_from_the_one_before() -> None:
    row = packed([{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [7, 8], "labels": [7, 8]}])
    assert row["labels"].tolist() == [[-100, 6, -100, 8]] and row["position_ids"].tolist() == [[0, 1, 0, 1]]
    assert row["segments"] == (0, 2, 4)


def test_packed_training_follows_the_curve_of_the_padded_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**QUICK, "method": "lora", "steps": 3, "sort_lengths": False, "precision": "float32"}
    runs = [
        finetune("micro/small", TICKETS, folder=tmp_path / str(packing), packing=packing, **settings)
        for packing in (True, False)
    ]
    curves = [run.curves.query("loss.notna()") for run in runs]
    for name in ("loss", "grad_norm", "tokens"):
        np.testing.assert_allclose(curves[0][name], curves[1][name], rtol=1e-4)
    assert curves[0]["padding"].max() == 0 < curves[1]["padding"].min()
    for name in ("held_out_loss_before", "held_out_loss_after"):
        assert runs[0].metrics[name] == pytest.approx(runs[1].metrics[name], rel=1e-4)
    assert [run.record["packed"] for run in runs] == [True, False]


def test_attention_that_does_more_is_refused_or_left_padded(tmp_path: Path) -> None:
    folder = tmp_path / "gemma"
    model = load("gemma2", folder)  # caps its scores
    before = model.config._attn_implementation
    with pytest.raises(segments.Unsupported, match="softcap"):
        segments.use(model)
    assert model.config._attn_implementation == before
    text = [{"text": f"The river runs past mill number {i}."} for i in range(16)]
    with pytest.raises(DataError, match=r"the attention of Gemma2ForCausalLM cannot keep .* set packing=False"):
        finetune(f"hf/{folder}", text, folder=tmp_path / "run", packing=True, **QUICK)
    tuned = finetune(f"hf/{folder}", text, folder=tmp_path / "auto", **QUICK | {"steps": 1})
    assert tuned.record["packed"] is False


@pytest.mark.slow
def test_four_bit_base_is_packed_too(tmp_path: Path) -> None:
    tuned = finetune("micro/small", TICKETS, "qlora", folder=tmp_path / "run", **QUICK | {"steps": 2})
    assert tuned.record["packed"] and methods.precision_of(tuned.recipe, "cpu") in ("float32", "bfloat16")
