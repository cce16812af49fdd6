"""Low-rank adapters beside a model: on for a call and off again, the model's own weights untouched."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.errors import DataError
from llmlab.models.local.undo import surely

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "adapter_model.safetensors"
# settings of PEFT's that say where an adapter is and how it was trained, and change nothing in how it is computed
_HARMLESS = frozenset(
    {
        *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("lora_dropout", "fan_in_fan_out", "megatron_core", "qalora_group_size", "runtime_config", "loftq_config"),
        *("eva_config", "ensure_weight_tying", "bias", "init_lora_weights"),
        *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
    }
)
# ways to begin a training that leave the base as it is
_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


def not_beside(folder: Path) -> str:
    """Why an adapter cannot stay beside its base and has to be merged into it, "" when it can."""
    config = _config(folder)
    if config.get("peft_type") != "LORA":
        return f"it is of the type {config.get('peft_type')!r}"
    if config.get("bias", "none") != "none":
        return "it has biases of its own"
    if config.get("init_lora_weights") not in _BEGINNINGS:
        return f"it began as {config['init_lora_weights']!r}, which changes the base"
    others = sorted(name for name, value in config.items() if value and name not in _HARMLESS)
    if others:
        return f"it has {', '.join(others)}"
    if not (folder / WEIGHTS).is_file():
        return f"it has no {WEIGHTS}"
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        strange = [name for name in file.keys() if not _NAME.fullmatch(name)]  # noqa: SIM118  # no mapping
    return f"it has {strange[0]}" if strange else ""


class LowRank:
    """A LoRA adapter as an intervention (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

    What a matrix makes of its input x gets scale * B A x added, in float32 as PEFT does it. The sum is that of the
    merged weights but for rounding; the base stays one for all its adapters.

    Args:
        folder: with PEFT's files.
        name: for errors.
        key: what the files hold; adapters with equal keys share a batch.
    """

    packs = anywhere = True

    def __init__(self, folder: Path, name: str, key: str) -> None:
        self.folder = folder
        self.name = name
        self.key = key
        self._placed: tuple[Any, list[_Added]] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LowRank) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"LowRank({self.name!r}, {self.key})"

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """A context in which the model computes with the adapter.

        Raises:
            DataError: when the adapter does not fit the model.
        """
        if self._placed is None or self._placed[0] is not model:
            self._placed = (model, self._read(model))
        before: list[tuple[nn.Module, Callable[..., Tensor] | None]] = []
        try:
            for module, down, up, scale in self._placed[1]:
                before.append((module, vars(module).get("forward")))
                # an instance attribute hides the method, or the prepacked product that hides it already
                module.forward = functools.partial(_forward, module.forward, down, up, scale)
            yield
        finally:
            surely(lambda: _back(before))

    def _read(self, model: Any) -> list[_Added]:
        """The matrices that it adds to, with what it adds."""
        from safetensors.torch import load_file

        config = _config(self.folder)
        halves: dict[str, dict[str, Tensor]] = {}
        for key, weight in load_file(self.folder / WEIGHTS).items():
            found = _NAME.fullmatch(key)
            assert found is not None
            halves.setdefault(found[1], {})[found[2]] = weight.float()
        modules = dict(model.named_modules())
        added = []
        for name, half in halves.items():
            if name not in modules or len(half) != 2:
                raise DataError(f"{self.name} does not fit its base: {type(model).__name__} has no {name}")
            module = modules[name]
            down, up = half["A"].to(model.device), half["B"].to(model.device)
            shape = _shape(module)
            if (up.shape[0], down.shape[1]) != shape or down.shape[0] != up.shape[1]:
                raise DataError(
                    f"{self.name} does not fit its base: {name} is a matrix {shape[0]} x {shape[1]}, what is added to "
                    f"it {up.shape[0]} x {down.shape[1]} (rank {down.shape[0]})"
                )
            added.append(_Added(module, down.t(), up.t(), _scale(config, name, down.shape[0])))
        return added


class _Added(NamedTuple):
    """What a module's output gets added: scale * x @ down @ up; down (in, rank), up (rank, out)."""

    module: nn.Module
    down: Tensor
    up: Tensor
    scale: float


def _forward(inner: Callable[..., Tensor], down: Tensor, up: Tensor, scale: float, x: Tensor, *more: Any) -> Tensor:
    import torch

    out = inner(x, *more)
    low = x.flatten(0, -2).to(down.dtype) @ down
    if out.dtype == down.dtype:
        return torch.addmm(out.flatten(0, -2), low, up, alpha=scale).view(out.shape)
    return (out + (low @ up).view(out.shape) * scale).to(out.dtype)


def _back(before: list[tuple[nn.Module, Callable[..., Tensor] | None]]) -> None:
    for module, forward in before:
        if forward is None:
            vars(module).pop("forward", None)
        else:
            module.forward = forward


def _shape(module: Any) -> tuple[int, int]:
    """(out, in) of a linear layer, quantised or not; GPT-2's keep them the other way round."""
    if hasattr(module, "out_features"):
        return int(module.out_features), int(module.in_features)
    if hasattr(module, "nf"):
        return int(module.nf), int(module.nx)
    return -1, -1


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    own = config.get("alpha_pattern") or {}
    alpha = float(next((a for key, a in own.items() if re.match(rf"(.*\.)?({key})$", module)), config["lora_alpha"]))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _config(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return read
