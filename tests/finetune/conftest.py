"""Small trainings that several tests look at, each done once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmlab.finetune.train import finetune
from llmlab.finetune.tuned import FineTune
from llmlab.settings import shipped

TICKETS = shipped("data/finetune/tickets_train.jsonl")
QUICK: dict[str, Any] = {"steps": 4, "batch": 8, "rank": 4, "validation": 0.05, "progress": False, "threads": 1}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FineTune]:
    """`trained("lora")`: a training of a few steps on the tickets."""

    @functools.cache
    def make(method: str = "lora") -> FineTune:
        folder = tmp_path_factory.mktemp("runs") / method
        return finetune("micro/small", TICKETS, method, folder=folder, **QUICK)  # type: ignore[arg-type]

    return make


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """`jsonl({...}, {...})`: a file with these rows."""
    import json

    def make(*rows: Any, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return make
