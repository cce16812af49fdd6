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
_LINES = 8
"""Models that are drawn: more can hardly be told apart."""
_NOTHING = pieces.paragraph(
    "Nothing is watched yet. In a terminal, `llmlab monitor run -m MODEL -b BENCHMARK -n 200` makes a first round, and "
    "`llmlab monitor schedule '0 6 * * *' --install` one every morning.",
    "muted",
)


def monitor(store: str | Store | None = None) -> w.VBox:
    """Trends with intervals and change points of a watch, and its open alerts with a button to acknowledge each.

    The newest 90 rounds are shown, or as many as one chooses, and the trends of one benchmark at a time.

    Args:
        store: a Store or its SQLAlchemy URL; None is the default store.
    """
    watch = pieces.field(w.Dropdown, "Watch", options=[])
    span = pieces.field(w.Dropdown, "Rounds", options=_SPANS)
    person = pieces.field(w.Text, "Your name", placeholder="noted when you acknowledge")
    benchmark = pieces.field(w.Dropdown, "Drawn", options=[])
    notice, heading, alerts, trend, picture = w.HTML(), w.HTML(), w.VBox(), w.HTML(), w.HTML()
    held: list[History] = []

    def listed() -> None:
        with pieces.said(notice), pieces.reading(store) as source:
            pieces.offer(watch, sorted(one["key"] for one in source.documents.find("watch")))
        draw()

    def draw(_: object = None) -> None:
        if watch.value is None:
            heading.value, alerts.children = "", ()
            trend.value, picture.value, benchmark.layout.display = _NOTHING, "", "none"
            return
        heading.value = "<h3>Alerts</h3>"
        with pieces.said(notice), pieces.reading(store) as source:
            from llmlab.monitor.alerts import every
            from llmlab.monitor.watch import monitor as opened

            known = [alert for alert in every(source, watch.value) if alert.state != "resolved"]
            alerts.children = tuple(line(alert) for alert in known) or (pieces.text("No open alerts.", "good"),)
            history = opened(name=watch.value, store=source).history(span.value)
            held[:] = [history]
            trend.value = _trend(history, span.value)
            benchmark.layout.display = "" if len(history.benchmarks) > 1 else "none"
            before = benchmark.value
            pieces.offer(benchmark, history.benchmarks, _moved_first(history))
            if benchmark.value == before:  # else it was drawn by that
                draw_one()

    def draw_one(_: object = None) -> None:
        picture.value = _drawn(held[0], benchmark.value) if held and benchmark.value else ""

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

    benchmark.observe(draw_one, "value")
    refresh = pieces.refreshed(listed)
    for field in (watch, span):
        field.observe(draw, "value")
    fields = pieces.row(watch, span, person, refresh)
    return pieces.panel("Monitor", fields, notice, heading, alerts, trend, pieces.row(benchmark), picture)


def _trend(history: History, last: int | None) -> str:
    newest = "The newest " if len(history) == last else ""
    head = f"<h3>{newest}{pieces.escaped(display.count(len(history), 'round'))}</h3>"
    if not len(history):
        return head + pieces.paragraph("No round was made yet; `llmlab monitor run` makes one.", "muted")
    return head + history._repr_html_()


def _moved_first(history: History) -> str | None:
    """The benchmark on which a level moved furthest."""
    furthest = max(history.changes, key=lambda change: abs(change.difference), default=None)
    return furthest.benchmark if furthest else None


def _drawn(history: History, benchmark: str) -> str:
    """HTML of the trends on a benchmark: of all models, or of those whose level moved furthest and then of others."""
    moved = sorted(history.changes, key=lambda change: -abs(change.difference))
    here = history.only(history.models, [benchmark]).models
    models = list(dict.fromkeys([*(c.model for c in moved if c.benchmark == benchmark), *here]))[:_LINES]
    left_out = (
        f"Drawn: {len(models)} of {len(here)} models, first those whose level moved. "
        f"All of them: lab.monitor(name={history.name!r}).history().plot(benchmark={benchmark!r})."
    )
    said = pieces.paragraph(left_out, "muted") if len(models) < len(here) else ""
    return _picture(history.only(models, [benchmark])) + said


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
