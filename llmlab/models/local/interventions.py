"""What changes a local model during a call: its inside, undone whatever happens, or its choice of the next token."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from llmlab.models.local.decoding import Decoder
    from llmlab.models.local.loading import Loaded

T = TypeVar("T")

Sides: TypeAlias = "Tensor | int"
"""Which tokens of a pass are an answer's: below 0 in the prompt, 0 its last one, which predicts the answer's first
token, above 0 in the answer. One number for all tokens, or (batch, length)."""


class Intervention(Protocol):
    """A change of a model's inside, as `Request.interventions` carries it. Equal interventions (`==`) share a batch.

    While one is active the model runs in transformers' own layout: rows of a batch, padded on the left, hidden
    states (batch, length, width); the first forward reads the prompts, later ones a token per row. One with an
    attribute `packs = True` does to each token the same wherever it stands (`sides()` says what the token is), and the
    engine keeps its packed layout with shared prefixes: many sequences side by side in one row. One that does not ask
    what a token is says `anywhere = True`: then a token may be in one sequence's prompt and in another's answer.
    """

    def applied(self, model: PreTrainedModel) -> AbstractContextManager[Any]:
        """A context in which the model is changed, and after which it is as it was (hooks, never weights)."""
        ...


class Guide(Protocol):
    """A change of the next token's logits, carried by `Request.interventions` in the same way."""

    def guided(self, decoder: Decoder, loaded: Loaded) -> Decoder:
        """A decoder that reads what the given one reads and gives other logits."""
        ...


def guides(interventions: Sequence[Any]) -> tuple[Guide, ...]:
    """Those that change logits, the first one outermost."""
    return tuple(i for i in interventions if hasattr(i, "guided"))


def inside(interventions: Sequence[Any]) -> tuple[Intervention, ...]:
    """Those that change the model's inside, the first one outermost."""
    return tuple(i for i in interventions if hasattr(i, "applied"))


def pack(interventions: Sequence[Any]) -> bool:
    """Whether all of them work in the packed layout."""
    return all(getattr(i, "packs", False) for i in interventions)


@contextmanager
def applied(model: PreTrainedModel, interventions: Sequence[Intervention]) -> Iterator[None]:
    """All interventions at once, the first one outermost."""
    with ExitStack() as stack:
        for intervention in interventions:
            stack.enter_context(intervention.applied(model))
        yield


_sides: ContextVar[Callable[[], Sides] | None] = ContextVar("sides", default=None)


@contextmanager
def reading(which: Callable[[], Sides]) -> Iterator[None]:
    """A forward pass over tokens of these sides; `which` is asked only if an intervention asks."""
    token = _sides.set(functools.cache(which))
    try:
        yield
    finally:
        _sides.reset(token)


def sides(length: int) -> Sides:
    """Sides of the tokens in the pass under way, of `length` tokens per row.

    Outside of the engine (transformers' own `generate`) a pass over several tokens reads prompts padded on the left.
    """
    which = _sides.get()
    if which is not None:
        return which()
    return prompts_on_the_left(length)() if length > 1 else 1


def prompts_on_the_left(width: int, length: int | None = None) -> Callable[[], Tensor]:
    """Sides (1, length) of rows whose prompts end at `width`."""

    def which() -> Tensor:
        import torch

        return (torch.arange(length or width) - (width - 1)).sign()[None]

    return which


def by_equality(items: Sequence[T], key: Any) -> list[list[T]]:
    """Groups of items with equal keys, in order of appearance; keys need not be hashable."""
    groups: list[tuple[Any, list[T]]] = []
    for item in items:
        k = key(item)
        for known, group in groups:
            if known == k:
                group.append(item)
                break
        else:
            groups.append((k, [item]))
    return [group for _, group in groups]
