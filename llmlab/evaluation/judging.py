"""What judges answered is kept in the store like any other answer that was paid for."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmlab.benchmarks.base import Query, Reply
from llmlab.evaluation.plan import key_of
from llmlab.evaluation.records import record_of, reply_from_json
from llmlab.models.base import Model
from llmlab.types import Decision, Request, Response

if TYPE_CHECKING:
    from llmlab.store import Store

recalled: contextvars.ContextVar[list[float]] = contextvars.ContextVar("recalled")
"""US dollars that recalled replies cost the first time, within one verdict."""


class StoredCalls:
    """A memory (`llmlab.models.recall`) over a store. Its errors are those of the store and of the model.

    Args:
        store: where answers are kept.
        project: that pays for new ones.
    """

    def __init__(self, store: Store, project: str = "") -> None:
        self.store = store
        self.project = project

    def generate(self, model: Model, request: Request) -> Response:
        """The stored response, or a new one, which is stored before it is given back."""
        request = replace(request, options=model.options.merged(request.options))
        query = Query("generate", request)
        reply = self._reply(model, query, lambda: Reply(response=model.generate(request)))
        assert reply.response is not None
        return reply.response

    def decide(self, model: Model, request: Request, choices: Sequence[str]) -> Decision:
        """The stored decision, or a new one, which is stored before it is given back."""
        request = replace(request, options=model.options.merged(request.options))
        query = Query(model.protocols[0], request, choices=tuple(choices))
        reply = self._reply(model, query, lambda: Reply(decision=model.decide(request, choices)))
        assert reply.decision is not None
        return reply.decision

    def _reply(self, model: Model, query: Query, ask: Callable[[], Reply]) -> Reply:
        key = key_of(model.identity(), query)
        stored = self.store.answers([key]).get(key)
        if stored is not None:
            reply = reply_from_json(stored["reply"])
            if (response := reply.answer) is not None:
                recalled.get([]).append(response.cost)
            return reply
        reply = ask()
        self.store.save_answers([record_of(key, model.name, query, reply, self.project)])
        return reply
