"""A preference model in a folder: weights in safetensors, comparisons in JSONL, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llmlab.errors import DataError
from llmlab.stats import Floats

_FORMAT = "llmlab preference 1"


class Kept(NamedTuple):
    """What a folder holds: comparisons as dicts, weights (size,), the name of the features, and the prior."""

    comparisons: Sequence[Mapping[str, Any]]
    weights: Floats
    features: str
    prior: float


def save(
    folder: str | os.PathLike[str],
    comparisons: Sequence[Mapping[str, Any]],
    weights: Floats,
    features: str,
    prior: float,
) -> None:
    """Write a model; files that are there are replaced one by one."""
    from safetensors.numpy import save as encode

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in comparisons]
    metadata = {"format": _FORMAT, "features": features, "prior": repr(prior)}
    _write(place / "comparisons.jsonl", "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    _write(place / "weights.safetensors", encode({"weights": weights}, metadata))


def load(folder: str | os.PathLike[str]) -> Kept:
    """Read what `save` wrote.

    Raises:
        DataError: when the folder holds no preference model.
    """
    from safetensors import SafetensorError, safe_open

    place = Path(folder)
    try:
        with safe_open(place / "weights.safetensors", framework="numpy") as file:
            metadata, weights = file.metadata() or {}, file.get_tensor("weights")
        rows = [json.loads(line) for line in (place / "comparisons.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise DataError(f"{place} cannot be read as a preference model: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise DataError(f"{place} holds no preference model; write one with `model.save(folder)`")
    return Kept(rows, weights, metadata["features"], float(metadata["prior"]))


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)
