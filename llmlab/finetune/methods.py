"""Methods: how a base is loaded for training, in which number format, and what of it is trained."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmlab.errors import DataError, LabError, MissingPackage, UnknownName
from llmlab.finetune import heap
from llmlab.finetune.config import Recipe
from llmlab.models.local.loading import best_device
from llmlab.models.local.source import Source

# modules by the ends of their names, as PEFT takes them
_HEAD = "lm_head"


class Diverged(LabError):
    """The loss is no longer a number; the message says where, and which checkpoint is still good."""


class OutOfMemory(LabError):
    """The training does not fit into memory; the message says which setting gives how much."""


def require() -> None:
    """Make sure that the packages for training are there; imports none.

    Raises:
        MissingPackage: with the command that installs them.
    """
    for package in ("torch", "transformers", "trl", "peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(f"fine-tuning needs the package {package!r}: pip install 'llmlab[train]'")


def check_device(recipe: Recipe, source: Source) -> None:
    """Make sure that the method works where the base is trained; loads nothing.

    Raises:
        MissingPackage: for "qlora" without bitsandbytes.
        DataError: for "qlora" on a device that it has no kernels for.
    """
    if recipe.method != "qlora":
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackage("method 'qlora' needs the package 'bitsandbytes': pip install 'llmlab[train]'")
    device = device_of(source)
    if not device.startswith(("cpu", "cuda", "xpu")):
        raise DataError(
            f"method 'qlora' has no 4-bit kernels for {device!r}; use device='cpu' or 'cuda', or method='lora'"
        )


def device_of(source: Source) -> str:
    """Where a base is trained."""
    return source.device or best_device()


def precision_of(recipe: Recipe, device: str) -> str:
    """The number format of the matrix products: bfloat16 where the hardware has it, unless one is asked for."""
    import torch

    if recipe.precision != "auto":
        return recipe.precision
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # without such instructions bfloat16 is emulated, and slower than float32
    return "bfloat16" if device == "cpu" and _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def load(source: Source, recipe: Recipe) -> Any:
    """Read a base's weights for training: in 4 bits for qlora, else float32 (bfloat16 for adapters on a GPU)."""
    import torch
    from transformers import AutoModelForCausalLM

    device = device_of(source)
    if device == "cpu":
        heap.give_back()
    settings: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": source.trust_remote_code}
    if recipe.method == "qlora":
        settings |= {
            "quantization_config": _four_bits(recipe, device),
            "device_map": {"": device},
            "dtype": torch.float32,
        }
        if device != "cpu":
            settings["dtype"] = torch.bfloat16
    else:
        small = recipe.adapts and precision_of(recipe, device) == "bfloat16" and device != "cpu"
        settings["dtype"] = torch.bfloat16 if small else torch.float32
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(source.folder, **settings)
    if recipe.method == "qlora":
        _keep_gradients(model)
        leave_file(model)
    else:
        model.to(device)
    model.config.use_cache = False
    return model


def _four_bits(recipe: Recipe, device: str) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if precision_of(recipe, device) == "bfloat16" and device != "cpu" else torch.float32
    make: Any = BitsAndBytesConfig
    return make(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )


def _keep_gradients(model: Any) -> None:
    """Keep bitsandbytes 0.50 from repacking 4-bit weights on CPUs with bfloat16 instructions.

    A forward pass in evaluation mode repacks them in place, and from then on no gradient passes through them: a
    training that is evaluated in between would silently stop learning.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.modules.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def leave_file(model: Any) -> None:
    """Copy what was not quantised or narrowed out of the weights' file.

    On a CPU such tensors are views of the mapped file. They would keep all of it in memory, and with it the weights in
    full precision that were read to be converted.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.is_floating_point():
            tensor.data = tensor.data.clone()


def adapter(model: Any, recipe: Recipe) -> Any:
    """PEFT's configuration of the adapter; None when every weight is trained.

    Raises:
        UnknownName: for a target that the model has no module of.
    """
    if not recipe.adapts:
        return None
    from peft import LoraConfig

    targets: Any = recipe.targets
    if targets != "all-linear":
        targets = [targets] if isinstance(targets, str) else list(targets)
        known = linear_names(model)
        for target in targets:
            if target not in known:
                raise UnknownName.among("linear module of this model", target, known, "Or 'all-linear'")
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.scale,
        lora_dropout=recipe.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of a model's linear modules, without the head."""
    import torch

    found = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return sorted(found - {_HEAD})


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the libraries say at import and loading and a user can do nothing about."""
    import datasets
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("bitsandbytes", "trl", "accelerate")]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    tables = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not tables:
            datasets.enable_progress_bars()
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
