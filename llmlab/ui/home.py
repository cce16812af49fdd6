"""`lab.ui.home()`: what there is, at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from llmlab._module import callable_module
from llmlab.results import display
from llmlab.ui import pieces
from llmlab.ui.runs import lines

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.store import Store
    from llmlab.store.store import Totals

_LATEST = 5


def home(store: str | Store | None = None) -> w.VBox:
    """The latest runs, what they cost, and open alerts.

    Args:
        store: a Store or its SQLAlchemy URL; None is the default store.
    """
    notice, body = w.HTML(), w.HTML()

    def draw() -> None:
        with pieces.said(notice), pieces.reading(store) as source:
            latest = source.runs(last=_LATEST)
            body.value = _overview(source.totals(), latest, _open_alerts(source)) if len(latest) else _welcome()

    return pieces.panel("LLM Lab", pieces.refreshed(draw), notice, body)


def _overview(held: Totals, latest: pd.DataFrame, alerts: list[str]) -> str:
    answers, cost = display.count(held.rows, "answer"), display.dollars(held.cost)
    head = f"{display.count(held.runs, 'run')}, {answers}, {cost} charged by providers."
    warned = "".join(pieces.paragraph(alert, "bad") for alert in alerts)
    calm = pieces.paragraph("No open alerts.", "good")
    return pieces.paragraph(head) + (warned or calm) + "<h3>Latest runs</h3>" + lines(latest)


def _welcome() -> str:
    return pieces.paragraph(
        "Nothing has been run yet. Open “Runs” and start a benchmark: micro/small on micro/arc needs no key, "
        "no network and a few seconds.",
        "muted",
    )


def _open_alerts(store: Store) -> list[str]:
    from llmlab.monitor.alerts import KIND, Alert

    found = [Alert.from_document(one["body"]) for one in store.documents.find(KIND)]
    return [str(alert) for alert in found if alert.state == "open"]


callable_module(__name__, "llmlab.ui.home:home")
