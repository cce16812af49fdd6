"""Whether a model can be used here and now, found out without importing or loading anything heavy."""

from __future__ import annotations

import os
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from llmlab import settings
from llmlab.errors import DataError

# provider -> (variables of which one must be set, module it needs, what to install)
_NEEDS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "openai": (("OPENAI_API_KEY",), "openai", "openai"),
    "anthropic": (("ANTHROPIC_API_KEY",), "anthropic", "anthropic"),
    "google": (("GEMINI_API_KEY", "GOOGLE_API_KEY"), "google.genai", "google-genai"),
    "google-legacy": (
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "google.generativeai",
        "llmlab[google-legacy]",
    ),
    "compatible": (("LLMLAB_COMPATIBLE_URL",), "openai", "openai"),
    "hf": ((), "transformers", "llmlab[local]"),
    "micro": ((), "torch", "llmlab[local]"),
    "gguf": ((), "gguf", "llmlab[gguf]"),
    "llamacpp": ((), "llama_cpp", "llmlab[llamacpp]"),
}


def missing(name: str) -> str:
    """What a model lacks to be used here, "" when nothing.

    Args:
        name: `provider/name`.

    >>> missing("scripted/echo")
    ''
    """
    provider, _, own = name.partition("/")
    if ended := _ended(name):
        return ended
    if provider in _NEEDS:
        variables, module, package = _NEEDS[provider]
        if not _installed(module):
            return f"pip install '{package}'"
        if variables and not any(settings.value(v) for v in variables):
            return f"{' or '.join(variables)} is not set"
    if provider == "hf" and not _weights(own):
        return f"weights are not in the cache: llmlab pull {name}"
    if provider in ("gguf", "llamacpp") and not Path(own).is_file():
        return f"no file {own}"
    if provider == "micro":
        try:
            settings.shipped(f"checkpoints/micro-{own}")
        except DataError:
            return f"checkpoints/micro-{own} is not part of this installation"
    return ""


def _ended(name: str) -> str:
    entry = settings.config("models.yaml")["models"].get(name) or {}
    day = entry.get("shutdown")
    return f"shut down on {day}" if isinstance(day, date) and day <= date.today() else ""


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _weights(repository: str) -> bool:
    """Whether a folder, or a repository in the Hugging Face cache, has weights."""
    if Path(repository).is_dir():
        return True
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    snapshots = hub / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(any(snapshots.glob(f"*/*.{kind}")) for kind in ("safetensors", "bin"))
