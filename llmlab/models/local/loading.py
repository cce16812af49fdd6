"""From a folder to weights in memory: what transformers reads, on which device, and what the model can take."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError, LabError, ProviderError, UnknownName
from llmlab.models.local.headers import header
from llmlab.models.local.quantize import settings as quantize_settings
from llmlab.models.local.quantize import settle
from llmlab.models.local.room import check_room, weights_bytes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_DTYPES = ("float32", "bfloat16", "float16")
_AGAIN = "if the GGUF file was cut short, download or export it again"
# what transformers raises over files that are not what they should be
_UNREADABLE = (OSError, ValueError, LookupError, RuntimeError, struct.error)


@dataclass(frozen=True)
class Loaded:
    """A model in memory, ready for inference, with its tokenizer.

    Attributes:
        context: longest sequence in tokens.
        window: length up to which every layer sees the whole sequence in the same way, None if that is the context:
            beyond it lie sliding windows and rotary scalings that change with the length.
        quantize: how the matrices are stored, None as `dtype`.
        turn: length beyond which every position of a sequence is rotated otherwise (longrope), None if there is none.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    context: int
    window: int | None
    quantize: str | None = None
    turn: int | None = None

    @property
    def token_bytes(self) -> int:
        """Memory that the keys and values of one token take, at most; 1 for a model without attention."""
        text = self.model.config.get_text_config()
        queries = getattr(text, "num_attention_heads", None)
        if not queries:
            return 1
        heads = getattr(text, "num_key_value_heads", None) or queries
        width = getattr(text, "head_dim", None) or text.hidden_size // queries
        return int(2 * text.num_hidden_layers * heads * width * self.dtype.itemsize)


def load(
    folder: Path,
    source: str,
    *,
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    file: str | None = None,
) -> Loaded:
    """Read the weights and the tokenizer.

    Args:
        folder: with the files.
        source: what the user called it, for errors.
        device: None takes the fastest.
        dtype: None takes what is usual on the device.
        trust_remote_code: run the model's own code.
        quantize: one of `llmlab.models.local.quantize.FORMATS`.
        file: a GGUF file in the folder that has everything, in place of safetensors.

    Raises:
        DataError: when the folder cannot be read as a causal language model, or memory will not hold it.
        UnknownName: for an unknown dtype, or a device that is not here.
        MissingPackage: for a quantised model without bitsandbytes.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = device_of(device)
    kind: torch.dtype = getattr(torch, dtype_name(dtype, device))
    own: dict[str, Any] = {"gguf_file": file} if file else {}
    packed = quantize_settings(quantize, where, kind, source, _family(folder)) if quantize else {}
    for weights in () if file else sorted(folder.glob("*.safetensors")):
        header(weights)
    check_room(weights_bytes(folder, kind.itemsize, quantize, file), where, source, quantize)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, **own)
    except (*_UNREADABLE, TypeError, AttributeError) as error:
        if file:
            raise DataError(f"{source!r} cannot be read ({_first_line(error)}); {_AGAIN}") from error
        there = any(p for pattern in ("*token*", "*vocab*", "*.model") for p in folder.glob(pattern))
        raise DataError(
            f"{source!r} has no tokenizer that transformers can read "
            f"({_first_line(error) if there else 'no tokenizer.json, tokenizer.model or vocabulary is there'}); "
            "save the model's own beside the weights: tokenizer.save_pretrained(folder)"
        ) from error
    try:
        with _quiet():
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=kind,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                **own,
                **packed,
            )
    except (*_UNREADABLE, SafetensorError) as error:
        why = f"{_first_line(error)}; {_AGAIN}" if file else _why(error)
        raise DataError(f"{source!r} cannot be loaded as a causal language model: {why}") from error
    model, info = read
    if info["missing_keys"]:
        raise DataError(
            f"{source!r} lacks weights of its architecture ({', '.join(sorted(info['missing_keys'])[:3])}, …), which "
            "would be random; is it an adapter, or of another architecture than config.json says?"
        )
    if not quantize:
        model.to(where)
    else:
        settle(model, quantize)
    model.eval().requires_grad_(False)
    return in_memory(model, tokenizer, where, kind, quantize)


def in_memory(
    model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype, quantize: str | None = None
) -> Loaded:
    """A model that has been read, with what it can take."""
    config = model.config
    return Loaded(
        model, tokenizer, device, dtype, _context(config, tokenizer), _window(config), quantize, _turn(config)
    )


def _family(folder: Path) -> str | None:
    found: str | None = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _why(error: Exception) -> str:
    """What transformers says, in a line, and what to do where it says that elsewhere."""
    text = str(error)
    if "trust_remote_code" in text:
        return "it comes with Python code of its own; read that, and if you trust it give trust_remote_code=True"
    if "ignore_mismatched_sizes" in text:
        return "its weights have other shapes than config.json says; take both from the same model"
    return text.strip().partition("\n")[0]


def device_of(name: str | None) -> torch.device:
    """The device of a name; None is the fastest.

    Raises:
        UnknownName: for one that is not here.
    """
    import torch

    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    here += ["mps"] if torch.backends.mps.is_available() else []
    try:
        found = torch.device(name or best_device())
        module = torch.get_device_module(found)
        if module.is_available() and (found.index or 0) < module.device_count():
            return found
    except RuntimeError:
        pass
    raise UnknownName.among("device", name, here, f"torch {torch.__version__} sees no others")


def best_device() -> str:
    """The fastest device here: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def dtype_name(dtype: str | None, device: str | None) -> str:
    """The number format that will be used: float32 on a CPU and bfloat16 elsewhere, unless one is given."""
    if dtype is None:
        return "float32" if (device or best_device()).startswith("cpu") else "bfloat16"
    if dtype not in _DTYPES:
        raise UnknownName.among("dtype", dtype, _DTYPES)
    return dtype


