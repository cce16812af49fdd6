"""Random two-layer models, each made and loaded once per session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from llmlab.models.local.transformers import TransformersModel
from llmlab.testing.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`folder("llama")`: where a random model of that family is."""

    @functools.cache
    def make(family: str) -> Path:
        return tiny_model(tmp_path_factory.mktemp("models") / family, family)

    return make


@pytest.fixture(scope="session")
def lm(folder: Callable[..., Path]) -> Callable[..., TransformersModel]:
    """`lm("llama")`: a loaded random model of that family, one per session."""

    @functools.cache
    def make(family: str = "llama") -> TransformersModel:
        return TransformersModel(f"hf/{folder(family)}", device="cpu", threads=1)

    return make


@pytest.fixture(scope="session")
def reference(lm: Callable[..., TransformersModel]) -> Callable[..., Any]:
    """`reference("llama")`: the same weights and tokenizer as transformers objects of their own."""

    @functools.cache
    def make(family: str = "llama") -> Any:
        folder = lm(family)._engine.source.folder
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval(), tiny_tokenizer()

    return make
