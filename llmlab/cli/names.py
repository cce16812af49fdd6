"""Names on the command line: repeated flags, lists with commas, and the models that they stand for."""

from __future__ import annotations

from typing import Any

import typer


def listed(given: list[str] | None) -> list[str]:
    """The names in a flag that may be repeated and hold commas."""
    return [name.strip() for part in given or () for name in part.split(",") if name.strip()]


def required(given: list[str] | None, flag: str, listing: str) -> list[str]:
    """`listed`, at least one; `listing` is the command that shows which there are."""
    names = listed(given)
    if not names:
        raise typer.BadParameter(f"give at least one name with {flag}; `{listing}` lists them")
    return names


def chosen(given: list[str] | None, every: bool, **options: Any) -> list[Any]:
    """The models that were named, or every usable one, with those options that were given."""
    from llmlab.models.listing import models
    from llmlab.models.registry import model

    if every:
        names = [name for name in models(usable=True).index if not name.startswith("scripted/")]
    else:
        names = required(given, "--models", "llmlab models")
    set_ = {k: v for k, v in options.items() if v is not None}
    return [model(name, **set_) for name in names]
