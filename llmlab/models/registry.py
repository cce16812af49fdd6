"""From a name to a model: one table of providers, aliases from `configs/models.yaml`, entry points of others."""

from __future__ import annotations

import functools
import importlib
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmlab.errors import MissingPackage, UnknownName
from llmlab.models.base import Model
from llmlab.settings import config
from llmlab.types import Options

# provider -> "module:class"; a class is called with (name, options, **settings), or has `named` that is
PROVIDERS: dict[str, str] = {
    "adapter": "llmlab.models.local.adapted:AdaptedModel",
    "anthropic": "llmlab.models.anthropic:AnthropicModel",
    "compatible": "llmlab.models.compatible:CompatibleModel",
    "google": "llmlab.models.google:GoogleModel",
    "google-legacy": "llmlab.models.google_legacy:GoogleLegacyModel",
    "gguf": "llmlab.models.local.gguf:GgufModel",
    "hf": "llmlab.models.local.transformers:TransformersModel",
    "llamacpp": "llmlab.models.local.llamacpp:LlamaCppModel",
    "micro": "llmlab.models.micro:MicroModel",
    "openai": "llmlab.models.openai:OpenAIModel",
    "scripted": "llmlab.models.scripted:Scripted",
}
# package that a provider needs -> what to install
_EXTRAS = {
    "torch": "local",
    "transformers": "local",
    "peft": "train",
    "google.generativeai": "google-legacy",
    "gguf": "gguf",
    "llama_cpp": "llamacpp",
}
_OPTIONS = frozenset(f.name for f in fields(Options))


def model(name: str | Model, **options: Any) -> Model:
    """A model by name: `provider/name`, or a known short name.

    Args:
        name: for example "openai/gpt-4o-mini", "hf/HuggingFaceTB/SmolLM2-135M-Instruct", "micro/base", or an
            alias of `configs/models.yaml` such as "gpt-4o-mini". A Model is returned as it is, with the options.
        options: generation options (temperature, max_tokens, ...) and settings of the provider (base_url,
            device, dtype, revision, ...).

    Raises:
        UnknownName: with the closest known names.
        MissingKey: when the provider needs a key that is not set.
        MissingPackage: with the command that installs what is missing.

    >>> model("scripted/echo").generate("Hello").text
    'Hello'
    """
    if isinstance(name, Model):
        return name.with_options(**options) if options else name
    generation = Options(**{k: v for k, v in options.items() if k in _OPTIONS})
    settings = {k: v for k, v in options.items() if k not in _OPTIONS}
    full = resolve(name)
    make = maker(full)
    known = set(inspect.signature(make).parameters) - {"self", "name", "options", "settings"}
    for setting in settings:
        if setting not in known and not _takes_any(make):
            raise UnknownName.among(f"option of {full}", setting, known | _OPTIONS)
    try:
        made: Model = make(full, generation, **settings)
    except ModuleNotFoundError as error:
        raise _missing(full, error) from error
    return made


def resolve(name: str) -> str:
    """The full `provider/name` of a name or alias.

    Raises:
        UnknownName: when neither the provider nor the alias is known.
    """
    entry = aliases().get(name)
    if entry is not None:
        return entry
    if name.partition("/")[0] in providers() and "/" in name:
        return name
    base, plus, adapter = name.rpartition("+")
    if plus and base in aliases():
        return f"{aliases()[base]}+{adapter}"
    path = Path(name).expanduser()
    if path.suffix == ".gguf" or (path.is_dir() and name):
        raise UnknownName(
            f"No model {name!r}. A path has its provider before it: "
            f"'{'gguf' if path.suffix == '.gguf' else 'hf'}/{name}'"
        )
    raise UnknownName.among(
        "model", name, aliases(), f"Or provider/name with a provider of: {', '.join(sorted(providers()))}"
    )


@functools.cache
def aliases() -> dict[str, str]:
    """Short name -> full name, from `configs/models.yaml`."""
    known: dict[str, str] = {}
    for full, entry in config("models.yaml")["models"].items():
        for alias in (entry or {}).get("aliases", ()):
            known[alias] = full
    return known


@functools.cache
def providers() -> dict[str, str]:
    """The table of providers, with those that other packages add by the entry point group `llmlab.models`."""
    from importlib.metadata import entry_points

    return PROVIDERS | {e.name: e.value for e in entry_points(group="llmlab.models")}


def maker(full: str) -> Any:
    """What makes the models of a full name."""
    provider, _, own = full.partition("/")
    if provider in ("hf", "micro") and "+" in own and not Path(own).expanduser().exists():
        provider = "adapter"  # a base and, behind the plus, what stays beside it
    path, _, name = providers()[provider].partition(":")
    try:
        found = getattr(importlib.import_module(path), name)
    except ModuleNotFoundError as error:
        raise _missing(full, error) from error
    return getattr(found, "named", found)


def _takes_any(make: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(make).parameters.values())


def _missing(full: str, error: ModuleNotFoundError) -> MissingPackage:
    package = error.name or str(error)
    extra = next((e for p, e in _EXTRAS.items() if package == p or package.startswith(p + ".")), None)
    what = f"llmlab[{extra}]" if extra else package
    return MissingPackage(f"{full} needs the package {package!r}: pip install '{what}'")
