"""Prompt and answer as a vector: what a reward model learns on."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from llmlab.models.base import Model
from llmlab.stats import Floats

if TYPE_CHECKING:
    from llmlab.models.local.loading import Loaded

_WORD = re.compile(r"\w+|[^\w\s]")
_OPENING = 3
# vectors that are kept: the same candidates are looked at again before every choice
_KEPT = 4096


class Features(Protocol):
    """A function from prompts and answers to vectors of length 1, and the name by which it is made again."""

    name: str

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Floats:
        """(n, size) for n prompts and n answers."""


def features(spec: str | Model | Features) -> Features:
    """Features by name: "ngrams" (default of the reward model), a local model, or a sentence-embedding model.

    "ngrams" hashes words, pairs of words, and each word of the prompt with the opening words of the answer: no
    download, a tenth of a millisecond per answer, and every weight can be read. A name such as "micro/base" or "hf/…",
    or a Model, takes the mean of its last hidden states over the answer. Any other name is an embedding model, as for
    `lab.scorers.similarity`.
    """
    if isinstance(spec, Model):
        return Hidden(spec)
    if not isinstance(spec, str):
        return spec
    if spec == NGrams.name:
        return NGrams()
    if spec.startswith(("micro/", "hf/")):
        from llmlab.models.registry import model

        return Hidden(model(spec))
    return Embedding(spec)


class NGrams:
    """Words and pairs of words, hashed with a sign into a fixed size (Weinberger et al. 2009, arXiv 0902.2206)."""

    name = "ngrams"

    def __init__(self, size: int = 256) -> None:
        self.size = size
        self._vector = lru_cache(_KEPT)(self._one)

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Floats:
        return np.stack([self._vector(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)])

    def _one(self, prompt: str, answer: str) -> Floats:
        found = np.zeros(self.size)
        for part in set(_parts(_words(prompt), _words(answer))):
            # the same in every process, which Python's own hash is not
            code = zlib.crc32(part.encode("utf-8", "replace"))
            found[(code >> 1) % self.size] += 1 if code & 1 else -1
        return _unit(found)


class Hidden:
    """The mean of a local model's last hidden states over the tokens of the answer."""

    def __init__(self, model: Model) -> None:
        from llmlab.errors import NeedsLocalModel

        if not hasattr(model, "engine"):
            raise NeedsLocalModel(f"{model.name} shows no hidden states; take a local model, or features='ngrams'")
        self.model: Any = model
        self.name = model.name
        self._vector = lru_cache(_KEPT)(self._one)

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Floats:
        return np.stack([self._vector(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)])

    def _one(self, prompt: str, answer: str) -> Floats:
        with self.model.engine.held() as loaded:
            return self._read(loaded, prompt, answer)

    def _read(self, loaded: Loaded, prompt: str, answer: str) -> Floats:
        import torch

        asked = [{"role": "user", "content": prompt}]
        whole = [*asked, {"role": "assistant", "content": answer}]
        tokens = loaded.tokenizer
        before = tokens.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        text = tokens.apply_chat_template(whole, tokenize=False)
        ids = tokens(text, add_special_tokens=False, return_tensors="pt")["input_ids"][:, -loaded.context :]
        start = min(len(tokens(before, add_special_tokens=False)["input_ids"]), ids.shape[1] - 1)
        with torch.inference_mode():
            states = loaded.model(ids.to(loaded.device), output_hidden_states=True).hidden_states[-1][0]
        return _unit(np.asarray(states[start:].mean(0).float().cpu().numpy(), dtype=np.float64))


class Embedding:
    """A sentence-embedding model over prompt and answer in one text."""

    def __init__(self, name: str) -> None:
        from llmlab.scorers.embedding import encoder

        self.name = name
        self._encode = encoder(name)

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Floats:
        vectors = [self._encode(f"{prompt}\n{answer}") for prompt, answer in zip(prompts, answers, strict=True)]
        return np.asarray(np.stack(vectors), dtype=np.float64)


def _parts(prompt: Sequence[str], answer: Sequence[str]) -> Iterator[str]:
    yield from answer
    yield from (f"{a} {b}" for a, b in zip(["<s>", *answer], [*answer, "</s>"], strict=True))
    # what is a good answer depends on the question, mostly in how it begins: "I cannot …", "Sure, …"
    yield from (f"{p}|{a}" for p in set(prompt) for a in answer[:_OPENING])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _unit(vector: Floats) -> Floats:
    return vector / (np.linalg.norm(vector) or 1.0)
