"""What an alert says: in Markdown, with the flipped items, what changed, and the picture."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any

from llmlab.monitor.flips import Flip, of_finding
from llmlab.results.display import count, visible

if TYPE_CHECKING:
    from llmlab.monitor.alerts import Alert
    from llmlab.monitor.detect import Check
    from llmlab.monitor.watch import Watch

_FLIPS = 3
_PROMPT = 400


def write(watch: Watch, alert: Alert, check: Check, news: str) -> dict[str, Any]:
    """A message as JSON types: title, text (Markdown), level, and plot (a PNG in base64, or None)."""
    what = alert.text.split(":", 1)[0] if alert.kind == "score" else alert.text
    title = f"[{watch.name}] {'resolved' if news == 'resolved' else alert.level}: {_cut(what, 120)}"
    finding = next((f for f in check.findings if f.about == alert.about), None)
    flipped = [] if news == "resolved" or finding is None else of_finding(watch, finding, check.round.slot)
    parts = [f"{'Resolved: ' * (news == 'resolved')}{visible(alert.text)}."]
    parts += [f"**Why:** {alert.verdict}"] if alert.verdict and news != "resolved" else []
    parts += ["\n".join(f"- {visible(cause)}" for cause in alert.causes)] if alert.causes and news != "resolved" else []
    parts += _flipped(flipped, finding.before if finding is not None else "")
    parts += [f"Round {check.round.slot}, first seen {alert.first or alert.opened}, alert `{alert.id}`."]
    if news != "resolved":
        parts += [f"Acknowledge with `llmlab monitor ack {alert.id} --name {watch.name}`."]
    return {"title": title, "text": "\n\n".join(parts), "level": news, "plot": _plot(watch, alert)}


def _flipped(flipped: list[Flip], since: str) -> list[str]:
    if not flipped:
        return []
    worse = sum(f.worse for f in flipped)
    head = f"**Flipped** since the round {since}: {count(worse, 'item')} got worse, {len(flipped) - worse} better."
    return [head, *(_item(f) for f in flipped[:_FLIPS])]


def _item(flip: Flip) -> str:
    fence = "````"  # an answer may hold a fence of three
    wanted = f" (wanted: {_cut(visible(flip.target), 80)})" if flip.target else ""
    asked = _cut(visible(flip.prompt)[-_PROMPT:], _PROMPT)
    return f"`{flip.sample}`{wanted}\n\n{fence}\n{asked}\n{fence}\n\n{fence}diff\n{visible(flip.diff())}\n{fence}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _plot(watch: Watch, alert: Alert) -> str | None:
    """The trend of the series that the alert is about, None for alerts on nothing that can be drawn."""
    if alert.kind not in ("score", "cost", "seconds") or not alert.benchmark:
        return None
    import matplotlib.pyplot as plt

    from llmlab.plots.trend import trend

    history = watch.history()
    frame = history.frame
    rows = frame[(frame["benchmark"] == alert.benchmark) & (frame["model"] == alert.model)]
    value = {"score": "score", "cost": "cost_per_1000", "seconds": "seconds"}[alert.kind]
    if not len(rows) or rows[value].isna().all():
        return None
    marks = [c for c in history.changes if (c.model, c.benchmark) == (alert.model, alert.benchmark)]
    ax = trend(rows, value, marks if value == "score" else (), math.nan)
    buffer = io.BytesIO()
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
