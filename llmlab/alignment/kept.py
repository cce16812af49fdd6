"""Steering vectors in a file: safetensors, never pickle, with how they were made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmlab.errors import DataError
from llmlab.stats import Floats

_FORMAT = "llmlab steering 1"
_BY_LAYER = ("typical", "agreement", "explained")


def save(
    path: str | os.PathLike[str], vectors: Mapping[int, Floats], where: str, act: str, made: Mapping[str, Any]
) -> None:
    """Write vectors by layer and metadata; an existing file is replaced in one step."""
    from safetensors.numpy import save as encode

    metadata = {"format": _FORMAT, "where": where, "act": act, "made": json.dumps(dict(made))}
    data = encode({str(k): np.ascontiguousarray(v) for k, v in vectors.items()}, metadata)
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(place.name + ".new")
    new.write_bytes(data)
    new.replace(place)


def load(path: str | os.PathLike[str]) -> tuple[dict[int, Floats], Any, Any, dict[str, Any]]:
    """What `save` wrote: vectors, where, act, made.

    Raises:
        DataError: for a file that is none of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise DataError(f"{os.fspath(path)} holds no steering vectors; write some with `steering.save(path)`")
            vectors = {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise DataError(f"{os.fspath(path)} cannot be read as steering vectors: {error}") from error
    made = json.loads(metadata["made"])
    for name in _BY_LAYER:  # JSON has no whole numbers as keys
        if name in made:
            made[name] = {int(layer): value for layer, value in made[name].items()}
    return vectors, metadata["where"], metadata["act"], made
