"""Whether a model's weights fit into memory, said before they are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab.errors import DataError
from llmlab.models.local.headers import header
from llmlab.models.local.quantize import BYTES

if TYPE_CHECKING:
    import torch

# parts of the names of tensors that stay as they are when the layers are quantised; transformers 5 keeps experts in one
# tensor of three dimensions, which bitsandbytes does not take
_OUTSIDE = ("expert", "embed", "lm_head", "wte", "wpe", "norm", "ln_", "output.weight", "dt_proj")


def weights_bytes(folder: Path, itemsize: int, quantize: str | None = None, file: str | None = None) -> float:
    """Bytes that a model's weights will take in memory, from the headers of its files; NaN when these cannot be read.

    Args:
        folder: with safetensors.
        itemsize: bytes per weight that is not quantised.
        quantize: how the layers' matrices are stored.
        file: a GGUF file, whose weights are unpacked when they are read.
    """
    try:
        if file is not None:
            from gguf import GGUFReader

            return float(sum(int(t.n_elements) for t in GGUFReader(folder / file).tensors) * itemsize)
        return sum(
            math.prod(shape) * (BYTES[quantize] if quantize and _inside(name, shape) else itemsize)
            for name, shape in _shapes(folder).items()
        )
    except (OSError, ValueError, LookupError, ImportError):
        return math.nan  # reading the weights says better what is wrong


def free_bytes(device: torch.device) -> float:
    """Memory for weights on a device: of a GPU what is free, else the machine's available memory and free swap."""
    import psutil
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available + psutil.swap_memory().free)


def check_room(needed: float, device: torch.device, name: str, quantize: str | None = None) -> None:
    """Refuse weights that memory will not hold.

    Raises:
        DataError: with what is needed, what is free and what takes less.
    """
    free = free_bytes(device)
    if not needed > free:  # NaN: unknown
        return
    less = "a smaller model" if quantize in ("nf4", "fp4") else "quantize='nf4' or dtype='bfloat16', or a smaller model"
    raise DataError(
        f"{name} needs {needed / 1e9:.1f} GB for its weights and {free / 1e9:.1f} GB are free on {str(device)!r}; "
        f"take {less} (`lab.models(local=True)` shows what fits here)"
    )


def _inside(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and not any(part in name for part in _OUTSIDE)


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= {name: tuple(entry["shape"]) for name, entry in header(path).items() if name != "__metadata__"}
    return found
