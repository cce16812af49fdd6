"""One maker per kind of model; a new kind adds a line here and is held to the whole contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

import llmlab as lab
from llmlab.models.base import Model, Through
from llmlab.models.ensemble import ensemble
from llmlab.models.router import Router, route
from llmlab.models.scripted import Scripted
from llmlab.models.voting import Ensemble, Vote
from llmlab.testing import ProviderServer
from llmlab.types import Call, Request, Response

ANSWER = "The answer is B. It has always been so, said the miller."

CLOUD: Mapping[str, Callable[[ProviderServer], Mapping[str, Any]]] = {
    "openai/gpt-4o-mini": lambda server: {"base_url": server.openai_url},
    "openai/gpt-6-luna": lambda server: {"base_url": server.openai_url},
    "compatible/some-model": lambda server: {"base_url": server.openai_url},
    "anthropic/claude-haiku-4-5": lambda server: {"base_url": server.url},
    "google/gemini-2.5-flash": lambda server: {"base_url": server.url},
    "google/decisions-prerelease": lambda server: {"base_url": server.url},
    "google-legacy/gemini-1.5-flash": lambda server: {"base_url": server.url},
}
LOCAL = ("hf/tiny", "micro/small", "adapter/tiny", "hf/tiny+adapter", "gguf/tiny", "llamacpp/tiny")
WRAPPED = (
    *("through/scripted", "through/openai", "through/hf"),
    *("vote/scripted", "vote/hf", "cascade/scripted", "cascade/hf"),
    *("route/scripted", "route/openai", "route/hf"),
)
OTHERS = ("scripted/model", *WRAPPED)
EVERY = (*CLOUD, *LOCAL, *OTHERS)


def cloud(name: str, server: ProviderServer, **options: Any) -> Model:
    """A provider's model whose provider is the stand-in."""
    if name.startswith("google-legacy/"):
        pytest.importorskip("google.generativeai", reason="an extra")
    return lab.model(name, **CLOUD[name](server), **options)


def make(name: str, server: ProviderServer, **options: Any) -> Model:
    """Any kind of model. Cloud and scripted ones say ANSWER."""
    if name in CLOUD:
        return cloud(name, server, **options)
    if name == "hf/tiny":
        return lab.model(f"hf/{_tiny()}", device="cpu", **{"max_tokens": 12, **options})
    if name == "gguf/tiny":
        return lab.model(f"gguf/{_gguf()}", device="cpu", **{"max_tokens": 12, **options})
    if name == "llamacpp/tiny":
        pytest.importorskip("llama_cpp", reason="an extra that is compiled")
        return lab.model(f"llamacpp/{_gguf('float16')}", **{"max_tokens": 12, **options})
    if name == "hf/tiny+adapter":
        return lab.model(f"hf/{_tiny()}+{_adapter()}", device="cpu", **{"max_tokens": 12, **options})
    if name == "adapter/tiny":
        return lab.model(f"adapter/{_adapter()}", device="cpu", **{"max_tokens": 12, **options})
    if name == "micro/small":
        pytest.importorskip("torch", reason="an extra")
        return lab.model(name, device="cpu", **{"max_tokens": 12, **options})
    if name == "scripted/model":
        return Scripted(ANSWER).with_options(**options)
    how, _, inner = name.partition("/")
    model = make(_INNER[inner], server, **options)
    if how == "vote":
        return ensemble([model, model]).with_options(**options)
    if how == "cascade":
        return ensemble([model, model], "cascade", confidence=certain).with_options(**options)
    if how == "route":
        return route([("nobody asks this", "scripted/echo")] if inner == "scripted" else [], model).with_options(
            **options
        )
    return model.through(unchanged)


def asked(model: Model) -> int:
    """How many calls of other models one answer of a model takes; 1 for a model that answers itself."""
    return len(model.members) if isinstance(model, Vote) else 1


def billed(model: Model) -> bool:
    """Whether somebody charges for the calls that a model makes in the end."""
    if isinstance(model, Through):
        return billed(model.inner)
    if isinstance(model, Ensemble):
        return billed(model.members[0])
    return billed(model.default) if isinstance(model, Router) else model.billed


_INNER = {"openai": "openai/gpt-4o-mini", "scripted": "scripted/model", "hf": "hf/tiny"}


def certain(request: Request, response: Response) -> float:
    """A confidence that is always high."""
    return 1.0


def unchanged(request: Request, call: Call) -> Response:
    """An interceptor that does nothing."""
    return call(request)


@lru_cache
def _tiny() -> Path:
    pytest.importorskip("torch", reason="an extra")
    from llmlab.testing.tiny import tiny_model

    return tiny_model(Path(mkdtemp(prefix="llmlab-tiny-")))


@lru_cache
def _gguf(dtype: str = "q8_0") -> Path:
    """The tiny model in a file."""
    pytest.importorskip("gguf", reason="an extra")
    from llmlab.finetune import gguf

    path = Path(mkdtemp(prefix="llmlab-gguf-")) / "m.gguf"
    return gguf.write(lab.model(f"hf/{_tiny()}", device="cpu"), path, dtype)


@lru_cache
def _adapter() -> Path:
    """A LoRA adapter on the tiny model that changes its answers, as PEFT writes it."""
    pytest.importorskip("peft", reason="an extra")
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from llmlab.finetune.methods import quiet

    folder = Path(mkdtemp(prefix="llmlab-adapter-"))
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(_tiny(), dtype=torch.float32)
        # an adapter begins as no change at all, unless told otherwise
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, config).save_pretrained(folder)
    return folder
