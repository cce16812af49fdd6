"""One maker per kind of model; a new kind adds a line here and is held to the whole contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

import llmlab as lab
from llmlab.models.base import Model
from llmlab.models.scripted import Scripted
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
LOCAL = ("hf/tiny",)
OTHERS = ("scripted/model", "through/scripted", "through/openai", "through/hf")
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
    if name == "scripted/model":
        return Scripted(ANSWER).with_options(**options)
    inner = {"through/openai": "openai/gpt-4o-mini", "through/scripted": "scripted/model", "through/hf": "hf/tiny"}
    return make(inner[name], server, **options).through(unchanged)


def unchanged(request: Request, call: Call) -> Response:
    """An interceptor that does nothing."""
    return call(request)


@lru_cache
def _tiny() -> Path:
    pytest.importorskip("torch", reason="an extra")
    from llmlab.testing.tiny import tiny_model

    return tiny_model(Path(mkdtemp(prefix="llmlab-tiny-")))
