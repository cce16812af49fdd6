"""One answer of the prompt tester: its words while they are written, what it took, thumbs."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as ipw

from llmlab.errors import LabError
from llmlab.models.base import Model
from llmlab.types import Response
from llmlab.ui.prompt_html import answer_html, facts_html, waiting_html

_REFRESH = 0.1
"""Seconds between two updates of an answer that is being written: a page cannot draw every token of every model."""


class Card:
    """One answer: its words, what it took, thumbs."""

    def __init__(self, model: Model, thumb: Callable[[Card, int], object], hidden: str) -> None:
        self.model = model
        self.hidden = hidden
        self.title = hidden or model.name
        self.text = ""
        self.response: Response | LabError | None = None
        self._drawn = 0.0
        self.body, self.facts = ipw.HTML(waiting_html()), ipw.HTML()
        layout = ipw.Layout(width="44px")
        self.up, self.down = (
            ipw.Button(icon=f"thumbs-{way}", tooltip=says, layout=layout)
            for way, says in (("up", "a good answer"), ("down", "a bad answer"))
        )
        for button, value in ((self.up, 1), (self.down, 0)):
            button.disabled = True
            button.on_click(lambda _, value=value: thumb(self, value))
        parts = [label(self.title), self.body, self.facts, ipw.HBox([self.up, self.down])]
        self.box = ipw.VBox(parts, layout=ipw.Layout(flex="1 1 280px", min_width="240px"))
        self.box.add_class("llmlab-card")

    def take(self, piece: Any) -> None:
        """The next piece of the answer, or the error in its place."""
        if isinstance(piece, LabError):
            self.response = piece
            return
        self.text += piece.text
        if piece.response is not None:
            # an interceptor may have changed what was streamed
            self.response, self.text = piece.response, piece.response.text
            self.end()
        elif time.monotonic() - self._drawn > _REFRESH:
            self._drawn = time.monotonic()
            self.body.value = answer_html(self.text)

    def end(self) -> None:
        """Show all that came."""
        self.body.value = answer_html(self.text)
        self.facts.value = facts_html(self.response, hide=bool(self.hidden))
        self.up.disabled = self.down.disabled = not isinstance(self.response, Response)


def label(text: str) -> ipw.HTML:
    """A heading."""
    return ipw.HTML(f"<b>{escape(text)}</b>")
