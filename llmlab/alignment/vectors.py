"""Steering: a direction in a local model's hidden states, added to them or taken out of them while it answers."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from llmlab.alignment import kept
from llmlab.alignment.intervening import Intervening
from llmlab.errors import DataError, UnknownName
from llmlab.models.base import Model
from llmlab.stats import Floats
from llmlab.types import digest

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from llmlab.models.local.blocks import Hook

Where: TypeAlias = Literal["all", "prompt", "answer", "first"]
"""Which tokens are changed: all, those before the last of the prompt, that one and the answer's, or that one alone.
The last token of the prompt is where the answer's first token is chosen."""
Act: TypeAlias = Literal["add", "ablate"]


@dataclass(frozen=True, eq=False, repr=False)
class Steering(Intervening):
    """Vectors by layer. It is an interceptor (`model.through(s * 1.5)`), and a context (`with s.applied(model):`).

    `s * 1.5`, `-s`, `s + t`, `s - t` give others; `s[2]` has the vector of one layer alone; `s.at("answer")` changes
    other tokens; `s.ablation()` takes the direction out instead of adding it.

    Attributes:
        vectors: by layer (width,) float32, added to what the layer puts out.
        where: which tokens are changed.
        act: "add", or "ablate".
        made: how it was made: model, weights, depth, pairs, method, and per layer what `table` shows.

    Raises:
        DataError: for vectors that are not finite, or of different widths.
    """

    vectors: Mapping[int, Floats]
    where: Where = "all"
    act: Act = "add"
    made: Mapping[str, Any] = field(default_factory=dict)

    packs = True  # each token is changed by itself

    def __post_init__(self) -> None:
        vectors = {int(k): np.array(v, dtype=np.float32) for k, v in sorted(self.vectors.items())}
        widths = {v.shape for v in vectors.values()}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise DataError(f"steering needs a vector per layer, all of the same width; got shapes {sorted(widths)}")
        for layer, vector in vectors.items():
            if not np.isfinite(vector).all():
                raise DataError(
                    f"the vector of layer {layer} is not finite (NaN or infinity): it would break the model"
                )
            vector.setflags(write=False)
        if self.where not in get_args(Where):
            raise UnknownName.among("place to steer at", self.where, get_args(Where))
        if self.act == "ablate" and len(vectors) > 1:
            raise DataError(
                f"an ablation takes out one direction; choose a layer of {list(vectors)}: `s[2].ablation()`"
            )
        object.__setattr__(self, "vectors", MappingProxyType(vectors))

    # -- others like it ---------------------------------------------------------------------------------------

    def __mul__(self, strength: float) -> Steering:
        if self.act == "ablate":
            raise DataError("an ablation takes the whole direction out and has no strength; scale the steering instead")
        if not math.isfinite(strength):
            raise DataError(f"a strength is a finite number, got {strength}")
        return self._with({k: v * np.float32(strength) for k, v in self.vectors.items()})

    __rmul__ = __mul__

    def __truediv__(self, by: float) -> Steering:
        return self * (1 / by)

    def __neg__(self) -> Steering:
        return self * -1.0

    def __add__(self, other: Steering) -> Steering:
        if (self.act, self.where) != (other.act, other.where) or self.act != "add":
            raise DataError(
                f"only what is added at the same tokens has a sum; got {self!r} and {other!r}. Use both: "
                "`model.through(a, b)`"
            )
        if self.width != other.width:
            raise DataError(f"vectors of width {self.width} and {other.width} have no sum: they are of other models")
        layers = {*self.vectors, *other.vectors}
        zero: Any = np.zeros(self.width, np.float32)
        vectors = {k: self.vectors.get(k, zero) + other.vectors.get(k, zero) for k in layers}
        return Steering(vectors, self.where, self.act, _common(self.made, other.made))

    def __sub__(self, other: Steering) -> Steering:
        return self + -other

    def __getitem__(self, layer: int) -> Steering:
        if layer not in self.vectors:
            raise DataError(f"there is no vector for layer {layer}; there are some for {list(self.vectors)}")
        return self._with({layer: self.vectors[layer]})

    def at(self, where: Where) -> Steering:
        """The same at other tokens.

        "all"; "answer": the last one of the prompt and the answer's; "first": the last one of the prompt alone, where
        the answer begins; "prompt": those before it.
        """
        return replace(self, where=where)

    def ablation(self) -> Steering:
        """Take the direction out of all hidden states, whatever put it there: x - r (r . x) with r of length 1.

        It is taken out after the embeddings, after each block, and of what attention and feed-forward add within.

        Source: Arditi et al. (2024), section 2.4, https://arxiv.org/abs/2406.11717
        """
        return replace(self, act="ablate")

    def random(self, seed: int = 0) -> Steering:
        """Random directions of the same lengths: what does this do that any push of its size would not?"""
        rng = np.random.default_rng(seed)
        drawn = {k: rng.standard_normal(self.width) for k in self.vectors}
        vectors = {k: v / np.linalg.norm(v) * self.norms[k] for k, v in drawn.items()}
        return self._with(vectors)

    def _with(self, vectors: Mapping[int, Any]) -> Steering:
        return replace(self, vectors=vectors)

    # -- what it is -------------------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Length of a hidden state."""
        return len(next(iter(self.vectors.values())))

    @property
    def norms(self) -> dict[int, float]:
        """Length of the vector of each layer."""
        return {k: float(np.linalg.norm(v)) for k, v in self.vectors.items()}

    @property
    def table(self) -> pd.DataFrame:
        """A line per layer: how long the vectors are, and how well the pairs agree on them.

        norm; relative: to the mean norm of the hidden states there, NaN when unknown; agreement: share of pairs whose
        difference points along the mean of the others, with its interval; explained: share of the differences' squared
        length along the direction; n pairs.
        """
        import pandas as pd

        nan = float("nan")
        rows = []
        for layer, norm in self.norms.items():
            agreement = self.made.get("agreement", {}).get(layer, [nan] * 3)
            rows.append(
                {
                    "layer": layer,
                    "norm": norm,
                    "relative": norm / self.made.get("typical", {}).get(layer, nan),
                    **dict(zip(("agreement", "agreement_low", "agreement_high"), agreement, strict=True)),
                    "explained": self.made.get("explained", {}).get(layer, nan),
                    "n": self.made.get("n", 0),
                }
            )
        return pd.DataFrame(rows).set_index("layer")

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits of all that it does."""
        return digest(self.act, self.where, [[k, v.tobytes().hex()] for k, v in self.vectors.items()])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Steering) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        """All that it does, the vectors by their hash: stored answers are known by this."""
        norms = ", ".join(f"{k}: {v:.3g}" for k, v in self.norms.items())
        return f"Steering({self.act} at {self.where}, norm by layer {{{norms}}}, {self.key})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.table.to_html(float_format='{:.3g}'.format)}"

    @property
    def name(self) -> str:
        """In the name of a model through it."""
        return f"{'steering' if self.act == 'add' else 'ablation'}-{self.key[:6]}"

    # -- in the model -----------------------------------------------------------------------------------------

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """A context in which a model is steered, and after which it is as it was, whatever happened.

        Args:
            model: one of ours, all of whose calls are steered in here; or a model of transformers, which gets hooks.

        Raises:
            DataError: when the model has other widths, or lacks a layer.
        """
        from llmlab.models.local.blocks import hooked

        if isinstance(model, Model):
            from llmlab.alignment.opened import opened

            self._hooks(opened(model, "steering")[0].load().model)  # refuses what does not fit
            with self.on(model):
                yield
        else:
            with hooked(self._hooks(model)):
                yield

    def _hooks(self, model: Any) -> list[Hook]:
        import torch

        from llmlab.alignment.hooks import ablating, adding
        from llmlab.models.local.blocks import Hook, blocks, existing, width

        layers = blocks(model)
        existing(list(self.vectors), len(layers), type(model).__name__)
        if width(model) != self.width:
            raise DataError(
                f"these vectors are {self.width} wide, the hidden states of {type(model).__name__} are {width(model)}: "
                f"they belong to {self.made.get('model', 'another model')}"
            )
        vectors: dict[int, Tensor] = {k: torch.from_numpy(v.copy()) for k, v in self.vectors.items()}
        if self.act == "ablate":
            return ablating(layers, next(iter(vectors.values())), self.where)
        return [Hook(layers[k], adding(v, self.where)) for k, v in vectors.items()]

    # -- kept -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vectors as safetensors, with how they were made in the file's metadata."""
        kept.save(path, self.vectors, self.where, self.act, self.made)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: str | Model | None = None) -> Steering:
        """Read what `save` wrote.

        Args:
            path: the file.
            model: that it is for; None takes it as it is.

        Raises:
            DataError: for a file that is none of ours, or was made with other weights than the model's.
        """
        found = cls(*kept.load(path))
        if model is not None:
            found._check(os.fspath(path), model)
        return found

    def _check(self, path: str, model: str | Model) -> None:
        from llmlab.alignment.opened import opened

        local, _ = opened(model, "steering")
        with self.applied(local.load().model):
            pass  # refuses another width or depth
        made = self.made.get("weights")
        if made and made != local.source.fingerprint:
            raise DataError(
                f"{path} was made with {self.made.get('model')} ({made}), {local.name} has other weights "
                f"({local.source.fingerprint}): directions of one model mean little in another. Make them anew, or "
                "load them without a model to try them anyway"
            )


def _common(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """What two were made with alike."""
    return {k: v for k, v in a.items() if k in ("model", "weights", "depth", "typical") and b.get(k) == v}
