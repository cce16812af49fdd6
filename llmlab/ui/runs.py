"""`lab.ui.runs()`: the runs of a store, their samples, and a form to start another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w

from llmlab._module import callable_module
from llmlab.results import Results, display
from llmlab.results.frame import records
from llmlab.results.summary import NEEDED
from llmlab.ui import pieces
from llmlab.ui.start import start

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.store import Store

_VERDICTS = ("all", "failed", "truncated", "empty", "refused", "unparsable", "shortened", "unjudged", "wrong")


def runs(store: str | Store | None = None) -> w.VBox:
    """Start a benchmark and watch it; list, filter and stop runs; open one, and a sample of it with its trace.

    Args:
        store: a Store or its SQLAlchemy URL; None is the default store.
    """
    return _Browser(store).view


class _Browser:
    """The state of one panel: which runs are listed, which of them is open."""

    def __init__(self, store: str | Store | None) -> None:
        self.store = store
        self.results: Results | None = None
        self.going: set[str] = set()
        """Ids of listed runs that are under way."""
        self.wanted = pieces.field(w.Text, "Filter", placeholder="model, benchmark, project or status")
        self.run = pieces.field(w.Dropdown, "Run", options=[])
        self.stop = w.Button(description="Stop this run", tooltip="Wherever it was started; its answers are kept")
        self.kind = pieces.field(w.Dropdown, "Answers", options=_VERDICTS)
        self.sample = pieces.field(w.Dropdown, "Sample", options=[])
        self.notice, self.listing, self.summary, self.trace = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        refresh = pieces.refreshed(self._list)
        self.wanted.observe(lambda _: self._list(), "value")
        self.run.observe(lambda _: self._open(), "value")
        self.kind.observe(lambda _: self._samples(), "value")
        self.sample.observe(lambda _: self._show(), "value")
        self.stop.on_click(lambda _: self._stop())
        self._open()
        self.view = pieces.panel(
            "Runs",
            w.HTML("<h3>Start a benchmark</h3>"),
            start(store, done=self._list),
            w.HTML("<h3>Stored runs</h3>"),
            pieces.row(self.wanted, refresh),
            self.notice,
            self.listing,
            pieces.row(self.run, self.stop),
            self.summary,
            pieces.row(self.kind, self.sample),
            self.trace,
        )

    def _list(self) -> None:
        with pieces.said(self.notice), pieces.reading(self.store) as source:
            found = source.runs(self.wanted.value, last=pieces.SHOWN)
            self.listing.value = lines(found.head(20)) if len(found) else _nothing(self.wanted.value)
            shown = listed(found)
            self.going = {row["id"] for row in shown if row["status"] == "running"}
            pieces.offer(self.run, [(label(row), row["id"]) for row in shown])
            self._offer_stop()

    def _offer_stop(self) -> None:
        self.stop.layout.display = "" if self.run.value in self.going else "none"

    def _stop(self) -> None:
        run = self.run.value
        with pieces.said(self.notice), pieces.reading(self.store) as source:
            source.stop_run(run)
        said = self.notice.value
        self._list()
        told = "The run ends when the calls under way are answered; all answers are kept. “Refresh” shows when."
        self.notice.value = said or pieces.paragraph(told)

    def _open(self) -> None:
        self.results = None
        self._offer_stop()
        with pieces.said(self.notice):
            if self.run.value is not None:
                with pieces.reading(self.store) as source:
                    rows = source.results(self.run.value, pieces.SUMMED, columns=NEEDED)
                self.results = Results(rows)
                part = pieces.paragraph(_part(self.run.value), "muted") if len(rows) == pieces.SUMMED else ""
                self.summary.value = part + self.results._repr_html_() if rows else _waiting()
            else:
                self.summary.value = ""
        self._samples()

    def _samples(self) -> None:
        options: list[tuple[str, tuple[str, str]]] = []
        if self.results is not None:
            kind = self.kind.value
            rows = self.results.samples if kind == "all" else self.results.failures(kind)
            pairs = rows[["benchmark", "sample"]].drop_duplicates().head(pieces.SHOWN)
            options = [(f"{b} · {s}", (b, s)) for b, s in pairs.itertuples(index=False)]
        pieces.offer(self.sample, options)
        self._show()

    def _show(self) -> None:
        self.trace.value = ""
        if self.results is None or self.sample.value is None:
            return
        with pieces.said(self.notice):
            benchmark, sample = self.sample.value
            with pieces.reading(self.store) as source:
                rows = source.results(self.run.value, where={"benchmark": [benchmark], "sample": [sample]})
            self.trace.value = Results(rows).show(sample, benchmark)._repr_html_()


def lines(found: pd.DataFrame) -> str:
    """HTML of a table of runs."""
    import pandas as pd

    headers = ["started (UTC)", "models", "benchmarks", "answers", "cost", "status", "project"]
    rows = [
        [
            f"{row['created']:%Y-%m-%d %H:%M}",
            display.series(row["models"]),
            display.series(row["benchmarks"]),
            f"{row['rows']:,}",
            display.UNKNOWN if pd.isna(row["cost"]) else display.dollars(row["cost"]),  # not finished: not known
            row["status"],
            row["project"],
        ]
        for row in listed(found)
    ]
    return pieces.table(headers, rows, right=(3, 4))


def listed(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Runs as dicts with their id."""
    return records(found.reset_index() if found.index.name else found)


def label(run: dict[str, Any]) -> str:
    """How a run is called in a list to choose from."""
    what = [", ".join(run["models"]), ", ".join(run["benchmarks"])] if run["rows"] else [f"no answers, {run['status']}"]
    return " · ".join([f"{run['created']:%Y-%m-%d %H:%M:%S}", *what])


def _part(run: str) -> str:
    return (
        f"The first {pieces.SUMMED:,} answers of this run are summed up here. All of them: "
        f"lab.Results(lab.Store().results({run!r}))."
    )


def _waiting() -> str:
    return pieces.paragraph("This run has no answers yet.", "muted")


def _nothing(wanted: str) -> str:
    if wanted.strip():
        return pieces.paragraph(f"No run has {wanted!r} in it. Empty the filter to see all.", "muted")
    return pieces.paragraph("No runs yet. Start one above: micro/small on micro/arc takes seconds.", "muted")


callable_module(__name__, "llmlab.ui.runs:runs")
