"""Usage and cost of every request, into the store. What was said is not kept."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmlab.errors import StoreError
from llmlab.store import Store
from llmlab.types import NAN, Response

log = logging.getLogger("llmlab.serve")
KIND = "served"
"""Kind of the documents with sums per day and model, under "<date>/<model>"."""


@dataclass(frozen=True)
class Served:
    """A request that was answered, or was not: HTTP status, seconds since it came."""

    id: str
    model: str
    endpoint: str
    status: int
    seconds: float
    user: str = ""
    responses: Sequence[Response] = ()
    first_seconds: float = NAN
    experiment: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Recorder:
    """Writes in a thread of its own, so that no client waits for a database.

    Each request is an answer under the id that its client got; each day and model is a document of `KIND`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._queue: queue.SimpleQueue[Served | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="llmlab-serve-record", daemon=True)
        self._thread.start()

    def note(self, served: Served) -> None:
        """Write this soon."""
        self._queue.put(served)

    def close(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        served = self._queue.get()
        while served is not None:
            batch = [served]
            while not self._queue.empty() and (served := self._queue.get()) is not None:
                batch.append(served)
            try:
                self._write(batch)
            except StoreError:
                log.exception("%d requests could not be recorded", len(batch))
            served = None if served is None else self._queue.get()

    def _write(self, batch: Sequence[Served]) -> None:
        self.store.save_answers([_answer(served) for served in batch if served.responses])
        sums: defaultdict[str, list[Served]] = defaultdict(list)
        for served in batch:
            sums[f"{served.at:%Y-%m-%d}/{served.model}"].append(served)
        for key, several in sums.items():
            self.store.documents.change(KIND, key, lambda old, new=several: _added(old, new))  # type: ignore[misc]


def _answer(served: Served) -> dict[str, Any]:
    responses = served.responses
    experiment = {"experiment": served.experiment} if served.experiment else {}
    usage = sum((r.usage for r in responses[1:]), responses[0].usage)
    return {
        "key": served.id,
        "model": served.model,
        "model_version": responses[0].model_version,
        "request": {"endpoint": served.endpoint, "user": served.user, "choices": len(responses)} | experiment,
        "reply": {
            "status": served.status,
            "usage": asdict(usage),
            "finish_reasons": [r.finish_reason for r in responses],
            "first_seconds": None if math.isnan(served.first_seconds) else served.first_seconds,
        },
        "cost": math.fsum(r.cost for r in responses),
        "price": responses[0].price,
        "seconds": served.seconds,
        "created": served.at,
    }


def _added(old: Mapping[str, Any] | None, several: Sequence[Served]) -> dict[str, Any]:
    """Sums with some more requests in them."""
    sums: dict[str, Any] = dict(old or {})

    def add(name: str, value: float) -> None:
        sums[name] = sums.get(name, 0) + value

    for served in several:
        add("requests", 1)
        add("failed", int(served.status != 200))
        add("seconds", served.seconds)
        for name in ("input_tokens", "output_tokens"):
            add(name, sum(getattr(r.usage, name) or 0 for r in served.responses))
        add("unpriced", sum(math.isnan(r.cost) for r in served.responses))
        add("cost", math.fsum(r.cost for r in served.responses if not math.isnan(r.cost)))
    return sums
