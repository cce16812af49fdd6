"""How much memory a training will take, before anything is loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmlab.finetune.base import local
from llmlab.finetune.config import Method, Objective, Recipe
from llmlab.finetune.footprint import Memory, predict
from llmlab.finetune.presets import Preset, load, outline, recipe_for
from llmlab.models.availability import missing
from llmlab.models.base import Model
from llmlab.models.registry import resolve


def memory(
    model: str | Model | Path,
    method: Method | None = None,
    length: int | None = None,
    batch: int | None = None,
    *,
    objective: Objective | None = None,
    config: str | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Memory:
    """Predict the peak memory of a training; loads nothing, and downloads no weights of a model that is known.

    Args:
        model: of "hf/…" or "micro/…".
        method: as for `lab.finetune`.
        length: longest example, in tokens.
        batch: examples at a time.
        objective: as for `lab.finetune`.
        config: as for `lab.finetune`.
        overrides: further fields of the recipe.

    Raises:
        NeedsLocalModel, UnknownName, DataError: as `lab.finetune`.
    """
    if isinstance(model, str) and (preset := _elsewhere(model)) is not None:
        with tempfile.TemporaryDirectory() as outlined:
            outline(preset, Path(outlined))
            predicted = memory(Path(outlined), method, length, batch, objective=objective, config=config, **overrides)
        return replace(predicted, name=resolve(model))
    base = local(model if isinstance(model, str | Model) else f"hf/{model}")
    return predict(
        base, recipe_for(base.source.folder, method, objective, config, length=length, batch=batch, **overrides)
    )


def _elsewhere(name: str) -> Preset | None:
    """The preset of a known model whose weights are not here."""
    full = resolve(name)
    preset = next((one for one in load().values() if full in one.names), None)
    return preset if preset is not None and full.startswith("hf/") and missing(full) else None


def alternatives(model: str | Model, made: Recipe) -> list[tuple[str, float]]:
    """Settings that take less than a recipe does, each with its peak in bytes, cheapest in time first."""
    fields = made.model_dump()
    ways: list[tuple[str, dict[str, Any]]] = []
    if made.batch > 1:
        half = {"batch": made.batch // 2, "accumulate": 2 * made.accumulate}
        ways.append((f"batch={half['batch']}, accumulate={half['accumulate']} (the same steps)", half))
    if not made.checkpointing:
        ways.append(("checkpointing=True (about a third slower)", {"checkpointing": True}))
    if made.method != "qlora":
        smaller = "lora" if made.method == "full" else "qlora"
        ways.append((f"method={smaller!r}", {"method": smaller}))
    ways.append((f"length={made.length // 2} (cuts longer examples)", {"length": made.length // 2}))
    now = memory(model, **fields).peak
    found = [(text, memory(model, **fields | change).peak) for text, change in ways]
    return [(text, peak) for text, peak in found if peak < now]
