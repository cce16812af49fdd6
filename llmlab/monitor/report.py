"""One page that says how the watched models are: status, trends, what changed, flipped items, costs, what to do."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import UnknownName
from llmlab.monitor import outbox, sunset
from llmlab.monitor.alerts import every
from llmlab.monitor.config import CORRECTIONS
from llmlab.monitor.detect import Check, Finding
from llmlab.monitor.flips import Flip, of_finding
from llmlab.monitor.rounds import slot_of
from llmlab.results import display, pages

if TYPE_CHECKING:
    from jinja2 import Environment

    from llmlab.monitor.history import History
    from llmlab.monitor.watch import Watch

_FLIPS = 10
_WHAT = {"median seconds": "seconds, median", "p95 seconds": "seconds, 95th percentile"}


def write(watch: Watch, path: Path) -> Path:
    """See `Watch.report`.

    Raises:
        UnknownName: for another ending than .html, .md or .json.
        DataError: when there is no complete round yet.
    """
    if path.suffix not in (".html", ".md", ".json"):
        raise UnknownName.among("kind of report", path.suffix, (".html", ".md", ".json"))
    found = facts(watch)
    if path.suffix == ".json":
        text = json.dumps(machine(found), indent=1, ensure_ascii=False, default=str, allow_nan=False)
    elif path.suffix == ".md":
        text = _environment().get_template("watch.md.j2").render(**found)
    else:
        text = _environment().get_template("watch.html.j2").render(**found, plots=_plots(found["history"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def facts(watch: Watch) -> dict[str, Any]:
    """Everything that the three forms of a report say."""
    check, history = watch.check(), watch.history()
    alerts = [a for a in every(watch.store, watch.name) if a.state != "resolved"]
    flipped = [(f, of_finding(watch, f, check.round.slot)) for f in check.findings if f.kind == "score"]
    return {
        "watch": watch,
        "check": check,
        "history": history,
        "headline": _headline(watch, check),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "alerts": alerts,
        "correction": CORRECTIONS[watch.settings.correction],
        "waiting": outbox.waiting(watch.store, watch.name),
        "latest": history._table(),
        "readings": _readings(check),
        "flipped": [(f, found[:_FLIPS], len(found)) for f, found in flipped],
        "costs": _costs(watch, history),
        "endings": sunset.calendar(watch.settings.models, watch.settings.sunset, check.round.at),
        "steps": next_steps(watch, check, len(alerts)),
        "provenance": _provenance(watch, check),
    }


def _headline(watch: Watch, check: Check) -> str:
    loud = [f for f in check.findings if f.level == "alarm"]
    if loud:
        return f"{watch.name}: {display.count(len(loud), 'alarm')}. {loud[0].text.split(':', 1)[0]}"
    warned = [f for f in check.findings if f.level == "warning"]
    if warned:
        return f"{watch.name}: no alarm, {display.count(len(warned), 'warning')}"
    if not check.readings:
        return f"{watch.name}: first round, nothing to compare with yet"
    return f"{watch.name}: no regression shown"


def next_steps(watch: Watch, check: Check, alerts: int) -> list[str]:
    """What a person may do now, most urgent first."""
    steps = []
    for f in check.findings:
        where = " on ".join(part for part in (f.model, f.benchmark) if part)
        if f.kind == "score":
            if f.causes.ours and not f.causes.provider:
                steps.append(f"{where}: undo or check what changed on our side, then run again.")
            elif f.causes.provider:
                steps.append(f"{where}: ask for an older version if the provider has one, or compare models.")
            else:
                steps.append(f"{where}: read the flipped items below; nothing known changed.")
            steps.append("If the new level is accepted: `watch.pin()` makes this round the baseline.")
        elif f.kind == "silent":
            steps.append(f"{f.model}: check its name, key and quota; it gave no answer.")
        elif f.kind == "sunset":
            steps.append(f"{f.text}: choose a successor, and watch both for a while.")
        elif f.kind in ("truncated", "refused", "unparsable", "failed"):
            steps.append(f"{where}: read these answers with `watch.results().failures()`.")
    if alerts:
        steps.append(f"Acknowledge what is being worked on: `llmlab monitor ack ID --name {watch.name}`.")
    if not steps:
        steps.append("Nothing to do. To see smaller drops, raise n or repeats.")
    return list(dict.fromkeys(steps))


def _readings(check: Check) -> tuple[list[str], list[list[str]]]:
    headers = [
        "model",
        "benchmark",
        "what",
        "against",
        "n",
        "before",
        "now",
        "change",
        "interval",
        "p",
        "smallest seen",
        "verdict",
    ]
    return headers, [_reading(r) for r in check.readings]


def _reading(r: Any) -> list[str]:
    share = r.what not in ("cost", "median seconds", "p95 seconds")
    unit = display.percent if share else display.dollars if r.what == "cost" else display.seconds
    against = r.against if r.rounds[1] == 1 else f"{r.against} ({r.rounds[1]} rounds)"
    what = _WHAT.get(r.what, r.what) + (f", last {r.rounds[0]} rounds" if r.rounds[0] > 1 else "")
    change = f"{display.points(r.difference)} points" if share else f"{100 * r.difference:+.0f} %"
    least = display.UNKNOWN if math.isinf(r.detectable) or math.isnan(r.detectable) else (
        f"{100 * r.detectable:.1f} points" if share else f"{100 * r.detectable:.0f} %"
    )  # fmt: skip
    verdict = ("fall shown" if r.what == "score" else "rise shown") if r.shown else "not shown"
    return [
        r.model, r.benchmark, what, against, f"{r.n:,}", unit(r.before), unit(r.now), change,
        display.interval(r.low, r.high), display.p_value(r.p_adjusted), least, verdict,
    ]  # fmt: skip


def _costs(watch: Watch, history: History) -> dict[str, Any]:
    """Dollars by model: the latest round, the last 30 days, and what a month of such rounds costs."""
    frame = history.frame
    recent = frame[frame["at"] > frame["at"].max() - timedelta(days=30)]
    rows = []
    for model in history.models:
        of_model = recent[recent["model"] == model]
        latest = of_model[of_model["round"] == history.rounds[-1].slot]
        rows.append(
            [
                model,
                display.dollars(float(latest["cost"].sum(skipna=False)) if len(latest) else math.nan),
                display.dollars(float(of_model["cost"].sum(skipna=False))),
                _tokens(of_model["input_tokens"].sum(min_count=1)),
                _tokens(of_model["output_tokens"].sum(min_count=1)),
            ]
        )
    budget = watch.settings.budget
    limit = "no budget is set" if budget is None else f"the budget is {display.dollars(budget)} per round"
    spent = history.rounds[-1].cost
    said = "is unpriced" if math.isnan(spent) else f"cost {display.dollars(spent)}"
    return {
        "headers": ["model", "latest round", "30 days", "tokens in, 30 days", "tokens out, 30 days"],
        "rows": rows,
        "text": f"The latest round {said}; {limit}. A cost counts the benchmarks' answers; the "
        "canary adds a few short ones.",
    }


def _tokens(value: Any) -> str:
    return "unknown" if value != value else f"{int(value):,}"


def _provenance(watch: Watch, check: Check) -> list[tuple[str, str]]:
    now, items = check.round, watch.items()
    found = [
        ("round", f"{now.slot}, run {now.run}"),
        ("baseline", watch.history().baseline or f"{watch.rounds()[0].slot} (the first round)"),
        *(
            (f"items of {items[h].benchmark}", f"{len(items[h].contents)} items, hash {h}")
            for h in {s.items: 0 for s in now.series}
        ),
        *(
            (f"version of {s.model} on {s.benchmark}", s.facts["model_version"])
            for s in now.series
            if s.facts.get("model_version")
        ),
        *((f"settings of {m}", pages.as_json(dict(i))) for m, i in now.identities.items()),
        ("made with", ", ".join(f"{name} {version}" for name, version in now.versions.items())),
        ("false alarms", f"at most {100 * check.alpha:g} % in {check.rounds} rounds, all readings together"),
    ]
    return [*found, *(("note", note) for note in now.notes)]


def machine(found: dict[str, Any]) -> dict[str, Any]:
    """The facts for programs: plain JSON, unknown numbers null."""
    check: Check = found["check"]
    frame = found["history"].frame
    made = {
        "watch": found["watch"].name,
        "made": found["made"],
        "round": check.round.slot,
        "headline": found["headline"],
        "findings": [_finding(f) for f in check.findings],
        "alerts": [asdict(a) for a in found["alerts"]],
        "readings": check.table().to_dict("records"),
        "changes": [
            {**asdict(c), **{k: slot_of(getattr(c, k)) for k in ("at", "earliest", "latest")}}
            for c in found["history"].changes
        ],
        "history": [{**line, "at": slot_of(line["at"].to_pydatetime())} for line in frame.to_dict("records")],
        "flipped": [_flip(flip) for _, flipped, _ in found["flipped"] for flip in flipped],
        "endings": [{"model": e.model, "last": f"{e.last}", "days": e.days} for e in found["endings"]],
        "next": found["steps"],
    }
    plain: dict[str, Any] = _plain(made)
    return plain


def _finding(f: Finding) -> dict[str, Any]:
    return {**asdict(f), "causes": {"provider": f.causes.provider, "ours": f.causes.ours, "verdict": f.causes.verdict}}


def _flip(flip: Flip) -> dict[str, Any]:
    return asdict(flip)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plots(history: History) -> list[tuple[str, Any]]:
    """Trends as inline SVG, each with its words for those who cannot see it."""
    from markupsafe import Markup

    from llmlab import plots

    made = []
    for i, (benchmark, value) in enumerate(
        (b, v) for b in history.benchmarks for v in ("score", "cost_per_1000", "seconds")
    ):
        rows = history.frame[history.frame["benchmark"] == benchmark]
        if rows[value].isna().all() or (value != "score" and not rows[value].any()):
            continue
        ax: Any = history.plot(value, benchmark, title="" if value != "score" else None)
        # made by matplotlib, which escapes the names in it
        drawn = Markup(plots.svg(ax, _alt(rows, value, history), f"trend{i}"))  # noqa: S704
        made.append((f"{_HEADINGS[value]} on {benchmark}", drawn))
    return made


_HEADINGS = {"score": "Score", "cost_per_1000": "Cost of 1000 answers", "seconds": "Seconds per answer"}


def _alt(rows: Any, value: str, history: History) -> str:
    said = []
    write: Any = {"score": display.percent, "cost_per_1000": display.dollars, "seconds": display.seconds}[value]
    for model, lines in rows.groupby("model", sort=False):
        first, last = lines.iloc[0], lines.iloc[-1]
        said.append(
            f"{model}: {write(first[value])} on {first['at']:%Y-%m-%d}, {write(last[value])} on {last['at']:%Y-%m-%d}"
        )
    marks = [str(c) for c in history.changes if c.benchmark == rows["benchmark"].iloc[0]] if value == "score" else []
    return f"Line plot over time. {'; '.join([*said, *marks])}."


@functools.cache
def _environment() -> Environment:
    """The pages of results, with ours beside them."""
    from jinja2 import ChoiceLoader, PackageLoader

    shared = pages.environment()
    made = shared.overlay(loader=ChoiceLoader([PackageLoader("llmlab.monitor"), PackageLoader("llmlab.results")]))
    made.filters["line"] = _line
    return made


def _line(text: object) -> str:
    """Text that stays in one cell of a Markdown table."""
    return " ".join(display.visible(text).split()).replace("|", "\\|")
