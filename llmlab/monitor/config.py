"""What a watch is told: validated settings, from arguments or a YAML file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llmlab.errors import DataError, UnknownName

CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
REFERENCE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
"""How a channel is named: by the environment variable that holds its URL."""


class Settings(BaseModel):
    """Everything that decides what a watch measures and when it speaks.

    drop is in [0, 1] (0.03: three points); cost_rise, latency_rise and rate_rise are shares (0.2: a fifth more);
    alpha is the chance of any false alarm in `rounds` rounds, all series together. With correction "bh" that holds
    while nothing changed; once something did, false ones are at most that share of what is shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("watch", min_length=1, pattern=r"^[^/\s]+$", description="of the watch in its store")
    project: str = ""
    models: dict[str, str] = Field(default_factory=dict, description="label -> name of a model")
    benchmarks: list[str] = Field(default_factory=list)
    n: int | None = Field(None, gt=0, description="items per benchmark; all when not set")
    seed: int = Field(0, description="draws the items, once")
    repeats: int = Field(1, gt=0, description="answers per item and round")
    budget: float | None = Field(None, ge=0, description="US dollars per round, a hard limit")
    canary: bool = Field(True, description="ask fixed prompts whose answers tell that a model was changed")
    store: str | None = Field(None, description="SQLAlchemy URL of the store")

    drop: float = Field(0.03, ge=0, lt=1, description="a shown drop of at least this much is an alarm")
    cost_rise: float = Field(0.2, ge=0, description="of the cost per answer, from which it is a warning")
    latency_rise: float = Field(0.5, ge=0, description="of the median or the 95th percentile of the seconds")
    rate_rise: float = Field(0.02, ge=0, lt=1, description="of truncated, refused, unreadable or failed answers")
    alpha: float = Field(0.05, gt=0, lt=1, description="chance of any false alarm in `rounds` rounds")
    rounds: int = Field(30, gt=0, description="rounds that share alpha")
    correction: Literal["holm", "bh"] = Field(
        "holm", description="over all readings of a round; bh (Benjamini-Hochberg) sees more when many series fall"
    )
    changed_items: Literal["refuse", "pair"] = Field(
        "refuse", description="when items are not those of the baseline: stop, or pair on those that are the same"
    )

    channels: list[str] = Field(default_factory=list, description="references such as $SLACK_URL")
    sunset: dict[str, date] = Field(default_factory=dict, description="model -> last day on which it answers")
    cron: str | None = Field(None, description="five fields: minute hour day month weekday")
    timezone: str = Field("UTC", description="of cron, such as Europe/Berlin")

    @field_validator("models", mode="before")
    @classmethod
    def _labelled(cls, given: Any) -> Any:
        return {str(name): name for name in given} if isinstance(given, list | tuple) else given

    @field_validator("channels")
    @classmethod
    def _by_reference(cls, given: list[str]) -> list[str]:
        for place, channel in enumerate(given, 1):
            if REFERENCE.fullmatch(channel) is None:
                # the text itself is not repeated: it may hold a secret
                raise ValueError(
                    f"channel {place} is not a reference. The URL of a channel holds a secret: put it into the "
                    "environment or .env, and give its name here, such as $SLACK_URL"
                )
        return given


def settings(config: str | os.PathLike[str] | Mapping[str, Any] | None = None, **overrides: Any) -> Settings:
    """Settings from a YAML file or a dict, then `overrides`; later ones win, None counts as not given.

    Raises:
        UnknownName: for a key that does not exist, with the known ones.
        DataError: for a value that is not allowed, with its field.
    """
    where = "arguments" if config is None or isinstance(config, Mapping) else os.fspath(config)
    fields = dict(config) if isinstance(config, Mapping) else _read(Path(where)) if config is not None else {}
    fields |= {k: v for k, v in overrides.items() if v is not None}
    for name in fields:
        if name not in Settings.model_fields:
            raise UnknownName.among(f"setting of a watch ({where})", name, Settings.model_fields)
    try:
        return Settings(**fields)
    except ValidationError as error:
        raise DataError(_explained(error, where)) from None


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); configs/monitor.yaml is an example") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML ({error})") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: should hold keys and values, it is {type(loaded).__name__}")
    return {str(k): v for k, v in loaded.items()}


def _explained(error: ValidationError, where: str) -> str:
    lines = []
    for item in error.errors():
        field = ".".join(map(str, item["loc"]))
        text = item["msg"].removeprefix("Value error, ")
        given = "" if field.startswith("channels") else f", it is {item['input']!r}"
        lines.append(f"{field}: {text}{given}")
    return f"{where}: " + "; ".join(lines)
