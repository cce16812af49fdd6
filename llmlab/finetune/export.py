"""The result for others: files that plain transformers, PEFT and llama.cpp read without us."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llmlab.errors import DataError, UnknownName
from llmlab.finetune import gguf
from llmlab.finetune.methods import quiet

if TYPE_CHECKING:
    from llmlab.finetune.tuned import FineTune

Kind: TypeAlias = Literal["adapter", "merged", "gguf"]
KINDS: tuple[Kind, ...] = ("adapter", "merged", "gguf")


_DTYPES = ("bfloat16", "float16", "float32")


def export(tuned: FineTune, place: Path, kind: str = "merged", dtype: str | None = None) -> Path:
    """Write a tuned model.

    Args:
        tuned: the finished training.
        place: a folder that is new or empty; for "gguf" the file.
        kind: "adapter" (PEFT's files), "merged" (a whole model as safetensors, with its tokenizer) or "gguf".
        dtype: of merged weights "float32", "bfloat16" or "float16", of GGUF also "q8_0"; None keeps the base's, and is
            "float16" in GGUF.

    Returns:
        The folder, or the GGUF file.

    Raises:
        UnknownName: for another kind or dtype.
        DataError: for the dtype of an adapter, when the place is taken, or the training has no adapter.
    """
    if kind not in KINDS:
        raise UnknownName.among("kind of export", kind, KINDS)
    if kind == "adapter" and dtype is not None:
        raise DataError(f"an adapter is written as it was trained: leave dtype={dtype!r} out, or export kind='merged'")
    if kind == "merged" and dtype not in (None, *_DTYPES):
        raise UnknownName.among("dtype of merged weights", dtype, _DTYPES, "Others are of GGUF: kind='gguf'")
    if place.exists() and (place.is_file() or any(place.iterdir())):
        raise DataError(f"{place} is already there; give a new or empty folder")
    if kind == "gguf":
        file = place if place.suffix == ".gguf" else place / f"{_name(tuned)}.gguf"
        return gguf.write(tuned.model, file, dtype or "float16")
    if kind == "adapter":
        if not tuned.recipe.adapts:
            raise DataError(f"{tuned.folder}: method 'full' has no adapter; export kind='merged'")
        shutil.copytree(tuned.folder / "adapter", place, dirs_exist_ok=True)
    else:
        _merged(tuned, place, dtype)
    (place / "README.md").write_text(tuned.card(), encoding="utf-8")
    return place


def _merged(tuned: FineTune, place: Path, dtype: str | None) -> None:
    import torch

    loaded: Any = tuned.model.load()  # type: ignore[attr-defined]  # ours are local
    kept = getattr(torch, dtype or _stored(tuned.base))
    # a copy: the model that answers must keep its precision
    model = loaded.model if loaded.dtype == kept else copy.deepcopy(loaded.model).to(kept)
    with quiet():
        model.save_pretrained(place)
    loaded.tokenizer.save_pretrained(place)
    for file in place.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner can read


def _stored(base: Any) -> str:
    """The number format that a base's own files have."""
    import json

    config = json.loads((base.source.folder / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _name(tuned: FineTune) -> str:
    record = tuned.record
    return f"{record['base'].replace('/', '-')}-{record['recipe']['method']}"
