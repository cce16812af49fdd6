"""`lab.ui.compare()`: two models on the same items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from llmlab._module import callable_module
from llmlab.results import Results, display
from llmlab.results.summary import NEEDED
from llmlab.ui import pieces

if TYPE_CHECKING:
    from llmlab.store import Store


def compare(store: str | Store | None = None) -> w.VBox:
    """Two models, paired by item: the difference with its interval, and the items on which they differ.

    The latest run of each model and benchmark counts, on the benchmarks that both have.

    Args:
        store: a Store or its SQLAlchemy URL; None is the default store.
    """
    a, b = pieces.field(w.Dropdown, "Model", options=[]), pieces.field(w.Dropdown, "Baseline", options=[])
    notice, body = w.HTML(), w.HTML()
    latest: dict[str, dict[str, str]] = {}

    def listed() -> None:
        with pieces.said(notice), pieces.reading(store) as source:
            latest.clear()
            latest.update(_latest(source))
            names = list(latest)
            pieces.offer(a, names)
            pieces.offer(b, names, first=names[1] if len(names) > 1 else None)
        draw()

    def draw(_: object = None) -> None:
        if len(latest) < 2:
            told = "Two models with stored answers are needed. Start a benchmark with both under “Runs”."
            body.value = pieces.paragraph(told, "muted")
            return
        with pieces.said(notice):
            body.value = ""
            if a.value == b.value:
                body.value = pieces.paragraph("Choose two different models.", "muted")
                return
            if not latest[a.value].keys() & latest[b.value].keys():
                told = "They have no benchmark in common. Start one with both under “Runs”, or choose others."
                body.value = pieces.paragraph(told, "muted")
                return
            body.value = _compared(_rows(store, latest, a.value, b.value), a.value, b.value)

    refresh = pieces.refreshed(listed)
    a.observe(draw, "value")
    b.observe(draw, "value")
    return pieces.panel("Compare", pieces.row(a, b, refresh), notice, body)


def _latest(store: Store) -> dict[str, dict[str, str]]:
    """Model -> benchmark -> the latest run with both."""
    found: dict[str, dict[str, str]] = {}
    for (model, benchmark), run in store.latest().items():
        found.setdefault(model, {})[benchmark] = run
    return found


def _rows(store: str | Store | None, latest: dict[str, dict[str, str]], a: str, b: str) -> Results:
    """The scores of the two models on the benchmarks of both, from their latest runs."""
    both = [benchmark for benchmark in latest[a] if benchmark in latest[b]]
    with pieces.reading(store) as source:
        parts = [
            source.results(latest[model][benchmark], columns=NEEDED, where={"model": [model], "benchmark": [benchmark]})
            for benchmark in both
            for model in (a, b)
        ]
    return Results([row for rows in parts for row in rows])


def _compared(results: Results, a: str, b: str) -> str:
    comparison = results.compare(b)
    said = "".join(pieces.paragraph(sentence) for sentence in comparison.findings())
    return said + comparison._repr_html_() + _flips(results, a, b)


def _flips(results: Results, a: str, b: str) -> str:
    """The items on which one model scores higher, the widest differences first."""
    scores = results.samples.groupby(["benchmark", "sample", "model"], sort=False)["score"].mean().unstack("model")
    both = scores[[a, b]].dropna()
    both = both[both[a] != both[b]]
    order = (both[a] - both[b]).abs().sort_values(ascending=False, kind="stable").index[:50]
    rows = [[*key, f"{both.loc[key, a]:.2g}", f"{both.loc[key, b]:.2g}"] for key in order]
    if not rows:
        return pieces.paragraph("They have the same score on every common item.", "muted")
    head = f"<h3>{pieces.escaped(display.count(len(both), 'item'))} with different scores</h3>"
    return head + pieces.table(["benchmark", "sample", a, b], rows, right=(2, 3))


callable_module(__name__, "llmlab.ui.compare:compare")
