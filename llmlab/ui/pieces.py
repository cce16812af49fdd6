"""What the panels share: how text, tables, notices and forms look, and how work is done beside the page."""

from __future__ import annotations

import contextlib
import contextvars
import html
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w

from llmlab.errors import LabError
from llmlab.results import display

if TYPE_CHECKING:
    from llmlab.store import Store

SHOWN = 200
"""Runs or samples to choose from at a time: a longer list is slow to send, and nobody scrolls it; filter it."""
ROWS = 10_000
"""Answers that are read with their texts at most: more take more than a second."""
SUMMED = 50_000
"""Answers that are summed up at most, for the same reason; pages say what they left out."""
_JUST_OPENED = 10.0
"""Seconds; a visit takes two to five until its panel is shown."""
STYLE = (Path(__file__).parent / "assets" / "panels.css").read_text(encoding="utf-8")


class Panel(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Parts below each other; where no widget can be shown (yet, or in a saved notebook), their words are."""

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        shown: dict[str, Any] = super()._repr_mimebundle_(**options)
        return {**shown, "text/html": still(self)}


def panel(title: str, *parts: w.Widget) -> Panel:
    """A panel: its style, a heading, and its parts below each other."""
    box = Panel([w.HTML(f"<style>{STYLE}</style>"), w.HTML(f"<h1>{escaped(title)}</h1>"), *parts])
    box.add_class("llmlab-panel")
    return box


def still(widget: w.Widget) -> str:
    """HTML of a widget as it is now, with fields and buttons that do nothing."""
    if getattr(widget.layout, "display", None) == "none":
        return ""
    kinds = " ".join(getattr(widget, "_dom_classes", ()))
    label = getattr(widget, "description", "")
    if isinstance(widget, w.HTML):
        return f'<div class="widget-html">{widget.value}</div>'
    if isinstance(widget, w.Box):
        return f'<div class="{kinds}">{"".join(map(still, widget.children))}</div>'
    if isinstance(widget, w.Button):
        return f'<button class="widget-button" disabled>{escaped(label)}</button>'
    value = getattr(widget, "label", getattr(widget, "value", "")) or ""  # a dropdown's label is what it shows
    shown = f'<input disabled value="{escaped("" if isinstance(value, tuple) else value)}">' if label else ""
    return f'<div class="{kinds}"><span class="widget-label">{escaped(label)}</span>{shown}</div>'


def row(*parts: w.Widget) -> w.Box:
    """Parts beside each other, which wrap where the window is narrow."""
    box = w.Box(list(parts))
    box.add_class("llmlab-row")
    return box


def text(content: str, kind: str = "") -> w.HTML:
    """A paragraph of plain text; `kind` is "", "muted", "good" or "bad"."""
    return w.HTML(paragraph(content, kind))


def paragraph(content: str, kind: str = "") -> str:
    """HTML of a paragraph of plain text."""
    return f'<p class="llmlab-{kind or "text"}">{escaped(content)}</p>'


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> str:
    """HTML of a table that scrolls sideways in itself; every cell is plain text, columns in `right` are numbers."""
    side = [' class="llmlab-number"' if i in right else "" for i in range(len(headers))]
    head = "".join(f'<th scope="col"{s}>{escaped(h)}</th>' for h, s in zip(headers, side, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{s}>{escaped(cell)}</td>" for cell, s in zip(cells, side, strict=True)) + "</tr>"
        for cells in rows
    )
    return f'<div class="llmlab-table" tabindex="0"><table><tr>{head}</tr>{body}</table></div>'


def block(label: str, content: str) -> str:
    """HTML of a text of many lines, as it is: a prompt, an answer."""
    return f"<h4>{escaped(label)}</h4><pre>{escaped(content) or '<em>empty</em>'}</pre>"


def escaped(content: object) -> str:
    """Anything as text that cannot become markup; control characters are made visible."""
    return html.escape(display.visible(str(content)))


def names(content: str) -> list[str]:
    """Names that a person typed, separated by commas."""
    return [name.strip() for name in content.split(",") if name.strip()]


@contextlib.contextmanager
def said(notice: w.HTML) -> Iterator[None]:
    """Inside, an error of ours is written into `notice` in place of a traceback."""
    notice.value = ""
    try:
        yield
    except (LabError, ValueError) as error:
        notice.value = paragraph(str(error), "bad")


def background(work: Callable[[], None]) -> threading.Thread:
    """Do work in a thread that keeps the page alive, with this context's ledger and project."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), daemon=True)
    thread.start()
    return thread


class Shown(anywidget.AnyWidget):
    """Calls `shown` when it comes into a page, with the seconds for which that page has been open."""

    _esm = (
        'export default { render({ model, el }) { el.style.display = "none"; '
        "model.send({ open: performance.now() / 1000 }); } };"
    )

    def __init__(self, shown: Callable[[float], None]) -> None:
        super().__init__(layout=w.Layout(display="none"))
        self.on_msg(lambda _, said, __: shown(said["open"]))


def refreshed(draw: Callable[[], None]) -> w.Box:
    """A button that draws again; drawn once now, and again when it is shown, if that is not of now.

    It is of now when it was drawn for a page that has just been opened. In a page whose kernel was warmed up before the
    visit it is older than the page; in a notebook, open for long, anything may have happened since.
    """
    drawn = 0.0

    def again(_: object = None) -> None:
        nonlocal drawn
        drawn = time.monotonic()
        draw()

    def shown(page_open: float) -> None:
        if not time.monotonic() - drawn < page_open < _JUST_OPENED:
            again()

    button = w.Button(description="Refresh")
    button.on_click(again)
    again()
    return w.Box([button, Shown(shown)])


def field(kind: Callable[..., w.Widget], label: str, **options: Any) -> Any:
    """A form field whose label stands above it, so that it fits a narrow window."""
    made = kind(description=label, style={"description_width": "auto"}, **options)
    made.add_class("llmlab-field")
    return made


def offer(choice: w.Dropdown, options: Sequence[Any], first: Any = None) -> None:
    """Give a dropdown other options; what was chosen stays chosen, else `first`, else the first is."""
    if list(choice.options) == list(options):
        return  # setting them chooses the first for a moment, which draws it
    values = [one[1] if isinstance(one, tuple) else one for one in options]
    kept = choice.value
    choice.options = options
    choice.value = kept if kept in values else first if first in values else next(iter(values), None)


@contextlib.contextmanager
def reading(store: str | Store | None) -> Iterator[Store]:
    """The store to read, closed again if it was opened here."""
    from llmlab.evaluation.evaluate import opened

    with opened(store) as source:
        yield source
