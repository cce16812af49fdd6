"""A base's engine with an adapter in every call: many adapters, one set of weights."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmlab.models.local.engine import Engine, shared
from llmlab.models.local.lowrank import LowRank, not_beside

if TYPE_CHECKING:
    from llmlab.models.local.adapted import AdapterSource
    from llmlab.models.local.loading import Loaded
    from llmlab.models.local.tokens import Tokens


class Beside(Engine):
    """Passes everything on to the engine of the base, with the adapter as an intervention.

    An adapter that cannot stay beside its base (DoRA, embeddings of its own) is merged into weights of its own.

    Args:
        source: of the adapter.
        threads: as of `Engine`.
        batch_tokens: as of `Engine`.
        alone: whether the base is read once more for it, in place of sharing the one that is here.
    """

    source: AdapterSource

    def __init__(self, source: AdapterSource, threads: int | None, batch_tokens: int, *, alone: bool = False) -> None:
        super().__init__(source, threads, batch_tokens)
        self._alone = alone

    @functools.cached_property
    def _core(self) -> Engine:
        source = self.source
        if self.merged:
            return Engine(source, self.threads, self.batch_tokens)
        base = source.under
        found = shared(base, self.threads, self.batch_tokens)
        # the files may be others than those that were read
        if self._alone or found.source.fingerprint != base.fingerprint:
            return Engine(base, self.threads, self.batch_tokens)
        return found

    @functools.cached_property
    def merged(self) -> str:
        """Why the adapter is merged into weights of its own, "" where it is beside the base."""
        return not_beside(self.source.folder)

    @functools.cached_property
    def _adapter(self) -> tuple[Any, ...]:
        source = self.source
        return () if self.merged else (LowRank(source.folder, source.name, source.fingerprint),)

    def _with(self, interventions: Sequence[Any]) -> tuple[Any, ...]:
        return (*self._adapter, *self.standing, *interventions)

    @property
    def loaded(self) -> Loaded:
        """The base's weights and tokenizer."""
        self.source.check()
        return self._core.loaded

    @property
    def tokens(self) -> Tokens:
        """The tokenizer."""
        return self._core.tokens

    @property
    def ends(self) -> frozenset[int]:
        """Token ids that end an answer."""
        return self._core.ends

    @property
    def vocabulary(self) -> Any:
        """What each token writes."""
        return self._core.vocabulary

    def whole(self) -> Loaded:
        return self.source.load() if self._adapter else self._core.loaded

    def fresh(self) -> Engine:
        return Beside(self.source, self.threads, self.batch_tokens, alone=True)

    def close(self) -> None:
        """Forget the adapter's weights; the base's go with the last of its models."""
        if self._core.source == self.source or self._alone:
            self._core.close()
        for name in ("_core", "_adapter"):
            self.__dict__.pop(name, None)

    def settings_used(self) -> dict[str, Any]:
        how = f"merged: {self.merged}" if self.merged else "beside the base"
        return self._core.settings_used() | {"adapter": how}
