"""`lab.ui.feedback()`: choose a run of the store, judge its answers, see how people agree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ipywidgets as w

from llmlab.alignment.feedback import Feedback
from llmlab.errors import DataError
from llmlab.results import display
from llmlab.results.frame import records
from llmlab.ui import pieces
from llmlab.ui.feedback_widget import widget
from llmlab.ui.runs import label, listed

if TYPE_CHECKING:
    from llmlab.store import Store

_JUDGED = ("benchmark", "sample", "model", "prompt", "text", "error")
_MODES = (("which of two is better", "pair"), ("whether one is good", "thumb"))


def judging(store: str | Store | None, annotator: str = "", name: str = "default") -> pieces.Panel:
    """A panel to choose a run and to judge its answers without seeing who wrote them, with the agreement below.

    Args:
        store: a Store or its SQLAlchemy URL; None is the default store.
        annotator: who judges, to begin with.
        name: of the collection of votes, to begin with.
    """
    run = pieces.field(w.Dropdown, "Run", options=[])
    mode = pieces.field(w.Dropdown, "Judge", options=_MODES)
    who = pieces.field(w.Text, "Your name", value=annotator, placeholder="so that votes can be told apart")
    collection = pieces.field(w.Text, "Collection", value=name)
    begin = w.Button(description="Begin", button_style="primary")
    notice, asked, agreed = w.HTML(), w.VBox(), w.HTML()

    def draw() -> None:
        with pieces.said(notice), pieces.reading(store) as source:
            found = source.runs(last=pieces.SHOWN)
            found = found[found["rows"] > 0] if len(found) else found
            pieces.offer(run, [(label(one), one["id"]) for one in listed(found)])
            begin.disabled = run.value is None
            agreed.value = _agreed(Feedback(source, collection.value.strip()))
        if run.value is None:
            told = (
                "No run has answers yet. Start a benchmark with two models under “Runs”, then judge its answers here."
            )
            asked.children = (pieces.text(told, "muted"),)

    def start(_: object) -> None:
        with pieces.said(notice):
            if not collection.value.strip():
                raise DataError("the collection needs a name; “default” is what lab.alignment.Feedback() reads")
            with pieces.reading(store) as source:
                rows = source.results(run.value, pieces.ROWS, columns=_JUDGED)
            asked.children = (widget(rows, mode.value, who.value.strip(), Feedback(store, collection.value.strip())),)

    begin.on_click(start)
    refresh = pieces.refreshed(draw)
    fields = pieces.row(run, mode), pieces.row(who, collection, begin, refresh)
    return pieces.panel("Feedback", *fields, notice, asked, agreed)


def _agreed(votes: Feedback) -> str:
    """What was voted so far, folded away: who sees which model wins judges the model."""
    counted = votes.votes()
    if not counted:
        return pieces.paragraph(f"Nobody has voted in {votes.name!r} yet.", "muted")
    people = len({vote.annotator for vote in counted})
    parts = [pieces.paragraph(f"{display.count(len(counted), 'vote')} of {_people(people)} in {votes.name!r}.")]
    for sort, words in (("pair", "pairs"), ("thumb", "thumbs")):
        if any(vote.sort == sort for vote in counted):
            parts.append(pieces.paragraph(_alpha(votes, sort, words)))
    wins = votes.wins()
    if len(wins):
        lines = [
            [r["model"], f"{r['pairs']:,}", display.percent(r["share"]), display.interval(r["low"], r["high"])]
            for r in records(wins.sort_values("share", ascending=False))
        ]
        parts.append(pieces.table(["model", "pairs", "won, ties as half", "95 % interval"], lines, right=(1, 2, 3)))
    return f"<details><summary>Votes and agreement</summary>{''.join(parts)}</details>"


def _people(n: int) -> str:
    return "one person" if n == 1 else f"{n} people"


def _alpha(votes: Feedback, sort: str, words: str) -> str:
    estimate = votes.agreement(sort)  # type: ignore[arg-type]  # one of its sorts
    if math.isnan(estimate.value):
        return f"Agreement on {words}: not known before two people have judged the same answers."
    spread = "" if math.isnan(estimate.low) else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    said = f"Krippendorff's alpha {estimate.value:.2f}{spread}, n = {estimate.n} judged by two or more"
    return f"Agreement on {words}: {said} (1: always agree, 0: as by chance)."
