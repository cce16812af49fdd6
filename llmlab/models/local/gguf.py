"""`gguf/…`: a model in one GGUF file, as llama.cpp and its kin write it, read by transformers."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlab.errors import DataError, MissingPackage, UnknownName
from llmlab.models.local.loading import Loaded, load
from llmlab.models.local.source import Source
from llmlab.models.local.transformers import TransformersModel
from llmlab.types import Options

_MAGIC = b"GGUF"


class GgufModel(TransformersModel):
    """A model in a GGUF file: "gguf/" and its path.

    Its weights are unpacked into `dtype` when they load: what was lost by their quantisation stays lost, so quality is
    the file's, while memory and speed are those of an unquantised model. Log-likelihoods, steering and everything else
    work as for `hf/`.

    Args:
        name: "gguf/./models/base-q8_0.gguf".
        options: generation options.
        device: as for `hf/`.
        dtype: as for `hf/`.
        threads: CPU threads.
        batch_tokens: as for `hf/`.
    """

    def __init__(
        self,
        name: str,
        options: Options | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        batch_tokens: int = 2048,
    ) -> None:
        super().__init__(name, options, device=device, dtype=dtype, threads=threads, batch_tokens=batch_tokens)
        if importlib.util.find_spec("gguf") is None:
            raise MissingPackage(f"{name} needs the package 'gguf': pip install 'llmlab[gguf]'")

    @classmethod
    def source_of(cls, name: str, *settings: Any) -> Source:
        return GgufSource(name, cls._source(name), *settings)


@dataclass(frozen=True)
class GgufSource(Source):
    """Where a GGUF file is."""

    @functools.cached_property
    def file(self) -> Path:
        """The file.

        Raises:
            UnknownName: when there is none.
            DataError: when it is not in this format.
        """
        path = Path(self.source).expanduser()
        if not path.is_file():
            where, which = (path, "this") if path.is_dir() else (path.parent, "its")
            beside = ", ".join(sorted(p.name for p in where.glob("*.gguf"))[:8])
            raise UnknownName(f"No file {self.source!r} (GGUF files in {which} folder: {beside or 'none'})")
        with path.open("rb") as opened:
            begin = opened.read(4)
        if begin != _MAGIC:
            raise DataError(f"{self.source!r} is no GGUF file: it begins with {begin!r}, not with {_MAGIC!r}")
        return path

    @functools.cached_property
    def folder(self) -> Path:
        """The folder that the file is in."""
        return self.file.parent

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the file's content."""
        state = hashlib.blake2b(digest_size=8)
        with self.file.open("rb") as opened:
            while block := opened.read(1 << 20):
                state.update(block)
        return state.hexdigest()

    @property
    def weights_bytes(self) -> float:
        return self._bytes_of(self.folder, self.file.name)

    def load(self) -> Loaded:
        file = self.file
        with _silent():
            return load(file.parent, self.name, device=self.device, dtype=self.dtype, file=file.name)


@contextmanager
def _silent() -> Iterator[None]:
    """Without the bar over tensors, which transformers' own setting for bars does not reach."""
    import transformers.modeling_gguf_pytorch_utils as reader

    # not typed, and no name that is meant for others
    module: Any = reader
    bar = module.tqdm
    module.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        module.tqdm = bar
