"""From a hub id or a folder to files that may be loaded: safetensors only, without a network where they are here."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab.errors import ConnectionFailed, DataError, MissingPackage, Unauthorized, UnknownName
from llmlab.models.local.headers import header

if TYPE_CHECKING:
    from llmlab.models.local.loading import Loaded

PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# up to this many bytes of weights are hashed whole, of more a block per tensor
_HASHED_WHOLE = 32 << 20
_BLOCK = 256


@dataclass(frozen=True)
class Source:
    """Where a model comes from and how it is loaded."""

    name: str
    source: str
    device: str | None = None
    dtype: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    quantize: str | None = None

    @functools.cached_property
    def folder(self) -> Path:
        """The folder with the files; downloads them if they are not here."""
        return locate(self.source, self.revision, self.trust_remote_code)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What the files hold, in 16 hex digits (a commit of the hub in 40)."""
        return fingerprint(self.folder)

    @property
    def weights_bytes(self) -> float:
        """Bytes that the weights will take in memory; NaN where the files do not tell."""
        return self._bytes_of(self.folder)

    def _bytes_of(self, folder: Path, file: str | None = None) -> float:
        import torch

        from llmlab.models.local.loading import dtype_name
        from llmlab.models.local.room import weights_bytes

        dtype: torch.dtype = getattr(torch, dtype_name(self.dtype, self.device))
        return weights_bytes(folder, dtype.itemsize, self.quantize, file)

    def load(self) -> Loaded:
        """Read the weights; raises as `llmlab.models.local.loading.load`."""
        from llmlab.models.local.loading import load

        return load(
            self.folder,
            self.name,
            device=self.device,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            quantize=self.quantize,
        )


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
        DataError: a folder that is no model, for which there is a revision, or whose weights are pickled.
        UnknownName: neither a folder nor a repository or revision of the hub.
        Unauthorized: a gated or private repository.
        ConnectionFailed: not here, and the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if source and path.is_dir():
        if revision is not None:
            raise DataError(
                f"revision={revision!r} is for models of the hub; {source!r} is a folder here: leave it out"
            )
        return _checked(path, source)
    if path.is_file() and path.suffix == ".gguf":
        raise UnknownName(f"{source!r} is a GGUF file: 'gguf/{source}' reads it")
    if not source or path.is_absolute() or source.startswith((".", "~")):
        raise UnknownName(f"No folder {source!r}; 'hf/' takes a folder with config.json and *.safetensors, or a hub id")
    patterns = [*PATTERNS, "*.py"] if trust_remote_code else PATTERNS
    return _checked(snapshot(source, revision, patterns), source)


def snapshot(source: str, revision: str | None, patterns: list[str], *, whole: bool = False) -> Path:
    """A repository's files in the local cache, downloaded if it has no weights there. Raises as `locate`.

    `whole` asks the hub whether all of them are here: a download may have been interrupted.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        cached = Path(snapshot_download(source, revision=revision, local_files_only=True))
        if any(cached.glob("*.safetensors")) and not whole:
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
    try:
        if not isinstance(json.loads((folder / "config.json").read_text(encoding="utf-8")), dict):
            raise ValueError("it should be an object")
    except ValueError as error:
        raise DataError(f"{source!r}: config.json cannot be read ({error}); download or save it again") from error
    if any(folder.glob("*.safetensors")):
        return folder
    pickled = sorted(p.name for pattern in _PICKLED for p in folder.glob(pattern))
    if pickled:
        raise DataError(
            f"{source!r} has pickled weights only ({', '.join(pickled[:3])}); unpickling can run code, so they are not "
            "loaded. Take a revision with safetensors (on the hub often revision='refs/pr/1'), or convert them where "
            "you trust them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(other_folder)"
        )
    if folder.parent.name == "snapshots":
        raise DataError(
            f"the hub's {source!r} has no *.safetensors; pickled weights are not loaded, because unpickling can run "
            "code. Take a revision that has them (often revision='refs/pr/1') or another copy of the model"
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
    tensors = header(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        state.update(file.read(length))
        for name, entry in sorted(tensors.items()):
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                file.seek(8 + length + (start + end) // 2)
                state.update(file.read(min(_BLOCK, end - start)))
