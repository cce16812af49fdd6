"""The model that is trained: what a training needs to know of it before and while it loads."""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any

from llmlab.errors import NeedsLocalModel
from llmlab.models.base import Model
from llmlab.models.local.transformers import TransformersModel
from llmlab.models.registry import model as known

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


def local(model: str | Model) -> TransformersModel:
    """The model, if its weights run here.

    Raises:
        NeedsLocalModel: for a cloud model or a wrapped one.
    """
    found = known(model)
    if not isinstance(found, TransformersModel):
        raise NeedsLocalModel(
            f"{found.name} cannot be trained: fine-tuning changes weights, so it takes a model of 'hf/…' or 'micro/…'"
        )
    return found


def tokenizer_of(model: str | Model) -> PreTrainedTokenizerBase:
    """The tokenizer of a local model, without its weights."""
    return _tokenizer(local(model).source.folder)


@functools.lru_cache(4)
def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(folder)
    return made  # type: ignore[no-any-return]


def fresh_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A tokenizer that may be changed: trainers set its padding."""
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(folder)
    if made.pad_token is None:
        made.pad_token = made.eos_token
    return made  # type: ignore[no-any-return]


@functools.lru_cache(16)
def size(folder: Path) -> int:
    """Number of weights in a model's files, read from their headers."""
    return sum(math.prod(shape) for shape in shapes(folder).values())


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a model's files, without reading the tensors."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        found |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    return found
