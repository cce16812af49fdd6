"""Similarity of meaning: the cosine of the angle between two sentence embeddings."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from llmlab.errors import DataError, MissingPackage
from llmlab.scorers.base import Rule, acceptable, no_target, shorten
from llmlab.types import Sample, Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}
_lock = threading.Lock()


@dataclass(frozen=True)
class Similarity(Rule):
    """The answer means what a target means."""

    name: ClassVar[str] = "similarity"
    model: str = MINILM
    threshold: float | None = None

    def __call__(self, text: str, sample: Sample) -> Score:
        targets = acceptable(sample)
        if not targets:
            return no_target(sample)
        if not text.strip():
            return Score(0.0, None, "the answer is empty", parsed=False)
        cosine, target = max((self.cosine(text, target), target) for target in targets)
        value = min(1.0, max(0.0, cosine)) if self.threshold is None else float(cosine >= self.threshold)
        return Score(value, text.strip(), f"cosine {cosine:.3f} with {shorten(target)!r}", {"cosine": cosine})

    def cosine(self, a: str, b: str) -> float:
        """Cosine similarity of two texts, in [-1, 1]; 0 when one is blank, of which some models see no token."""
        if not (a.strip() and b.strip()):
            return 0.0
        return float(_embedding(self.model, a) @ _embedding(self.model, b))


def similarity(model: str | Path = MINILM, threshold: float | None = None) -> Similarity:
    """The cosine between the embeddings of the answer and of the nearest target; below 0 counts as 0.

    Args:
        model: hub id or folder of a sentence-transformers model or of any transformers encoder.
        threshold: cosine from which the answer counts as right; None keeps the cosine as the value. Cosines are not
            comparable between models: choose it with `calibration`.

    Mean or first-token pooling over the encoder's last layer, as the model says, gives the numbers of
    sentence-transformers; that package, which takes long to load, is only used for models with other layers, and for
    those that put a text into a chat template, behind a prompt or in lower case. Texts over the model's length are cut.

    Raises:
        DataError: when the model cannot be loaded.
        MissingPackage: when transformers is not installed, or the model needs sentence-transformers and it is not.

    Source: Reimers and Gurevych (2019), https://arxiv.org/abs/1908.10084
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise DataError(f"threshold is a cosine in [-1, 1], got {threshold!r}")
    encoder(str(model))  # a model that does not load must not be found out after the answers are paid for
    return Similarity(str(model), threshold)


@functools.lru_cache(maxsize=4096)
def _embedding(model: str, text: str) -> Vector:
    with _lock:
        # half a surrogate pair is no text to a tokenizer
        return encoder(model)(text.encode("utf-8", "replace").decode())


@functools.lru_cache(maxsize=4)
def encoder(model: str) -> Callable[[str], Vector]:
    """A function from text to a vector of length 1, on the CPU."""
    try:
        pooling = _pooling(model)
        return _plain_encoder(model, pooling) if pooling else _sentence_encoder(model)
    except (OSError, ValueError) as error:
        raise DataError(
            f"no embedding model {model!r}: {shorten(' '.join(str(error).split()), 300)}. Give the folder of a model "
            f"that is here, or the id of one that the hub has and that can be reached, such as {MINILM!r}"
        ) from error


def _sentence_encoder(model: str) -> Callable[[str], Vector]:
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"the embedding model {model} needs the package: pip install sentence-transformers"
        ) from error

    loaded = SentenceTransformer(model, device="cpu")

    def encode(text: str) -> Vector:
        found: Vector = loaded.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return found

    return encode


def _plain_encoder(model: str, pooling: str) -> Callable[[str], Vector]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from llmlab.models.local.loading import _quiet

    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModel.from_pretrained(model).eval()
    own = (_config(model, "sentence_bert_config.json") or {}).get("max_seq_length")
    longest = own or min(tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", 512))

    @torch.inference_mode()
    def encode(text: str) -> Vector:
        inputs = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
        hidden = network(**inputs).last_hidden_state[0].float()
        pooled = hidden[0] if pooling == "cls" else hidden.mean(0)
        found: Vector = torch.nn.functional.normalize(pooled, dim=0).numpy()
        return found

    return encode


def _pooling(model: str) -> str:
    """How tokens are pooled: "mean" (also for a plain encoder) or "cls"; "" for anything more than that."""
    if _prepares(model):
        return ""
    modules = {str(m["type"]).rpartition(".")[2] for m in _config(model, "modules.json") or ()}
    settings: dict[str, Any] = _config(model, "1_Pooling/config.json") or {"pooling_mode": "mean"}
    chosen = {str(settings["pooling_mode"])} if "pooling_mode" in settings else set()
    chosen |= {name.removeprefix("pooling_mode_") for name, on in settings.items() if on is True and "_mode_" in name}
    simple = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
    return simple.get(chosen.pop(), "") if len(chosen) == 1 and modules <= _KNOWN_MODULES else ""


def _prepares(model: str) -> bool:
    """Whether texts are changed before they are read: put into a chat template, behind a prompt, or in lower case."""
    reads = _config(model, "sentence_bert_config.json") or {}
    whole = _config(model, "config_sentence_transformers.json") or {}
    return bool(
        reads.get("do_lower_case") or "message" in reads.get("modality_config", ()) or whole.get("default_prompt_name")
    )


def _config(model: str, name: str) -> Any:
    try:
        from transformers.utils.hub import cached_file
    except ModuleNotFoundError as error:
        raise MissingPackage("similarity needs packages: pip install 'llmlab[local]'") from error

    path = cached_file(model, name, _raise_exceptions_for_missing_entries=False)
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
