"""Known models: their files are right, are found by what a model is, and say what memory it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import llmlab as lab
from llmlab.errors import DataError, UnknownName
from llmlab.finetune import presets
from llmlab.finetune.base import size
from llmlab.finetune.config import METHODS, OBJECTIVES, recipe
from llmlab.finetune.memory import memory
from llmlab.settings import shipped

NAMES = list(presets.load())


def test_models_of_the_tutorials_are_known_smallest_first() -> None:
    assert NAMES[:3] == ["micro-tiny", "micro-small", "micro-base"] and NAMES[-1] == "mistral-7b"
    for name in (
        "hf/HuggingFaceTB/SmolLM2-360M-Instruct",
        "qwen-0.5b",
        "smollm-135m",
        "hf/microsoft/Phi-4-mini-instruct",
    ):
        assert presets.named(name).names
    with pytest.raises(UnknownName, match=r"preset 'mistral-7'. Did you mean 'mistral-7b'"):
        presets.named("mistral-7")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_the_architecture_give_the_published_number_of_weights(name: str, tmp_path: Path) -> None:
    preset = presets.load()[name]
    presets.outline(preset, tmp_path)
    assert size(tmp_path) == preset.parameters
    assert presets.of(tmp_path) == preset


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_valid_for_every_method_and_objective(name: str) -> None:
    preset = presets.load()[name]
    for method in METHODS:
        for objective in OBJECTIVES:
            made = preset.recipe(method, objective)
            assert (made.method, made.objective) == (method, objective)
    # the rate of imitation would ruin a model that learns preferences
    assert preset.recipe("lora", "dpo").learning_rate < preset.recipe("lora").learning_rate


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_predicted_without_the_model(name: str) -> None:
    preset = presets.load()[name]
    found = preset.memory("qlora", 64, 1, device="cuda", rank=1)
    assert found.name == preset.names[0] and found.about.method == "qlora"
    # four bits for the layers, two bytes for embeddings and head
    assert 0.5 * preset.parameters < found.weights < 2.5 * preset.parameters
    assert found.peak > found.weights


def test_full_training_of_a_large_model_takes_what_adamw_needs() -> None:
    preset = presets.named("mistral-7b")
    found = preset.memory("full", 64, 1, device="cuda")
    assert found.weights + found.optimizer + found.gradients == pytest.approx(16 * preset.parameters)
    assert preset.memory("lora", 64, 1, device="cuda").weights == pytest.approx(2 * preset.parameters, rel=0.05)
    assert preset.memory("lora", 64, 1, device="cpu").weights == pytest.approx(4 * preset.parameters, rel=0.05)


def test_prediction_is_that_for_the_model_itself() -> None:
    assert presets.named("micro/base").memory("lora", 64, 4).peak == memory("micro/base", "lora", 64, 4).peak


def test_known_model_takes_its_preset_wherever_it_lies(tmp_path: Path) -> None:
    preset = presets.named("qwen2.5-0.5b")
    presets.outline(preset, tmp_path)
    made = presets.recipe_for(tmp_path, "lora")
    assert made == preset.recipe("lora") and made.rank == 32 != recipe("lora", parameters=preset.parameters).rank
    assert presets.recipe_for(tmp_path, "lora", config={"rank": 4}, learning_rate=1e-5).rank == 4
    # a vocabulary that grew is still the same model
    config = json.loads((tmp_path / "config.json").read_text()) | {"vocab_size": 152000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert presets.of(tmp_path) == preset
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 23}))
    assert presets.of(tmp_path) is None and presets.recipe_for(tmp_path).rank == 16
    assert presets.of(shipped("checkpoints/micro-small")) == presets.named("micro/small")


def test_wrong_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    good = "names: [hf/a/b]\nsource: x\nparameters: 1\narchitecture: {}\n"
    path.write_text(good + "recipes: {lora: {ranks: 4}}\n")
    with pytest.raises(UnknownName, match=r"'ranks'. Did you mean 'rank'"):
        presets._read(path)
    path.write_text(good + "recipes: {lorra: {rank: 4}}\n")
    with pytest.raises(DataError, match=r"own.yaml: recipes.lorra: Input should be"):
        presets._read(path)


@pytest.mark.slow
def test_table_has_a_line_per_model_and_method() -> None:
    table = lab.finetune.presets("cuda")
    assert len(table) == 3 * len(NAMES) and table["gb"].gt(0).all()
    by = table.pivot_table(index="preset", columns="method", values="gb")
    assert (by["full"] > by["lora"]).all() and (by["lora"] > by["qlora"]).all()
    # the documentation prints the same table, a line per model
    text = (Path(__file__).parents[2] / "docs" / "finetuning.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| .+ \| ([\d.]+) \(\d+ × .+\| ([\d.]+) \(.+\| ([\d.]+) \(.+$", text, re.MULTILINE)
    told = [[float(gb) for gb in line] for line in lines]
    assert told == by.loc[NAMES, ["full", "lora", "qlora"]].round(1).to_numpy().tolist()
