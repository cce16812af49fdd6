"""Predicted memory against what is really there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import llmlab as lab
from llmlab.finetune import adapters, methods
from llmlab.finetune.base import shapes, size
from llmlab.finetune.config import recipe
from llmlab.finetune.footprint import activations
from llmlab.finetune.memory import alternatives, memory
from llmlab.settings import shipped

BASE = "micro/small"
FOLDER = shipped("checkpoints/micro-small")


def test_weights_gradients_and_moments_follow_from_the_shapes() -> None:
    n = size(FOLDER)
    full = memory(BASE, "full", 32, 2)
    assert (full.weights, full.gradients, full.optimizer) == (4 * n, 4 * n, 8 * n)
    matrices = [s for name, s in shapes(FOLDER).items() if len(s) == 2 and "embed" not in name]
    adapter, inside = sum(4 * (a + b) for a, b in matrices), sum(a * b for a, b in matrices)
    for precision, saved in (("float32", 0), ("bfloat16", 2 * inside)):  # frozen weights are held in two bytes
        lora = memory(BASE, "lora", 32, 2, rank=4, precision=precision)
        assert (lora.weights, lora.gradients) == (4 * n - saved + 4 * adapter, 4 * adapter)


def test_four_bits_are_what_bitsandbytes_takes() -> None:
    source = lab.model(BASE).source  # type: ignore[attr-defined]
    model = methods.load(source, recipe("qlora"))
    adapter = memory(BASE, "qlora", 32, 2).gradients
    assert memory(BASE, "qlora", 32, 2).weights - adapter == pytest.approx(model.get_memory_footprint(), rel=0.03)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_activations_are_those_that_autograd_saves(method: str, precision: str) -> None:
    made = recipe(method, length=48, rank=4)  # type: ignore[arg-type]
    model = methods.load(lab.model(BASE).source, made)  # type: ignore[attr-defined]
    if made.adapts:
        from peft import get_peft_model

        with methods.quiet():
            whole = get_peft_model(model, methods.adapter(model, made))
        adapters.fuse(whole, getattr(torch, precision))  # does nothing to quantised layers
        model = whole.get_base_model()
    for p in model.parameters():
        if method == "qlora" and p.requires_grad:
            p.data = p.data.bfloat16()  # as TRL does
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, Any] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    ids = torch.randint(3, 2000, (3, 48))
    mask = torch.ones_like(ids)
    mask[0, 40:] = 0  # as in most batches; without padding, grouped heads take a little less
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with half, torch.autograd.graph.saved_tensors_hooks(save, lambda t: t):
        out = model.train().model(ids, attention_mask=mask, use_cache=False).last_hidden_state
    real = sum(s.nbytes() for s in saved.values()) + out.nbytes
    assert activations(FOLDER, made, 3, precision) == pytest.approx(real, rel=0.02)


def test_methods_checkpointing_and_batches_order_as_they_should() -> None:
    known = "hf/HuggingFaceTB/SmolLM2-360M"  # of the smallest models the layers in four bits are a small part
    full, lora, qlora = (memory(known, m, 64, 1).peak for m in ("full", "lora", "qlora"))  # type: ignore[arg-type]
    assert full > lora > qlora
    assert memory(BASE, "lora", 64, 4, checkpointing=True).activations < 0.5 * memory(BASE, "lora", 64, 4).activations
    # in bfloat16 the weights are converted as well, whatever the batch
    four, eight, sixteen = (memory(BASE, "lora", 64, batch).activations for batch in (4, 8, 16))
    assert sixteen - eight == pytest.approx(2 * (eight - four), rel=0.05)
    assert memory(BASE, "full", 64, 4, objective="dpo").reference > 0


def test_alternatives_take_less_and_say_how_much() -> None:
    made = recipe("full", length=64, batch=8)
    ways = dict(alternatives(BASE, made))
    assert len(ways) == 4 and max(ways.values()) < memory(BASE, config=made.model_dump()).peak
    assert any("method='lora'" in text for text in ways)


def test_memory_shows_its_parts() -> None:
    found = memory(BASE, "full", 64, 4)
    assert "for full of micro/small, 4 × 64 tokens" in repr(found) and "optimizer 0.01" in repr(found)
    assert found.table["peak"] == pytest.approx(found.peak / 1e9)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux's /proc"
)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_predicted_peak_is_near_the_measured_one(method: str) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "memory.py"
    command = [sys.executable, "-W", "ignore", str(script), "--child", "small", method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.85 < json.loads(done.stdout.rpartition("RESULT ")[2])["ratio"] < 1.15


def test_out_of_memory_says_which_setting_gives_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    from llmlab.finetune.steps import Watched
    from llmlab.finetune.train import finetune

    def full(*_: Any, **__: Any) -> None:
        # as torch says it on a CPU
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Watched, "training_step", full)
    data = shipped("data/finetune/tickets_train.jsonl")
    with pytest.raises(methods.OutOfMemory) as caught:
        finetune(BASE, data, "full", folder=tmp_path / "run", steps=1, batch=8, progress=False, threads=1)
    said = str(caught.value)
    assert said.startswith("out of memory with batches of 8 × ")
    for way in ("batch=4, accumulate=2 (the same steps)", "checkpointing=True", "method='lora'", "length="):
        assert re.search(re.escape(way) + r"[^;]*: \d+\.\d\d GB", said), way
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "out of memory"
