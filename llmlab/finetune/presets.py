"""Models whose recipes and memory are known: a file each in `configs/finetune/models/`.

A file holds the numbers of the architecture as its publisher gives them, so that memory can be predicted without a
download, and what its recipe changes over the one for its size, with the source. A model is recognised by its
`config.json`: a copy in a folder, or one that was trained further, is known, too.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmlab._module import callable_module
from llmlab.errors import DataError, UnknownName
from llmlab.finetune.base import local, size
from llmlab.finetune.config import METHODS, OBJECTIVES, Method, Objective, Recipe, recipe
from llmlab.finetune.footprint import Memory, predict
from llmlab.settings import shipped

if TYPE_CHECKING:
    import pandas as pd

# what tells models apart; vocabularies grow when a model is trained further
_TELLING = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


class Preset(BaseModel):
    """A known model.

    Attributes:
        name: of its file.
        names: what `lab.model` calls it.
        source: where the recipe was published.
        parameters: number of weights.
        architecture: fields of the model's `config.json`.
        recipes: method or objective -> fields of `llmlab.finetune.config.Recipe` that differ from those for its size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    names: tuple[str, ...] = Field(min_length=1)
    source: str
    parameters: int = Field(gt=0)
    architecture: dict[str, Any]
    recipes: dict[Method | Objective, dict[str, Any]] = {}

    def recipe(self, method: Method | None = None, objective: Objective | None = None, **overrides: Any) -> Recipe:
        """The recipe that `lab.finetune` takes for this model."""
        return recipe(method, objective, parameters=self.parameters, preset=self.recipes, **overrides)

    def memory(
        self,
        method: Method | None = None,
        length: int | None = None,
        batch: int | None = None,
        *,
        device: str | None = None,
        **overrides: Any,
    ) -> Memory:
        """As `lab.memory`, from the numbers in the file: the model need not be here.

        `device` is the one to predict for, which need not be here either; a GPU is taken to compute in bfloat16.
        """
        from llmlab.models.registry import model

        made = self.recipe(method, length=length, batch=batch, **overrides)
        if device is not None and device != "cpu" and made.precision == "auto":
            made = made.model_copy(update={"precision": "bfloat16"})
        with tempfile.TemporaryDirectory() as folder:
            outline(self, Path(folder))
            found = predict(local(model(f"hf/{folder}", device=device)), made)
        return replace(found, name=self.names[0])


def presets(device: str | None = None) -> pd.DataFrame:
    """The known models with their recipe and memory, a line per model and method.

    Columns: preset, parameters, method, learning_rate, rank, batch, accumulate, length, checkpointing, gb (predicted
    peak in 10^9 bytes), source.

    Args:
        device: to predict the memory for, such as "cuda"; None is the device of this machine.
    """
    import pandas as pd

    fields = ("learning_rate", "batch", "accumulate", "length", "checkpointing")
    rows = []
    for preset in load().values():
        for method in METHODS:
            made = preset.recipe(method)
            row = {"preset": preset.name, "parameters": preset.parameters, "method": method}
            row |= {"rank": made.rank if made.adapts else None, **{field: getattr(made, field) for field in fields}}
            rows.append(row | {"gb": preset.memory(method, device=device).peak / 1e9, "source": preset.source})
    return pd.DataFrame(rows).astype({"rank": "Int64"})


@functools.cache
def load() -> Mapping[str, Preset]:
    """Name -> preset, smallest model first.

    Raises:
        DataError: for a file that is not what it should be.
    """
    found = [_read(path) for path in shipped("configs/finetune/models").glob("*.yaml")]
    return {preset.name: preset for preset in sorted(found, key=lambda preset: preset.parameters)}


def named(name: str) -> Preset:
    """The preset of a name: of its file, of a model, or an alias of one.

    Raises:
        UnknownName: when there is none.
    """
    from llmlab.models.registry import aliases

    full = aliases().get(name, name)
    for preset in load().values():
        if full == preset.name or full in preset.names:
            return preset
    raise UnknownName.among("preset", name, load(), "Any other model is trained by the recipe for its size")


def of(folder: Path) -> Preset | None:
    """The preset of the model in a folder, by its `config.json`; None for one that is not known."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    same = (p for p in load().values() if all(p.architecture[field] == config.get(field) for field in _TELLING))
    return next(same, None)


def recipe_for(
    folder: Path,
    method: Method | None = None,
    objective: Objective | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Recipe:
    """The recipe for the model in a folder: its preset's when it is known, else the one for its size.

    Args:
        folder: with `config.json` and weights.
        method: and the others as for `llmlab.finetune.config.recipe`.
        objective: see there.
        config: see there.
        overrides: see there.
    """
    preset = of(folder)
    return recipe(method, objective, config, size(folder), preset.recipes if preset else None, **overrides)


def outline(preset: Preset, folder: Path) -> None:
    """Write what says all about a model but its weights: `config.json`, and the header of its safetensors file."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind: Any = AutoConfig
    config = kind.for_model(**preset.architecture)
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        model = build(config)
    config.save_pretrained(folder)
    # tied weights appear once among the parameters, as in a file
    header = {name: {"dtype": "BF16", "shape": list(p.shape)} for name, p in model.named_parameters()}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)


def _read(path: Path) -> Preset:
    import yaml

    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        preset = Preset(name=path.stem, **loaded)
    except ValidationError as error:
        wrong = error.errors()[0]
        field = ".".join(str(part) for part in wrong["loc"][:2])
        raise DataError(f"{path}: {field}: {wrong['msg']}, it is {wrong['input']!r}") from None
    for part in preset.recipes:
        # a field that does not exist, or a value that is not allowed, is said with the file
        recipe(
            part if part in METHODS else None,
            part if part in OBJECTIVES else None,
            preset=preset.recipes,
        )
    return preset


callable_module(__name__, "llmlab.finetune.presets:presets")
