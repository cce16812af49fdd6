"""What safetensors files say about themselves, and whether they are what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmlab.errors import DataError


def header(path: Path) -> dict[str, Any]:
    """What a safetensors file says about its tensors (name -> dtype, shape, data_offsets).

    Raises:
        DataError: for a file that is none, or that does not end where it should.

    Source: https://huggingface.co/docs/safetensors/index#format
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
        length = int.from_bytes(begin, "little")
        content = file.read(length) if length < size else b""
    if begin == b"version ":
        raise DataError(f"{path} is git-lfs' note of where the weights are, not the weights: run `git lfs pull` there")
    try:
        found: dict[str, Any] = json.loads(content)
        end = max((entry["data_offsets"][1] for name, entry in found.items() if name != "__metadata__"), default=0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no safetensors file, or a broken one; download or save it again") from error
    if 8 + length + end != size:
        raise DataError(
            f"{path} has {size:,} bytes and should have {8 + length + end:,}: it was cut short or changed; "
            "download or save it again"
        )
    return found
