"""`lab.ui.prompt_tester()`: one prompt, several models, answers side by side while they are written."""

from __future__ import annotations

import contextvars
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as ipw

from llmlab._module import callable_module
from llmlab.alignment.feedback import Feedback, Vote
from llmlab.benchmarks.templates import template
from llmlab.errors import DataError, LabError
from llmlab.models.base import Model
from llmlab.models.registry import model as make_model
from llmlab.models.together import streams
from llmlab.types import Request, Response, digest
from llmlab.ui import pieces
from llmlab.ui.prompt_card import Card, label
from llmlab.ui.prompt_html import answer_html, note_html, style_html
from llmlab.ui.prompt_suite import template_of, typable, write_suite

if TYPE_CHECKING:
    from llmlab.store import Store

_OWN = "(own text)"


class PromptTester(ipw.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Made by `prompt_tester`. Every control can be set and clicked from Python as well.

    Attributes:
        responses: the last answers by model name; a LabError where a call failed.
        feedback: the votes.
        tried: fields of the prompts that were asked with success, which `save` writes as a suite.
    """

    def __init__(
        self, models: Sequence[str | Model], text: str, source: str, feedback: Feedback, annotator: str, seed: int
    ) -> None:
        self.feedback = feedback
        self.annotator = annotator
        self.responses: dict[str, Response | LabError] = {}
        self.tried: list[dict[str, Any]] = []
        self._given = {m if isinstance(m, str) else m.name: m for m in models}
        self._rng = random.Random(f"{seed} {annotator}")
        self._cards: list[Card] = []
        self._request = Request.of("")
        self._asking: threading.Thread | None = None
        self._stop = threading.Event()
        self._controls(text, source)
        super().__init__(
            [ipw.HTML(f"{style_html()}<h1>Prompts</h1>"), self._form(), self.note, self.answers, self._preference()]
        )
        self.add_class("llmlab-panel")

    def __repr__(self) -> str:
        return f"PromptTester({', '.join(self.models.value)})"

    # -- controls -------------------------------------------------------------------------------------------------

    def _controls(self, text: str, source: str) -> None:
        field = pieces.field
        rows = min(8, max(3, len(self._given)))
        self.models = field(ipw.SelectMultiple, "Models (Ctrl or ⌘ for several)", options=tuple(self._given), rows=rows)
        self.models.value = tuple(self._given)[:2]
        self.prompt = field(ipw.Textarea, "Prompt: {{ input }} of the template", value=text, rows=3)
        self.system = field(ipw.Textarea, "System prompt (the template's own comes first)", rows=1)
        self.library = field(ipw.Dropdown, "Template", options=(_OWN, *typable()))
        self.source = field(ipw.Textarea, "Text of the template", value=source, rows=3)
        self.variables = ipw.VBox([])
        self.temperature = field(ipw.BoundedFloatText, "Temperature", value=0.0, min=0.0, max=2.0, step=0.1)
        self.max_tokens = field(ipw.BoundedIntText, "Tokens at most", value=128, min=1, max=32_000)
        self.blind = ipw.Checkbox(False, description="hide who answers", indent=False, layout=ipw.Layout(width="auto"))
        self.ask = ipw.Button(description="Ask", button_style="primary", icon="play")
        self.cancel = ipw.Button(description="Stop", icon="stop", disabled=True)
        self.path = field(ipw.Text, "Suite file", value="prompts.suite.yaml")
        self.expected = field(ipw.Text, "Answer must contain", placeholder="optional")
        self.save = ipw.Button(description="Save as suite", icon="save")
        self.note = ipw.HTML()
        self.answers = ipw.HBox([], layout=ipw.Layout(flex_flow="row wrap", align_items="stretch"))
        self.library.observe(self._choose, "value")
        self.source.observe(lambda _: self._read_variables(), "value")
        self.ask.on_click(lambda _: self.run())
        self.cancel.on_click(lambda _: self._stop.set())
        self.save.on_click(lambda _: self._noted(self._save))
        self._read_variables()

    def _form(self) -> ipw.Widget:
        left = ipw.VBox([self.models], layout=ipw.Layout(flex="1 1 220px", min_width="200px"))
        right = [self.prompt, self.system, self.library, self.source, self.variables]
        form = ipw.HBox(
            [left, ipw.VBox(right, layout=ipw.Layout(flex="3 1 420px", min_width="280px"))],
            layout=ipw.Layout(flex_flow="row wrap", overflow="visible"),
        )
        options = pieces.row(self.temperature, self.max_tokens, self.blind, self.ask, self.cancel)
        return ipw.VBox([form, options, pieces.row(self.path, self.expected, self.save)])

    def _preference(self) -> ipw.Widget:
        self.first, self.second = (pieces.field(ipw.Dropdown, side, options=()) for side in ("Left", "Right"))
        names = ("left is better", "equal", "right is better")
        self.prefer = {value: ipw.Button(description=name) for value, name in zip((0, None, 1), names, strict=True)}
        for value, button in self.prefer.items():
            button.on_click(lambda _, value=value: self._noted(lambda: self._pair(value)))
        self.difference = ipw.HTML()
        for box in (self.first, self.second):
            box.observe(lambda _: self._show_difference(), "value")
        row = pieces.row(self.first, *self.prefer.values(), self.second)
        self.preference = ipw.VBox([label("word by word: what the right answer has instead"), row, self.difference])
        self.preference.layout.display = "none"
        return self.preference

    def _choose(self, _: object) -> None:
        if self.library.value != _OWN:
            self.source.value = template(self.library.value).source

    def _read_variables(self) -> None:
        """A line for each variable of the template; what was typed for one stays."""
        try:
            names = [v for v in template_of(self.source.value).variables if v != "input"]
        except LabError as error:
            self.note.value = note_html(error)
            return
        self.note.value = ""
        known = {box.description: box for box in self.variables.children}
        self.variables.children = [known.get(n) or pieces.field(ipw.Text, n) for n in names]

    # -- asking ---------------------------------------------------------------------------------------------------

    @property
    def fields(self) -> dict[str, str]:
        """What the template gets: the prompt as `input`, and the variables."""
        return {"input": self.prompt.value, **{box.description: box.value for box in self.variables.children}}

    def request(self) -> Request:
        """What the models are asked.

        Raises:
            DataError: for a template that is broken, or uses what it is not given.
        """
        made = Request.of(
            template_of(self.source.value).render(self.fields),
            temperature=self.temperature.value,
            max_tokens=self.max_tokens.value,
        )
        if not made.prompt.strip():
            raise DataError("the prompt is empty")
        asks_system = any(m.role == "system" for m in made.messages)
        return made if asks_system or not self.system.value.strip() else made.with_system(self.system.value)

    def run(self, wait: bool = False) -> None:
        """Ask, as the button does; the answers are written by a thread. `wait` returns when they are whole."""
        if self._asking is None or not self._asking.is_alive():
            self._noted(self._start)
        if wait:
            self.wait()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the answers are whole."""
        if self._asking is not None:
            self._asking.join(seconds)

    def _start(self) -> None:
        request = self.request()
        chosen = [make_model(self._given[name]) for name in self.models.value]
        if not chosen:
            raise DataError("choose one model or more")
        places = list(range(len(chosen)))
        hidden = self.blind.value
        if hidden:
            self._rng.shuffle(places)
        self._request, self.responses = request, {}
        self._cards = [Card(chosen[i], self._thumb, f"answer {k}" if hidden else "") for k, i in enumerate(places, 1)]
        self.answers.children = [card.box for card in self._cards]
        self.preference.layout.display = "none"
        self._stop.clear()
        self.ask.disabled, self.cancel.disabled = True, False
        tried = {"template": self.source.value, "system": self.system.value, **self._options(), "fields": self.fields}
        # ledgers are context variables, which threads do not inherit by themselves
        run = contextvars.copy_context().run
        self._asking = threading.Thread(target=run, args=(self._write, request, tried), daemon=True)
        self._asking.start()

    def _options(self) -> dict[str, Any]:
        return {"temperature": self.temperature.value, "max_tokens": self.max_tokens.value}

    def _write(self, request: Request, tried: dict[str, Any]) -> None:
        try:
            for place, piece in streams([card.model for card in self._cards], request):
                self._cards[place].take(piece)
                if self._stop.is_set():
                    break
            for card in self._cards:
                card.end()
            self.responses = {card.model.name: card.response for card in self._cards if card.response is not None}
            if any(isinstance(r, Response) for r in self.responses.values()):
                self.tried.append(tried)
            self._offer()
        finally:
            self.ask.disabled, self.cancel.disabled = False, True

    # -- judging --------------------------------------------------------------------------------------------------

    def _whole(self) -> dict[str, Card]:
        return {card.title: card for card in self._cards if isinstance(card.response, Response)}

    def _offer(self) -> None:
        """Let two whole answers be compared."""
        titles = tuple(self._whole())
        if len(titles) < 2:
            return
        self.first.options = self.second.options = titles
        self.first.value, self.second.value = titles[:2]
        self.preference.layout.display = ""
        self._show_difference()

    def _show_difference(self) -> None:
        whole = self._whole()
        pair = [whole.get(box.value) for box in (self.first, self.second)]
        if pair[0] and pair[1]:
            self.difference.value = answer_html(pair[0].text, pair[1].text)

    def _pair(self, value: int | None) -> str:
        whole = self._whole()
        if self.first.value == self.second.value:
            raise DataError("choose two different answers to compare")
        pair = [whole[box.value] for box in (self.first, self.second)]
        self.vote("pair", pair, value)
        return "preference kept"

    def _thumb(self, card: Card, value: int) -> None:
        def keep() -> str:
            self.vote("thumb", [card], value)
            return f"thumb {'up' if value else 'down'} kept for {card.title}"

        self._noted(keep)

    def vote(self, sort: Any, cards: Sequence[Card], value: int | None) -> None:
        """Keep a judgement of one answer, or of two, in the store."""
        said = "\n\n".join(f"{m.role}: {m.content}" for m in self._request.messages)
        blind = all(card.hidden for card in cards)
        self.feedback.add(
            Vote(
                sort,
                self._request.prompt if len(self._request.messages) == 1 else said,
                tuple(card.text for card in cards),
                tuple(card.model.name for card in cards),
                value,
                # whoever knows the author judges the author: such votes can be told apart
                "" if blind else "names were shown",
                self.annotator,
                digest(said),
                0.5 if blind and sort == "pair" else 1.0,
            )
        )

    # -- saving ---------------------------------------------------------------------------------------------------

    def _save(self) -> str:
        return write_suite(Path(self.path.value.strip()), self.tried, self.source.value, self.expected.value.strip())

    def _noted(self, act: Any) -> None:
        """Do something and say how it went below the form: an exception in a click would be lost in a log."""
        try:
            self.note.value = note_html(act() or "")
        except LabError as error:
            self.note.value = note_html(error)


def prompt_tester(
    models: str | Model | Sequence[str | Model] | None = None,
    prompt: str = "",
    *,
    template: str = "{{ input }}",
    annotator: str = "",
    name: str = "default",
    seed: int = 0,
    store: str | Store | None = None,
) -> PromptTester:
    """A widget that asks several models one prompt and shows the answers side by side while they are written.

    Under each answer stand its tokens, cost and seconds; two answers are compared word by word. Thumbs and preferences
    go to the store, prompts that were tried can be saved as a suite.

    Args:
        models: names or Models to choose from, the first two chosen; None offers all that are usable here.
        prompt: to begin with.
        template: Jinja2 text, to begin with; the prompt is its `input`, other variables get a line each.
        annotator: who judges.
        name: of the collection of votes: `lab.alignment.Feedback(store, name)` reads it.
        seed: draws the order of the answers when it is hidden who gave them.
        store: a Store or its SQLAlchemy URL; None is the default store.
    """
    if models is None:
        from llmlab.models.listing import models as known

        models = [str(m) for m in known(usable=True).index]
    listed = [models] if isinstance(models, str | Model) else list(models)
    if not listed:
        raise DataError("no model was given; for example models=['micro/small', 'micro/base']")
    for m in listed:
        make_model(m)  # a name that does not exist is said now
    return PromptTester(listed, prompt, template, Feedback(store, name), annotator, seed)


callable_module(__name__, "llmlab.ui.prompt_tester:prompt_tester")