def _context(config: Any, tokenizer: Any) -> int:
    text = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length")
    limit = next((v for n in names if isinstance(v := getattr(text, n, None), int) and v > 0), None)
    # a tokenizer without a limit says int(1e30)
    tokenizer_limit = tokenizer.model_max_length if 0 < tokenizer.model_max_length < 1e9 else None
    if limit is None:
        return int(tokenizer_limit or 2048)
    return limit


def _window(config: Any) -> int | None:
    text = config.get_text_config()
    limits: list[Any] = _rotary_limits(text, "dynamic", "longrope")
    kinds = getattr(text, "layer_types", None)
    slides = kinds is None or any("sliding" in kind or "chunked" in kind for kind in kinds)
    if slides and getattr(text, "use_sliding_window", True) is not False:
        limits += [getattr(text, "sliding_window", None), getattr(text, "attention_chunk_size", None)]
    return min((n for n in limits if isinstance(n, int) and n > 0), default=None)


def _turn(config: Any) -> int | None:
    return min(_rotary_limits(config.get_text_config(), "longrope"), default=None)


def _rotary_limits(text: Any, *types: str) -> list[int]:
    """Lengths beyond which rotary scalings of these types change."""
    rope = getattr(text, "rope_parameters", None) or {}
    # one set of parameters, or one for each kind of layer
    limits = [
        r.get("original_max_position_embeddings", getattr(text, "original_max_position_embeddings", None))
        for r in (rope, *(v for v in rope.values() if isinstance(v, dict)))
        if r.get("rope_type") in types
    ]
    return [n for n in limits if isinstance(n, int) and n > 0]


class _quiet:  # noqa: N801  # reads as a statement: with _quiet():
    """Silence transformers' loading bar, and put it back."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.was = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        if self.was:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def as_lab_error(error: Exception, doing: str) -> LabError:
    """The library's error for whatever torch or the tokenizer raised."""
    return error if isinstance(error, LabError) else ProviderError(f"{doing}: {type(error).__name__}: {error}")
