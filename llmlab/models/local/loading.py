"""From a hub id or a folder to weights in memory: safetensors only, without a network where the files are here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import ConnectionFailed, DataError, LabError, MissingPackage, Unauthorized, UnknownName

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DTYPES = ("float32", "bfloat16", "float16")
# up to this many bytes of weights are hashed whole, of more a block per tensor
_HASHED_WHOLE = 32 << 20
_BLOCK = 256


@dataclass(frozen=True)
class Loaded:
    """A model in memory, ready for inference, with its tokenizer.

    Attributes:
        context: longest sequence in tokens.
        window: length up to which every layer sees the whole sequence in the same way, None if that is the context:
            beyond it lie sliding windows and rotary scalings that change with the length.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    context: int
    window: int | None

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


def require(name: str) -> None:
    """Make sure that torch and transformers are installed; imports neither.

    Raises:
        MissingPackage: with the command that installs them.
    """
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(f"{name} needs the package {package!r}: pip install 'llmlab[local]'")


def locate(source: str, revision: str | None = None, trust_remote_code: bool = False) -> Path:
    """The folder that holds a model: `source` itself, or the hub's snapshot in the local cache, downloaded if need be.

    Raises:
        DataError: a folder that is no model, or whose weights are pickled.
        UnknownName: neither a folder nor a repository or revision of the hub.
        Unauthorized: a gated or private repository.
        ConnectionFailed: not here, and the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _checked(path, source)
    if path.is_absolute() or source.startswith((".", "~")):
        raise UnknownName(f"No folder {source!r}; 'hf/' takes a folder with config.json and *.safetensors, or a hub id")
    patterns = [*_PATTERNS, "*.py"] if trust_remote_code else _PATTERNS
    return _checked(_snapshot(source, revision, patterns), source)


def _snapshot(source: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        cached = Path(snapshot_download(source, revision=revision, local_files_only=True))
        if any(cached.glob("*.safetensors")):
            return cached
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        pass
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except errors.HFValidationError as error:
        raise UnknownName(f"{source!r} is neither a folder here nor a hub id (owner/name): {error}") from error
    except errors.GatedRepoError as error:
        raise Unauthorized(
            f"hf/{source} is gated: accept its terms on https://huggingface.co/{source} and log in with "
            "`hf auth login` (or set HF_TOKEN)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownName(
            f"The hub has no model {source!r} (or it is private: `hf auth login`), and there is no such folder here"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UnknownName(f"The hub's model {source!r} has no revision {revision!r}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ConnectionFailed(
            f"hf/{source}{at} is not in the local cache and the hub cannot be reached (HF_HUB_OFFLINE="
            f"{os.environ.get('HF_HUB_OFFLINE', '')}). Connect once, or download it elsewhere with "
            f"`hf download {source}` and give the folder: 'hf/path/to/folder'. 'micro/base' ships with the library"
        ) from error


def _checked(folder: Path, source: str) -> Path:
    if not (folder / "config.json").is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{source!r} is no model folder: config.json is missing (found: {found}); "
            "save one with model.save_pretrained(folder) and tokenizer.save_pretrained(folder)"
        )
    if any(folder.glob("*.safetensors")):
        return folder
    pickled = sorted(p.name for pattern in _PICKLED for p in folder.glob(pattern))
    if pickled:
        raise DataError(
            f"{source!r} has pickled weights only ({', '.join(pickled[:3])}); unpickling can run code, so they are not "
            "loaded. Take a revision with safetensors (on the hub often revision='refs/pr/1'), or convert them where "
            "you trust them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(other_folder)"
        )
    raise DataError(f"{source!r} has a config.json but no *.safetensors weights; download or save it again")


def fingerprint(folder: Path) -> str:
    """16 hex digits that change when the weights, the configuration or the tokenizer do.

    Small weight files are read whole; of large ones the header and a block out of every tensor, which
    training changes too. A hub snapshot is known by its commit.
    """
    if folder.parent.name == "snapshots":
        return folder.name
    state = hashlib.blake2b(digest_size=8)
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jinja", ".model", ".txt")):
        if path.name != "trainer_state.json":
            state.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        state.update(path.name.encode())
        _hash_weights(path, state)
    return state.hexdigest()


def _hash_weights(path: Path, state: hashlib.blake2b) -> None:
    if path.stat().st_size <= _HASHED_WHOLE:
        state.update(path.read_bytes())
        return
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
        state.update(header)
        for name, entry in sorted(json.loads(header).items()):
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                file.seek(8 + length + (start + end) // 2)
                state.update(file.read(min(_BLOCK, end - start)))


def load(
    folder: Path, source: str, *, device: str | None, dtype: str | None, trust_remote_code: bool = False
) -> Loaded:
    """Read the weights and the tokenizer.

    Raises:
        DataError: when the folder cannot be read as a causal language model.
        UnknownName: for an unknown dtype.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = torch.device(device or best_device())
    kind: torch.dtype = getattr(torch, dtype_name(dtype, device))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with _quiet():
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=kind,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{source!r} cannot be loaded as a causal language model: {error}") from error
    model, info = read
    if info["missing_keys"]:
        raise DataError(
            f"{source!r} lacks weights of its architecture ({', '.join(sorted(info['missing_keys'])[:3])}, …), which "
            "would be random; is it an adapter, or of another architecture than config.json says?"
        )
    model.to(where)
    model.eval().requires_grad_(False)
    return Loaded(model, tokenizer, where, kind, _context(model.config, tokenizer), _window(model.config))


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
    rope = getattr(text, "rope_parameters", None) or {}
    # one set of parameters, or one for each kind of layer
    limits = [
        r.get("original_max_position_embeddings", getattr(text, "original_max_position_embeddings", None))
        for r in (rope, *(v for v in rope.values() if isinstance(v, dict)))
        if r.get("rope_type") in ("dynamic", "longrope")
    ]
    kinds = getattr(text, "layer_types", None)
    slides = kinds is None or any("sliding" in kind or "chunked" in kind for kind in kinds)
    if slides and getattr(text, "use_sliding_window", True) is not False:
        limits += [getattr(text, "sliding_window", None), getattr(text, "attention_chunk_size", None)]
    return min((n for n in limits if isinstance(n, int) and n > 0), default=None)


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
    from llmlab.errors import ProviderError

    return error if isinstance(error, LabError) else ProviderError(f"{doing}: {type(error).__name__}: {error}")
