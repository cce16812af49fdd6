"""An experiment on live traffic: one name for clients, behind which every user meets one of the served models."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from llmlab.errors import DataError, UnknownName
from llmlab.experiments.live import Live
from llmlab.serve.bodies import ChatBody, CompletionBody, Feedback, Generation
from llmlab.serve.problems import Problem
from llmlab.types import digest

# answers whose feedback is known to whom without asking the store
_REMEMBERED = 100_000


class Trial:
    """Who meets which model, and what came of it.

    Args:
        live: the experiment, whose arms are names of served models.

    The unit is the user that a request names, else the conversation, known by how it begins.
    """

    def __init__(self, live: Live) -> None:
        self.live = live
        self.name = live.plan.name
        self._units: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def unit(self, body: Generation) -> str:
        """Who or what a request belongs to."""
        if body.user:
            return body.user
        if isinstance(body, ChatBody):
            own = next((i for i, turn in enumerate(body.messages) if turn.role == "user"), 0)
            return digest([[t.role, t.message.content] for t in body.messages[: own + 1]])
        assert isinstance(body, CompletionBody)
        return digest(body.prompt)

    def arm(self, unit: str, id_: str) -> str:
        """The model of a unit; the answer with this id may get feedback."""
        with self._lock:
            self._units[id_] = unit
            if len(self._units) > _REMEMBERED:
                self._units.popitem(last=False)
        return self.live.arm(unit)

    def record(self, feedback: Feedback) -> dict[str, Any]:
        """Keep an outcome; whether it counted, and how the experiment stands."""
        unit = self._units.get(feedback.id) or self._stored(feedback.id)
        if unit is None:
            message = (
                f"no answer {feedback.id!r} of the experiment {self.name!r} is known; "
                f"feedback is for answers of the model {self.name!r}"
            )
            raise Problem(404, message, param="id")
        try:
            counted = self.live.record(unit, feedback.value)
        except (DataError, UnknownName) as error:
            raise Problem(400, str(error), param="value") from error
        return {"experiment": self.name, "counted": counted, "stopped": self.live.winner is not None}

    def _stored(self, id_: str) -> str | None:
        """The unit of an answer that this process has forgotten, or another one gave."""
        found = self.live.store.answers([id_]).get(id_)
        # who asks an arm by its own name takes no part: by hash the unit may belong to another arm
        ours = found is not None and found["request"].get("experiment") == self.name
        return found["request"].get("user") if found is not None and ours else None
