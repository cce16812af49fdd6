"""What a training is: one validated `Recipe`, put together from shipped YAML files, your own file and arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from llmlab.errors import DataError, UnknownName
from llmlab.settings import shipped

Method: TypeAlias = Literal["lora", "qlora", "full"]
Objective: TypeAlias = Literal["sft", "dpo", "kto", "grpo"]
METHODS: tuple[Method, ...] = ("lora", "qlora", "full")
OBJECTIVES: tuple[Objective, ...] = ("sft", "dpo", "kto", "grpo")
REPORTERS = ("tensorboard", "wandb", "mlflow", "trackio")

_SIZES = "sizes"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


class Recipe(BaseModel):
    """Everything that decides what a training does. Two equal recipes on equal data give equal weights on a CPU.

    Units: learning_rate per step of AdamW; warmup and validation are shares in [0, 1); length and answer_length
    are tokens; every "..._every" counts optimiser steps, and 0 means never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = "lora"
    objective: Objective = "sft"
    seed: int = 0

    epochs: float = Field(3.0, gt=0, description="passes over the data, when steps is not set")
    steps: int | None = Field(None, gt=0, description="optimiser steps; overrules epochs")
    batch: int = Field(8, gt=0, description="examples that go through the model at once, per device")
    accumulate: int = Field(1, gt=0, description="batches per optimiser step")
    learning_rate: float = Field(2e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the rate rises")
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")

    length: int = Field(1024, gt=1, description="longest example; what lies beyond is cut off and counted")
    validation: float = Field(0.05, ge=0, lt=1, description="share of the prompts that is held out")
    packing: Literal["auto"] | bool = Field(
        "auto",
        description="sft: no padding, each example of a batch seeing itself alone; auto: on a CPU where it can be",
    )
    sort_lengths: bool = Field(True, description="where batches are padded, they have examples of about one length")

    rank: int = Field(16, gt=0, description="of the adapter")
    alpha: int | None = Field(None, gt=0, description="scale of the adapter; twice the rank when not set")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the adapter's input")
    targets: str | tuple[str, ...] = Field("all-linear", description="modules that get an adapter")

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")

    evaluate_every: int = Field(0, ge=0, description="steps between losses on the held-out share")
    save_every: int = Field(0, ge=0, description="steps between checkpoints, from which a killed run continues")
    patience: int = Field(0, ge=0, description="evaluations without a better one before stopping; 0: never stop early")

    best: str = Field("loss", description="what patience and the best checkpoint go by: loss, or one of evaluate_on")

    beta: float = Field(0.1, gt=0, description="dpo, kto: how strongly the reference model holds")
    sft_weight: float = Field(0.0, ge=0, description="dpo: weight of the likelihood of chosen answers in the loss")
    group: int = Field(8, gt=1, description="grpo: answers per prompt")
    answer_length: int = Field(64, gt=0, description="grpo: longest answer")
    temperature: float = Field(1.0, gt=0, description="grpo: of the sampled answers")
    report_to: tuple[str, ...] = Field((), description="where curves go as well: tensorboard, wandb, mlflow, trackio")

    @field_validator("report_to", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        names = [given] if isinstance(given, str) else given
        for name in names if isinstance(names, list | tuple) else ():
            if name not in REPORTERS:
                raise UnknownName.among("reporter", name, REPORTERS)
        return names

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts evaluations: set evaluate_every as well")
        if self.best != "loss" and not self.evaluate_every:
            raise ValueError("best chooses among evaluations: set evaluate_every as well")
        if self.evaluate_every and not self.validation:
            raise ValueError("evaluate_every needs held-out examples: set validation above 0")
        if self.objective == "grpo" and (self.batch * self.accumulate) % self.group:
            raise ValueError(
                f"batch × accumulate ({self.batch} × {self.accumulate}) must be a multiple of group ({self.group})"
            )
        return self

    @property
    def adapts(self) -> bool:
        """Whether an adapter is trained and the base stays as it is."""
        return self.method != "full"

    @property
    def scale(self) -> int:
        """Alpha of the adapter."""
        return self.alpha or 2 * self.rank


def recipe(
    method: Method | None = None,
    objective: Objective | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    parameters: int | None = None,
    preset: Mapping[Any, Mapping[str, Any]] | None = None,
    **overrides: Any,
) -> Recipe:
    """Put a recipe together: the method's file, the objective's, `config`, then `overrides`; later ones win.

    Args:
        method: None takes the one of `config`, else "lora".
        objective: None takes the one of `config`, else "sft".
        config: a YAML file (a name such as "lora", a path, or "configs/finetune/lora.yaml" as shipped) or a dict.
        parameters: size of the model; picks from the `sizes` of each file what changes up to that size.
        preset: method or objective -> fields of a known model, right after the file of the same name; see
            `llmlab.finetune.presets`.
        overrides: fields of `Recipe`.

    Raises:
        UnknownName: for a key that does not exist, with the known ones.
        DataError: for a value that is not allowed, with the field.
    """
    own, where = _read(config)
    chosen = method or own.get("method") or "lora"
    aim = objective or own.get("objective") or "sft"
    for name, value, known in (("method", chosen, METHODS), ("objective", aim, OBJECTIVES)):
        if value not in known:
            raise UnknownName.among(name, value, known)
    fields: dict[str, Any] = _sized(_shipped(chosen), parameters) | dict((preset or {}).get(chosen, {}))
    if aim != "sft":
        fields |= _sized(_shipped(aim), parameters) | dict((preset or {}).get(aim, {}))
    fields |= _sized(own, parameters, where) | {"method": chosen, "objective": aim}
    fields |= {k: v for k, v in overrides.items() if v is not None}
    _check_keys(fields, where)
    try:
        return Recipe(**fields)
    except ValidationError as error:
        raise DataError(_explained(error, where)) from None


def _read(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    if config is None:
        return {}, "arguments"
    if isinstance(config, Mapping):
        return dict(config), "config"
    path, folder = Path(config), shipped("configs/finetune")
    if not path.is_file() and path.parent in (Path(), Path("configs/finetune")):
        path = folder / f"{path.stem}.yaml"
    if path.is_file() and path.resolve().parent == folder:
        # a shipped file is read at its own place: lora.yaml must not overrule what dpo.yaml says
        return {k: v for k, v in _load(path).items() if k in ("method", "objective")}, str(path)
    if not path.is_file():
        known = sorted(p.stem for p in shipped("configs/finetune").glob("*.yaml"))
        raise UnknownName.among("config", os.fspath(config), known, "Or the path of a YAML file")
    return _load(path), str(path)


def _shipped(name: str) -> dict[str, Any]:
    return _load(shipped("configs/finetune") / f"{name}.yaml")


def _load(path: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML ({error})") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: should hold keys and values, it is {type(loaded).__name__}")
    return loaded


def _sized(fields: Mapping[str, Any], parameters: int | None, where: str = "") -> dict[str, Any]:
    """The fields of a file, with what its `sizes` change for a model of so many parameters: the smallest that fits."""
    plain = {k: v for k, v in fields.items() if k != _SIZES}
    sizes = fields.get(_SIZES) or {}
    if not isinstance(sizes, Mapping) or not all(isinstance(v, Mapping) for v in sizes.values()):
        raise DataError(f"{where}: 'sizes' should map a number of parameters (135M, 7B) to the fields that change")
    limits = sorted((_number(name, where), changes) for name, changes in sizes.items())
    for _, changes in limits:
        _check_keys(changes, f"{where}, sizes")
    fitting = next((dict(c) for limit, c in limits if parameters is not None and parameters <= limit), {})
    return plain | fitting


def _number(text: object, where: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", str(text).strip())
    if match is None:
        raise DataError(f"{where}: {text!r} is no number of parameters such as 135M or 7B")
    return int(float(match[1]) * _UNITS[match[2]])


def _check_keys(fields: Mapping[str, Any], where: str) -> None:
    for name in fields:
        if name not in Recipe.model_fields:
            raise UnknownName.among(f"fine-tuning option ({where})", name, Recipe.model_fields)


def _explained(error: ValidationError, where: str) -> str:
    """One line per wrong field: the field, what it should be, what it is."""
    lines = []
    for item in error.errors():
        field = ".".join(map(str, item["loc"]))
        text = item["msg"].removeprefix("Value error, ")
        lines.append(f"{field}: {text}, it is {item['input']!r}" if field else text)
    return f"{where}: " + "; ".join(lines)
