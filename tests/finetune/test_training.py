"""Trainings of a few steps on the embedded model: what they give, and what ends them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

import llmlab as lab
from llmlab.errors import DataError, MissingPackage, NeedsLocalModel, StoreError, UnknownName
from llmlab.finetune import methods, train
from llmlab.finetune.card import card as made_card
from llmlab.finetune.config import recipe
from llmlab.finetune.rows import rows
from llmlab.finetune.tuned import FineTune
from llmlab.finetune.watch import Watch
from llmlab.settings import shipped

from .conftest import QUICK, TICKETS

PROMPT = "Ticket from Tina: I want my money back for the spoon"
PAIRS = shipped("data/preferences/refusal.jsonl")


def tune(folder: Path, *args: Any, **changes: Any) -> FineTune:
    return train.finetune("micro/small", *(args or (TICKETS,)), folder=folder, **QUICK | changes)


def weights(tuned: FineTune) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    name = "adapter/adapter_model" if tuned.recipe.adapts else "model/model"
    return load_file(tuned.folder / f"{name}.safetensors")


# -- what comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_every_method_lowers_the_held_out_loss_and_gives_a_model(trained: Callable[..., FineTune], method: str) -> None:
    tuned = trained(method)
    found = tuned.metrics
    assert found["held_out_loss_after"] < found["held_out_loss_before"] - 0.05
    assert found["steps"] == 4 and found["parameters"] == 853_120
    assert (found["trainable"] == found["parameters"]) == (method == "full")
    assert isinstance(tuned.model.generate(PROMPT, max_tokens=4).text, str)
    assert tuned.model.identity()["weights"] != tuned.base.identity()["weights"]


def test_model_answers_as_peft_does_without_us(trained: Callable[..., FineTune]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tuned = trained("lora")
    base = AutoModelForCausalLM.from_pretrained(shipped("checkpoints/micro-small"), dtype=torch.float32)
    with methods.quiet():
        reference = PeftModel.from_pretrained(base, tuned.folder / "adapter").eval()
    loaded = tuned.model.load()  # type: ignore[attr-defined]
    ids = loaded.tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, reference(ids).logits, atol=1e-4, rtol=1e-4)


def test_record_curves_and_card_say_what_was_done(trained: Callable[..., FineTune]) -> None:
    tuned = trained("lora")
    record = tuned.record
    assert record["data"]["examples"] + record["data"]["held_out"] == 400
    assert {"torch", "trl", "peft", "llmlab"} <= set(record["versions"])
    assert list(tuned.curves["step"].dropna().astype(int))[:5] == [0, 1, 2, 3, 4]
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb"} <= set(tuned.curves)
    card = tuned.card()
    assert card == (tuned.folder / "README.md").read_text() and card.startswith("---\nlibrary_name: peft\n")
    assert "| learning_rate | 0.003 |" in card and record["data"]["hash"] in card
    assert "micro/small by lora, sft; 4 steps on 380 examples" in repr(tuned)
    assert FineTune(tuned.folder).metrics == tuned.metrics


def test_files_can_be_read_by_others(trained: Callable[..., FineTune]) -> None:
    for method, name in (("lora", "adapter/adapter_model"), ("full", "model/model")):
        assert (trained(method).folder / f"{name}.safetensors").stat().st_mode & 0o777 == 0o644


def test_plots_are_drawn(trained: Callable[..., FineTune]) -> None:
    import matplotlib.pyplot as plt

    axes = trained("lora").plot()
    assert "Held-out loss" in axes[0].get_title(loc="left") and len(axes) == 5
    plt.close("all")


def test_compare_pairs_the_held_out_items(trained: Callable[..., FineTune], tmp_path: Path) -> None:
    tuned = trained("lora")
    found = tuned.compare(["target", "micro/arc"], n=5, store=f"sqlite:///{tmp_path / 'runs.db'}", progress=False)
    assert set(found.table["benchmark"]) == {"target", "micro/arc"}
    assert set(found.results.models) == {"base", "tuned"}
    assert set(found.learnt) | set(found.forgotten) <= {"target", "micro/arc"}
    assert set(found.flipped()["change"].abs()) <= {1.0}
    card = (tuned.folder / "README.md").read_text()
    assert "| micro/arc | 5 |" in card
    # as the hub reads it
    read = ModelCard(card, ignore_metadata_errors=False).data
    scores = found.table.set_index("benchmark")["score"]
    assert {one.dataset_type: one.metric_value for one in read.eval_results} == scores.round(4).to_dict()
    assert read.library_name == "peft" and {one.task_type for one in read.eval_results} == {"text-generation"}
    unknown = found.table.iloc[0].to_dict() | {"score": math.nan}
    assert "model-index" not in made_card(tuned.record, [unknown])


# -- the same again -------------------------------------------------------------------------------------------


def test_equal_calls_give_equal_weights_and_leave_the_generators_alone(
    trained: Callable[..., FineTune], tmp_path: Path
) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    again = tune(tmp_path / "again", method="lora")
    first, second = weights(trained("lora")), weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()  # noqa: NPY002
    other = weights(tune(tmp_path / "other", method="lora", seed=1))
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_finished_training_is_given_back_and_another_is_not_overwritten(
    trained: Callable[..., FineTune], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained("lora").folder
    monkeypatch.setattr(methods, "load", lambda *_: pytest.fail("it was trained again"))
    assert tune(folder, method="lora").folder == folder
    with pytest.raises(DataError, match="holds another training"):
        tune(folder, method="lora", learning_rate=1e-5)


class Killed(BaseException):
    """Ends a process as a signal would: nothing catches it."""


def test_killed_training_continues_to_the_same_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"method": "lora", "steps": 6, "save_every": 2}
    whole = tune(tmp_path / "whole", **settings)
    seen: list[int] = []

    def count(self: Watch, inputs: Any) -> None:
        seen.append(1)
        if len(seen) == 6:
            raise Killed

    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "count", count)
        with pytest.raises(Killed):
            tune(folder, **settings)
    # a checkpoint that the process was writing when it died
    half = folder / "checkpoints" / "checkpoint-5"
    half.mkdir()
    (half / "trainer_state.json").write_text('{"global_step": 5, "log_')
    with pytest.raises(DataError, match="holds no finished training"):
        FineTune(folder)
    continued = tune(folder, **settings)
    assert continued.record["resumed"]
    for name in ("loss", "grad_norm", "learning_rate"):
        np.testing.assert_allclose(continued.curves[name].dropna(), whole.curves[name].dropna(), rtol=1e-6)
    first, second = weights(whole), weights(continued)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert continued.metrics["held_out_loss_before"] == whole.metrics["held_out_loss_before"]
    assert not (folder / "checkpoints").exists()


# -- traps ----------------------------------------------------------------------------------------------------


def test_qlora_still_learns_after_it_was_evaluated(tmp_path: Path) -> None:
    # bitsandbytes repacks 4-bit weights in a forward pass for evaluation, and then gives no gradient through them
    tuned = tune(tmp_path / "run", method="qlora", evaluate_every=2)
    moved = {name: bool(tensor.abs().max() > 0) for name, tensor in weights(tuned).items() if "lora_B" in name}
    assert len(moved) == 4 * 7 and all(moved.values())
    losses = tuned.curves["eval_loss"].dropna().tolist()
    assert losses[-1] < losses[0]


def test_four_bit_layers_pass_gradients_after_an_evaluation() -> None:
    made = recipe("qlora")
    model = methods.load(lab.model("micro/small").source, made)  # type: ignore[attr-defined]
    ids = torch.arange(3, 35)[None]
    model.eval()
    with torch.no_grad():
        model(ids)
    model.train()
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    model(inputs_embeds=embedded, labels=ids).loss.backward()
    assert embedded.grad is not None and embedded.grad.abs().max() > 0
    block = model.model.layers[0].mlp.down_proj
    x = torch.randn(4, block.in_features, requires_grad=True)
    block(x).sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0


def test_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(
        methods.Diverged, match=r"the loss is nan at step \d.*checkpoint.*A smaller learning_rate"
    ) as caught:
        tune(tmp_path / "run", method="full", steps=6, learning_rate=1e18, clip=1e18, warmup=0.0, save_every=1)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "diverged" and "nan" in record["error"]
    kept = str(caught.value).partition("checkpoint is ")[2].partition(". ")[0]
    from safetensors.torch import load_file

    assert all(bool(t.isfinite().all()) for t in load_file(Path(kept) / "model.safetensors").values())


def test_disk_that_takes_no_more_is_said_and_the_training_continues(tmp_path: Path) -> None:
    import resource

    from transformers import TrainerCallback

    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Cramped(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            # from here on no file can grow beyond this: the system refuses, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))

    folder, store = tmp_path / "run", f"sqlite:///{tmp_path / 'runs.db'}"
    try:
        with pytest.raises(StoreError, match=r"cannot write .*free some space, the same call continues"):
            tune(folder, method="lora", save_every=2, store=store, callbacks=[Cramped()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert not (folder / "adapter").exists()  # half an adapter is none
    again = tune(folder, method="lora", save_every=2, store=store)
    assert again.metrics["steps"] == 4 and weights(again)
    assert list(lab.experiments(store=store)["status"]) == ["done"]


def test_qlora_is_refused_where_it_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    with pytest.raises(DataError, match=r"'qlora' has no 4-bit kernels for 'mps'; use device='cpu' or 'cuda', or met"):
        train.finetune(lab.model("micro/small", device="mps"), TICKETS, "qlora", folder=tmp_path / "run", **QUICK)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(MissingPackage, match=r"'qlora' needs the package 'bitsandbytes': pip install 'llmlab\[train"):
        tune(tmp_path / "run", method="qlora")
    assert not (tmp_path / "run").exists()


def test_training_that_fails_says_so_in_its_record(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Broken(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("a callback of the user's")

    with pytest.raises(RuntimeError, match="a callback of the user's"):
        tune(tmp_path / "run", method="lora", callbacks=[Broken()])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed" and record["error"] == "RuntimeError: a callback of the user's"


def test_patience_stops_early_and_the_best_is_kept(tmp_path: Path) -> None:
    tuned = tune(tmp_path / "run", method="full", steps=12, evaluate_every=1, patience=2, learning_rate=0.3, warmup=0.0)
    # before the first step nothing is saved, so the best is one of those after it
    losses = tuned.curves.query("step > 0")["eval_loss"].dropna()
    assert tuned.metrics["steps"] < 12
    assert tuned.metrics["held_out_loss_after"] == pytest.approx(losses.min(), rel=1e-4)


# -- objectives -----------------------------------------------------------------------------------------------


def test_dpo_widens_the_margin_of_chosen_answers(tmp_path: Path) -> None:
    tuned = tune(tmp_path / "run", PAIRS, objective="dpo", steps=6, batch=8)
    margins = tuned.curves["rewards/margins"].dropna().tolist()
    assert margins[-1] > margins[0] and tuned.recipe.beta == 0.1
    assert tuned.metrics["held_out_rewards/accuracies_after"] > 0.5


@pytest.mark.slow
def test_kto_takes_pairs_apart(tmp_path: Path) -> None:
    tuned = tune(tmp_path / "run", PAIRS, objective="kto", steps=2)
    assert tuned.metrics["steps"] == 2 and math.isfinite(tuned.metrics["loss"])


def test_grpo_follows_a_reward_that_sees_the_sample(tmp_path: Path) -> None:
    seen: list[Any] = []

    def short(text: str, sample: lab.Sample) -> float:
        seen.append(sample)
        return -len(text) / 10

    data = lab.dataset([{"prompt": f"Say {word}.", "target": word} for word in ("red", "blue", "green", "black")])
    tuned = tune(tmp_path / "run", data, objective="grpo", steps=2, batch=8, group=4, answer_length=8, reward=short)
    assert len(seen) == 16 and {s.target for s in seen} <= {"red", "blue", "green", "black"}
    assert tuned.curves["reward"].dropna().max() <= 0


def test_plain_text_and_models_without_a_template_train(tmp_path: Path) -> None:
    from llmlab.testing.tiny import tiny_model

    folder = tiny_model(tmp_path / "tiny")
    text = [{"text": f"The river runs past mill number {i}."} for i in range(16)]
    tuned = train.finetune(f"hf/{folder}", text, folder=tmp_path / "run", **QUICK | {"steps": 2})
    assert tuned.metrics["held_out_loss_after"] < tuned.metrics["held_out_loss_before"]


# -- refused before anything is loaded --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "changes", "error", "said"),
    [
        (
            (),
            {"objective": "dpo"},
            DataError,
            "objective 'dpo' needs data of the form preference, this is 'conversation'",
        ),
        ((), {"learningrate": 1}, UnknownName, "Did you mean 'learning_rate'"),
        ((), {"reward": len}, DataError, "reward belongs to objective 'grpo'"),
        (([{"prompt": "x"}] * 2,), {"objective": "grpo", "group": 8}, DataError, "needs reward="),
        ((), {"length": 8}, DataError, "at length=8 every answer is cut off"),
        ((), {"evaluate_every": 2, "save_every": 3}, DataError, "must be a multiple of evaluate_every"),
        ((), {"targets": ["q_proj", "query"]}, UnknownName, r"'query'. .*down_proj, gate_proj, k_proj"),
    ],
)
def test_what_cannot_work_is_refused(
    tmp_path: Path, args: Sequence[Any], changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        tune(tmp_path / "run", *args, **changes)


def test_cloud_model_is_refused() -> None:
    with pytest.raises(NeedsLocalModel, match="scripted/echo cannot be trained"):
        train.finetune("scripted/echo", TICKETS)


def test_data_with_a_benchmarks_items_is_refused(tmp_path: Path) -> None:
    item = lab.benchmark("micro/gsm8k").samples()[0]
    question = item.input if isinstance(item.input, str) else item.input[-1].content
    with pytest.raises(DataError, match=r"items of micro/gsm8k are in the training data"):
        tune(tmp_path / "run", [{"prompt": question, "completion": "42"}] * 2, unseen=["micro/gsm8k"])


def test_labels_that_are_all_the_same_are_refused_for_kto() -> None:
    data = lab.dataset([{"prompt": str(i), "completion": "x", "label": True} for i in range(3)])
    from llmlab.finetune.base import fresh_tokenizer

    with pytest.raises(DataError, match="all of these have the same label"):
        rows(data, None, fresh_tokenizer(shipped("checkpoints/micro-small")), recipe(objective="kto"))


def test_adapter_on_another_base_is_refused(trained: Callable[..., FineTune], tmp_path: Path) -> None:
    from llmlab.testing.tiny import tiny_model

    adapter = trained("lora").folder / "adapter"
    with pytest.raises(DataError, match=r"was trained on micro/small with weights \w+"):
        lab.model(f"adapter/{adapter}", base=f"hf/{tiny_model(tmp_path / 'tiny')}").generate("x")
    with pytest.raises(DataError, match="holds no adapter"):
        lab.model(f"adapter/{shipped('checkpoints/micro-small')}").generate("x")


def test_adapter_works_by_its_name_alone(trained: Callable[..., FineTune]) -> None:
    tuned = trained("lora")
    alone = lab.model(f"adapter/{tuned.folder / 'adapter'}")
    assert alone.generate(PROMPT, max_tokens=8).text == tuned.model.generate(PROMPT, max_tokens=8).text
