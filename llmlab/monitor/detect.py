"""From readings to findings: what is worth telling, how loud, and why it may have happened."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llmlab.monitor import canary, sunset
from llmlab.monitor.causes import Causes, causes
from llmlab.monitor.changes import fell
from llmlab.monitor.config import CORRECTIONS
from llmlab.monitor.items import Items
from llmlab.monitor.readings import Reading, Reference, readings
from llmlab.monitor.rounds import FLAGS, Round
from llmlab.results import display

if TYPE_CHECKING:
    from llmlab.monitor.config import Settings

Level: TypeAlias = Literal["alarm", "warning", "notice"]
LEVELS: tuple[Level, ...] = ("alarm", "warning", "notice")

_WARN_DAYS, _NOTICE_DAYS = 30, 90
_FLAG_WORDS = {
    "truncated": "cut off at the token limit",
    "refused": "refused",
    "unparsable": "unreadable",
    "failed": "failed",
}


@dataclass(frozen=True)
class Finding:
    """Something to tell.

    Attributes:
        kind: "score", "cost", "seconds", "truncated", "refused", "unparsable", "failed", "silent" (no answer at
            all), "provider", "ours", "sunset" or "incomplete".
        level: "alarm", "warning" or "notice".
        model, benchmark: what it is about, "" for all.
        text: in one sentence, with numbers.
        causes: what is known of why.
        first: slot of the first round that it is about.
        before: slot of the last round before it began, "" when there is none: causes and flipped items are since then.
    """

    kind: str
    level: Level
    model: str
    benchmark: str
    text: str
    causes: Causes = field(default_factory=Causes)
    first: str = ""
    before: str = ""

    @property
    def about(self) -> str:
        """What the finding is about, the same in every round that finds it again."""
        return "/".join(part for part in (self.kind, self.model, self.benchmark) if part)


@dataclass(frozen=True)
class Check:
    """What a round says: everything that was read, and what is worth telling.

    Attributes:
        round: the round.
        readings: every quantity against earlier rounds.
        findings: worst first.
        alpha, rounds: as in the settings.
    """

    round: Round
    readings: tuple[Reading, ...]
    findings: tuple[Finding, ...]
    alpha: float = 0.05
    rounds: int = 30

    def table(self) -> Any:
        """The readings as a DataFrame, a line for each."""
        import pandas as pd

        columns = list(Reading.__dataclass_fields__)
        return pd.DataFrame([[getattr(r, c) for c in columns] for r in self.readings], columns=columns)

    def detectable(self) -> list[str]:
        """A sentence per series: the smallest drop that this watch can see, tonight and over several rounds."""
        told = []
        for key in dict.fromkeys((r.model, r.benchmark) for r in self.readings):
            scores = [r for r in self.readings if (r.model, r.benchmark, r.what) == (*key, "score")]
            scores = [r for r in scores if r.against == "history"] or scores
            if scores:
                sizes = [f"{_size(r.detectable)} {_span(r.rounds[0])}" for r in scores]
                told.append(
                    f"{key[0]} on {key[1]}: {', '.join(sizes)} (n = {scores[0].n}, with probability 0.8 or more)"
                )
        return told

    def __repr__(self) -> str:
        head = f"Check of {self.round.slot} ({self.round.status}): {_counted(self.findings)}"
        lines = [f"{f.level}: {f.text}" for f in self.findings]
        if not self.readings:
            lines.append("There is nothing to compare with yet; the next round is compared with this one.")
        return "\n".join([head, *lines, *(f"smallest drop to be seen: {text}" for text in self.detectable())])

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {line}" for line in repr(self).splitlines())


def _size(drop: float) -> str:
    return "none" if math.isinf(drop) else f"{100 * drop:.1f} points"


def _span(rounds: int) -> str:
    return "in one round" if rounds == 1 else f"over {rounds}"


def _counted(findings: Sequence[Finding]) -> str:
    counts = [(sum(f.level == level for f in findings), level) for level in LEVELS]
    return ", ".join(display.count(n, level) for n, level in counts if n) or "nothing to report"


def check(
    rounds: Sequence[Round],
    reference: Reference,
    items: Mapping[str, Items],
    settings: Settings,
    models: Mapping[str, str],
) -> Check:
    """What the last of `rounds` (complete ones, oldest first) says.

    Args:
        rounds: of one watch.
        reference: what to compare with.
        items: by their hash.
        settings: thresholds.
        models: label -> name, for the calendar.
    """
    now = rounds[-1]
    read = readings(rounds, reference, items, settings)
    last = len(rounds) - 1
    before = {s.key: min(reference.since.get(s.key, last), last) for s in now.series}
    found = [
        *_silent(now),
        *_scores(read, rounds, before, settings, functools.partial(_fell, rounds, reference.start, items)),
        *_others(read, rounds, before, settings),
        *_changes(rounds),
        *_endings(models, settings, now.at),
    ]
    ordered = sorted(found, key=lambda f: LEVELS.index(f.level))
    return Check(now, tuple(read), tuple(ordered), settings.alpha, settings.rounds)


def last_before(rounds: Sequence[Round], key: tuple[str, str], place: int) -> int | None:
    """Where the last round before a place is that measured a series."""
    return next((i for i in reversed(range(place)) if rounds[i].find(key) is not None), None)


def _silent(now: Round) -> Iterable[Finding]:
    by_model: dict[str, list[str]] = {}
    for series in now.series:
        if series.error:
            by_model.setdefault(series.model, []).append(series.error)
    for model, errors in by_model.items():
        text = f"{model} gave no answer at all: {display.visible(errors[0])}"
        yield Finding("silent", "alarm", model, "", text, first=now.slot)


def _fell(rounds: Sequence[Round], start: int, items: Mapping[str, Items], key: tuple[str, str]) -> int:
    """Where the first round is after the latest fall: it may take several rounds until a fall is shown."""
    found = fell(rounds[start:], key, items)
    return len(rounds) - 1 if found is None else start + found


def _scores(
    read: Sequence[Reading],
    rounds: Sequence[Round],
    before: Mapping[Any, int],
    settings: Settings,
    fell_at: Callable[[tuple[str, str]], int],
) -> Iterable[Finding]:
    for key in dict.fromkeys((r.model, r.benchmark) for r in read):
        scores = [r for r in read if (r.model, r.benchmark, r.what) == (*key, "score")]
        shown = [r for r in scores if r.shown and not _over(r, scores)]
        if not shown:
            continue
        worst = min(shown, key=lambda r: (r.difference > -settings.drop, r.rounds[0], r.p))
        level: Level = "alarm" if worst.difference <= -settings.drop else "warning"
        yield _finding("score", level, worst, _score_text(worst, read, settings), rounds, before, fell_at(key))


def _over(r: Reading, scores: Sequence[Reading]) -> bool:
    """Whether a fall of several rounds is over: the interval of the last round alone lies above it."""
    tonight = [one for one in scores if one.rounds[0] == 1 and one.against == "history"]
    return r.rounds[0] > 1 and any(one.low > r.difference for one in tonight)


def _score_text(r: Reading, read: Sequence[Reading], settings: Settings) -> str:
    tested = sum(not math.isnan(other.p) for other in read)
    span = "" if r.rounds[0] == 1 else f" over the last {r.rounds[0]} rounds"
    return (
        f"{r.model} on {r.benchmark} fell{span} from {display.percent(r.before)} to {display.percent(r.now)}: "
        f"{display.points(r.difference)} points {display.interval(r.low, r.high)} against {_against(r)}, n = {r.n}, "
        f"p {_p(r.p_adjusted)} after {CORRECTIONS[settings.correction]} over {display.count(tested, 'reading')} and "
        f"{settings.rounds} rounds"
    )


def _against(r: Reading) -> str:
    return "the baseline" if r.against == "baseline" else f"{display.count(r.rounds[1], 'round')} of history"


def _p(p: float) -> str:
    text = display.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _others(
    read: Sequence[Reading], rounds: Sequence[Round], before: Mapping[Any, int], settings: Settings
) -> Iterable[Finding]:
    limits = {"cost": settings.cost_rise, "median seconds": settings.latency_rise, "p95 seconds": settings.latency_rise}
    limits |= dict.fromkeys(FLAGS, settings.rate_rise)
    for r in read:
        if r.what in limits and r.shown and r.difference >= limits[r.what]:
            kind = "seconds" if r.what.endswith("seconds") else r.what
            if kind == "failed" and r.now == 1.0:
                continue  # told as silent
            yield _finding(kind, "warning", r, _other_text(r), rounds, before)


def _other_text(r: Reading) -> str:
    where = f"{r.model} on {r.benchmark}"
    if r.what in FLAGS:
        return (
            f"{where}: {display.percent(r.now)} of the answers were {_FLAG_WORDS[r.what]}, {display.percent(r.before)} "
            f"before ({display.points(r.difference)} points {display.interval(r.low, r.high)}, n = {r.n}, "
            f"p {_p(r.p_adjusted)})"
        )
    unit = display.dollars if r.what == "cost" else display.seconds
    name = "the cost of an answer" if r.what == "cost" else f"the {r.what.replace('p95 ', '95th percentile of ')}"
    return (
        f"{where}: {name} rose by {100 * r.difference:.0f} % [{100 * r.low:.0f}, {100 * r.high:.0f}], from "
        f"{unit(r.before)} to {unit(r.now)}, beyond its spread over {display.count(r.n, 'round')} "
        f"(p {_p(r.p_adjusted)})"
    )


def _finding(
    kind: str,
    level: Level,
    r: Reading,
    text: str,
    rounds: Sequence[Round],
    before: Mapping[Any, int],
    began: int | None = None,
) -> Finding:
    key = r.model, r.benchmark
    first = r.first or rounds[-1].slot
    place = next(i for i, one in enumerate(rounds) if one.slot == first)
    # causes are looked for, and items compared, from the last round before it began
    earlier = last_before(rounds, key, min(place, before[key], place if began is None else began))
    if earlier is None:
        return Finding(kind, level, *key, text, first=first)
    known = causes(rounds[earlier], rounds[earlier + 1 :], key)
    return Finding(kind, level, *key, text, known, first, rounds[earlier].slot)


def _changes(rounds: Sequence[Round]) -> Iterable[Finding]:
    """Changes since the round before, whatever they did to the scores."""
    now = rounds[-1]
    for model in dict.fromkeys(s.model for s in now.series):
        key = next(s.key for s in now.series if s.model == model)
        place = last_before(rounds, key, len(rounds) - 1)
        if place is None:
            continue
        before = rounds[place]
        known = causes(before, [now], key)
        sides: tuple[tuple[str, tuple[str, ...], Level], ...] = (
            ("provider", known.provider, "warning"),
            ("ours", known.ours, "notice"),
        )
        for kind, changes, level in sides:
            if changes:
                text = f"{model}: {'; '.join(changes)}"
                yield Finding(kind, level, model, "", text, known, now.slot, before.slot)


def _endings(models: Mapping[str, str], settings: Settings, now: datetime) -> Iterable[Finding]:
    for ending in sunset.calendar(models, settings.sunset, now):
        if ending.days <= _NOTICE_DAYS:
            level: Level = "alarm" if ending.days < 0 else "warning" if ending.days <= _WARN_DAYS else "notice"
            yield Finding("sunset", level, ending.model, "", str(ending))


def canary_changes(now: Mapping[str, canary.Answers], rounds: Sequence[Round]) -> dict[str, list[str]]:
    """Model -> prompts whose answers are new, against the rounds since it was last another model."""
    changed = {}
    for model, texts in now.items():
        other = [i for i, r in enumerate(rounds) if canary.is_another(r.canary_changed.get(model, ()))]
        before = [r.canary[model] for r in rounds[max(other, default=0) :] if model in r.canary]
        changed[model] = canary.changed(texts, before)
    return changed
