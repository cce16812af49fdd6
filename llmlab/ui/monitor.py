"""`lab.ui.monitor()`: trends of a watch, and its alerts to acknowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w

from llmlab._module import callable_module
from llmlab.results import display
from llmlab.ui import pieces

if TYPE_CHECKING:
    from llmlab.monitor.alerts import Alert
    from llmlab.monitor.history import History
    from llmlab.store import Store


_SPANS = (("the newest 90", 90), ("the newest 365", 365), ("all", None))
_NOTHING = pieces.paragraph(
    "Nothing is watched yet. In a terminal, `llmlab monitor run -m MODEL -b BENCHMARK -n 200` makes a first round, and "
    "`llmlab monitor schedule '0 6 * * *' --install` one every morning.",
    "muted",
)


def monitor(store: str | Store | None = None) -> w.VBox:
    """Trends with intervals and change points of a watch, and its open alerts with a button to acknowledge each.

    The newest 90 rounds are shown, or as many as one chooses.

    Args:
        store: a Store or its SQLAlchemy URL; None is the default store.
    """
    watch = pieces.field(w.Dropdown, "Watch", options=[])
    span = pieces.field(w.Dropdown, "Rounds", options=_SPANS)
    person = pieces.field(w.Text, "Your name", placeholder="noted when you acknowledge")
    notice, heading, alerts, trend = w.HTML(), w.HTML(), w.VBox(), w.HTML()

    def listed() -> None:
        with pieces.said(notice), pieces.reading(store) as source:
            pieces.offer(watch, sorted(one["key"] for one in source.documents.find("watch")))
        draw()

    def draw(_: object = None) -> None:
        if watch.value is None:
            heading.value, alerts.children = "", ()
            trend.value = _NOTHING
            return
        heading.value = "<h3>Alerts</h3>"
        with pieces.said(notice), pieces.reading(store) as source:
            from llmlab.monitor.alerts import every
            from llmlab.monitor.watch import monitor as opened

            known = [alert for alert in every(source, watch.value) if alert.state != "resolved"]
            alerts.children = tuple(line(alert) for alert in known) or (pieces.text("No open alerts.", "good"),)
            trend.value = _trend(opened(name=watch.value, store=source).history(span.value), span.value)

    def line(alert: Alert) -> w.Widget:
        words = pieces.text(str(alert), "bad" if alert.state == "open" else "muted")
        if alert.state != "open":
            return words
        button = w.Button(description="Acknowledge", tooltip=f"Acknowledge alert {alert.id}")
        button.on_click(lambda _: acknowledged(alert.id))
        return w.VBox([words, button])

    def acknowledged(alert: str) -> None:
        from llmlab.monitor.alerts import acknowledge

        with pieces.said(notice), pieces.reading(store) as source:
            acknowledge(source, watch.value, alert, by=person.value.strip())
        draw()

    refresh = pieces.refreshed(listed)
    for field in (watch, span):
        field.observe(draw, "value")
    return pieces.panel("Monitor", pieces.row(watch, span, person, refresh), notice, heading, alerts, trend)


def _trend(history: History, last: int | None) -> str:
    newest = "The newest " if len(history) == last else ""
    head = f"<h3>{newest}{pieces.escaped(display.count(len(history), 'round'))}</h3>"
    if not len(history):
        return head + pieces.paragraph("No round was made yet; `llmlab monitor run` makes one.", "muted")
    return head + history._repr_html_() + _picture(history)


def _picture(history: History) -> str:
    import base64
    import io

    from matplotlib import pyplot

    figure: Any = history.plot().figure  # axes know theirs, and a figure is its own
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=110, facecolor="white")  # a "tight" box would have it laid out twice
    pyplot.close(figure)
    told = pieces.escaped(f"Trend of the scores of watch {history.name}; the table above has the latest figures")
    return f'<img alt="{told}" src="data:image/png;base64,{base64.b64encode(made.getvalue()).decode()}">'


callable_module(__name__, "llmlab.ui.monitor:monitor")
