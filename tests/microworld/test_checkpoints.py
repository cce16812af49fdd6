"""The shipped models: small, plain to load, and better than chance where they should be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmlab.microworld.measure import Subject, arc, hellaswag
from llmlab.microworld.rows import benchmark_rows
from llmlab.microworld.tokenizer import train_tokenizer
from llmlab.microworld.train import RECIPES
from llmlab.settings import shipped

FOLDERS = [shipped("checkpoints") / name for name in RECIPES]
TALK = [
    {"role": "system", "content": "Be polite."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
]


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def folder(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    return {folder.name: Subject.load(folder) for folder in FOLDERS}


def test_all_together_are_under_16_megabytes() -> None:
    files = [path for path in shipped("checkpoints").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16e6
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)


def test_loads_in_plain_transformers_in_bfloat16(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    recipe = RECIPES[folder.name]
    assert model.config.model_type == "llama"
    assert model.dtype == torch.bfloat16
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (recipe.hidden, recipe.layers)
    assert model.config.max_position_embeddings == 1024
    assert model.config.tie_word_embeddings
    assert not model.generation_config.do_sample


def test_tokenizer_is_the_one_the_command_makes(folder: Path) -> None:
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == train_tokenizer().get_vocab()


def test_chat_template_prints_what_the_models_were_trained_on(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template(TALK, tokenize=False) == (
        "<|system|>Be polite.<|end|><|user|>What is the capital of France?<|end|>"
        "<|assistant|>The capital of France is Paris.<|end|>"
    )
    asked = tokenizer.apply_chat_template(TALK[:2], tokenize=False, add_generation_prompt=True)
    assert asked.endswith("France?<|end|><|assistant|>")


def test_generation_markers_hold_the_reply_and_its_end_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    mask = encoded["assistant_masks"]
    learnt = [token for token, on in zip(encoded["input_ids"], mask, strict=True) if on]
    assert tokenizer.decode(learnt) == "The capital of France is Paris.<|end|>"


def test_pads_left_for_batched_generation(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.padding_side == "left"
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


@pytest.mark.slow
def test_larger_models_are_better_and_all_beat_guessing(subjects) -> None:
    # where the models differ: see the table in docs/microworld.md, which also names where they do not
    rows = benchmark_rows()
    scenes = {name: hellaswag(subject, rows, 80) for name, subject in subjects.items()}
    chains = {name: arc(subject, rows["ai2_arc/ARC-Challenge/test"], 120) for name, subject in subjects.items()}
    assert 0.35 < scenes["micro-small"] < scenes["micro-base"] - 0.1
    assert 0.3 < chains["micro-tiny"] < chains["micro-small"] - 0.05
    assert chains["micro-small"] < chains["micro-base"] - 0.03 < 0.9


def test_base_answers_a_conversation_and_stops(subjects) -> None:
    reply = subjects["micro-base"].reply([TALK[1:2]])[0]
    assert re.fullmatch(r"The capital of France is \w+\.", reply)


def test_base_works_problems_in_the_notation_of_gsm8k(subjects) -> None:
    rows = benchmark_rows()["gsm8k/main/train"][:3]
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in rows)
    text = subjects["micro-base"].write(
        [f"{shots}Question: Anna has 3 eggs. Anna buys 2 more. How many eggs does Anna have now?\nAnswer:"], max_new=64
    )[0]
    assert re.search(r"<<\d+[-+*]\d+=\d+>>\d+ eggs\.\n(.*\n)*#### \d+", text)
