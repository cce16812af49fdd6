"""A training's folder: `run.json` says what it is and how far it came; beside it checkpoints, curves and the result.

```
run.json        recipe, base, data, versions, status, metrics
curves.json     what was logged, step by step
checkpoints/    to continue from
adapter/        the result of lora and qlora; or
model/          the result of full
README.md       the card
```
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmlab.errors import DataError

_RECORD = "run.json"
_CURVES = "curves.json"
_STATE = "trainer_state.json"
_PACKAGES = ("llmlab", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets")


@dataclass(frozen=True)
class Run:
    """A training's folder."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds; empty before the training began."""
        return _read(self.folder / _RECORD) or {}

    @property
    def curves(self) -> list[dict[str, float]]:
        """The log, a dict per line."""
        found: Any = _read(self.folder / _CURVES)
        return list(found or ())

    @property
    def done(self) -> bool:
        """Whether the training came to its end."""
        return self.record.get("status") == "done"

    def claim(self, key: str, about: Mapping[str, Any]) -> None:
        """Begin or continue in this folder.

        Raises:
            DataError: when it holds another training.
        """
        there = self.record
        if there and there.get("key") != key:
            raise DataError(
                f"{self.folder} holds another training (other data, model, recipe or seed); take another folder"
            )
        if not there and self.folder.is_dir() and any(self.folder.iterdir()):
            raise DataError(f"{self.folder} is not empty and holds no training; choose another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.update(**about, key=key, status="running", started=there.get("started") or time.time())

    def update(self, **fields: Any) -> None:
        """Write fields into `run.json`, whole or not at all."""
        write(self.folder / _RECORD, self.record | fields)

    def keep(self, curves: list[dict[str, float]]) -> None:
        """Write the log."""
        write(self.folder / _CURVES, curves)

    @property
    def checkpoint(self) -> Path | None:
        """The latest checkpoint that was written to its end, None without one."""
        found = sorted(
            (p for p in (self.folder / "checkpoints").glob("checkpoint-*") if p.name.split("-")[-1].isdigit()),
            key=lambda p: int(p.name.split("-")[-1]),
        )
        # the state is written last: without it, or with half of it, the process was killed while saving
        return next((p for p in reversed(found) if _read(p / _STATE) is not None), None)


def versions() -> dict[str, str]:
    """Versions of everything that takes part."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    half = path.with_suffix(".part")
    half.write_text(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    half.replace(path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
