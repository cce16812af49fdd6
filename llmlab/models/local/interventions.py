"""What changes a local model's inside during a call: applied around the work, undone whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")


class Intervention(Protocol):
    """A change of a model, as `Request.interventions` carries it. Equal interventions (`==`) share a batch.

    While one is active the model runs in transformers' own layout: rows of a batch, padded on the left, hidden
    states (batch, length, width); the first forward reads the prompts, later ones a token per row.
    """

    def applied(self, model: PreTrainedModel) -> AbstractContextManager[Any]:
        """A context in which the model is changed, and after which it is as it was (hooks, never weights)."""
        ...


@contextmanager
def applied(model: PreTrainedModel, interventions: Sequence[Intervention]) -> Iterator[None]:
    """All interventions at once, the first one outermost."""
    with ExitStack() as stack:
        for intervention in interventions:
            stack.enter_context(intervention.applied(model))
        yield


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
