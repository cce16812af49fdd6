"""Weights in 8 or 4 bits by bitsandbytes: less memory, on a GPU also faster; the answers are another model's."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError, MissingPackage, UnknownName

if TYPE_CHECKING:
    import torch

# at its import it warns that a package with faster kernels for some processors is missing
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

BYTES = {"int8": 1.0, "int8-dynamic": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "fp4": 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Format -> bytes per weight of a layer, with the scales of its blocks (LLM.int8: Dettmers et al., 2022,
https://arxiv.org/abs/2208.07339; nf4 and fp4 with doubly quantised scales: 2023, https://arxiv.org/abs/2305.14314)."""
FORMATS = tuple(BYTES)

# the recurrence of these reads a layer's weights without calling it; what is named here replaces transformers'
# own choice, which is the head
_READ_ELSEWHERE = {kind: ["lm_head", "dt_proj"] for kind in ("mamba", "falcon_mamba", "jamba")}


def check_name(quantize: str | None) -> None:
    """Make sure that a format is known; imports nothing heavy.

    Raises:
        UnknownName: listing the known formats.
    """
    if quantize is not None and quantize not in FORMATS:
        raise UnknownName.among(
            "quantisation", quantize, FORMATS, "GGUF files (q8_0, q4_0, …) are models of their own: 'gguf/path.gguf'"
        )


def settings(
    quantize: str, device: torch.device, dtype: torch.dtype, name: str, family: str | None = None
) -> dict[str, Any]:
    """What transformers' `from_pretrained` needs to quantise while it loads.

    Args:
        quantize: one of `FORMATS`.
        device: where it will run.
        dtype: what products of 4 bit weights are computed in.
        name: what the user called the model, for errors.
        family: `model_type` of the model's configuration.

    Raises:
        MissingPackage: without bitsandbytes.
        DataError: for a device that has no kernels.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackage(f"{name} with quantize={quantize!r} needs 'bitsandbytes': pip install 'llmlab[train]'")
    if device.type not in ("cpu", "cuda", "xpu"):
        raise DataError(
            f"{name}: quantize={quantize!r} has no kernels for {str(device)!r}; use device='cpu' or 'cuda', "
            "dtype='bfloat16', or a GGUF file"
        )
    if quantize == "int8-dynamic":
        _check_bytes(device, name)
    from transformers import BitsAndBytesConfig

    # it says with every product that float32 becomes float16, which is how the method works
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    make: Any = BitsAndBytesConfig
    kept = {"llm_int8_skip_modules": _READ_ELSEWHERE.get(family or "")}
    if quantize.startswith("int8"):
        config = make(load_in_8bit=True, **kept)
    else:
        config = make(
            **kept,
            load_in_4bit=True,
            bnb_4bit_quant_type=quantize,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config, "device_map": {"": str(device)}}


def multiplies_bytes() -> bool:
    """Whether this processor has instructions for products of bytes, as far as this torch can tell."""
    import torch

    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


def _check_bytes(device: torch.device, name: str) -> None:
    if device.type != "cpu" or not multiplies_bytes():
        where = "this processor has none" if device.type == "cpu" else f"it is to run on {str(device)!r}"
        raise DataError(
            f"{name}: quantize='int8-dynamic' needs a CPU with instructions for products of bytes (VNNI), and {where}; "
            "take 'int8'"
        )


def settle(model: Any, quantize: str) -> None:
    """Have the layers of a quantised model compute what they can here, and each row as if it were alone."""
    from bitsandbytes.nn.modules import Linear4bit

    from llmlab.models.local.int8 import by_row, dynamic

    (dynamic if quantize == "int8-dynamic" else by_row)(model)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # on processors with AVX-512 its own layout has blocks of 32 by 64, and refuses others at the first product
            if module.out_features % 32 or module.in_features % 64:
                module.support_avx512bf16_for_cpu = False
            module.register_forward_pre_hook(_in_rows)


def _in_rows(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    # bitsandbytes 0.50 reads a transposed input there as if it were not, and gives other numbers without a word
    return (inputs[0].contiguous(),)
