"""A gate: the results must fulfil this, or an error tells by how much they do not, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from llmlab import stats
from llmlab.errors import DataError, RequirementFailed, UnknownName
from llmlab.results import display
from llmlab.results.frame import records
from llmlab.results.summary import groups, item_mean, unscored
from llmlab.types import NAN

if TYPE_CHECKING:
    import pandas as pd

Evidence = Literal["measured", "shown", "not refuted"]
_COLUMNS = ["model", "benchmark", "protocol", "what", "n", "measured", "low", "high", "limit", "verdict", "met"]
_SHOWN = 3


@dataclass(frozen=True, repr=False)
class Requirement:
    """What was required and what was found.

    Attributes:
        table: a line per model, benchmark and requirement: what ("rate", "max_cost", ...), n, measured with low and
            high, limit, verdict ("shown", "met, not shown", "missed, not shown", "shown missed"), and met, whether it
            counts as fulfilled by the evidence asked for.
        evidence: what counts: "measured", "shown" or "not refuted".
    """

    table: pd.DataFrame
    evidence: Evidence = "measured"

    @property
    def met(self) -> bool:
        """Whether all lines are."""
        return bool(self.table["met"].all())

    def findings(self) -> list[str]:
        """A sentence per line, those that are not met first."""
        lines = sorted(records(self.table), key=lambda line: line["met"])
        return [_sentence(line) for line in lines]

    def __repr__(self) -> str:
        return "\n".join(self.findings())

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {line}" for line in self.findings())


def require(
    frame: pd.DataFrame,
    rate: float | None = None,
    max_cost: float | None = None,
    max_seconds: float | None = None,
    max_failed: float = 0.0,
    evidence: Evidence = "measured",
    level: float = 0.95,
) -> Requirement:
    """What `Results.require` gives."""
    import pandas as pd

    _check(rate, max_cost, max_seconds, max_failed, evidence)
    lines = []
    for key, rows in groups(frame):
        head = {name: key[name] for name in ("model", "benchmark", "protocol")}
        asked = [("rate", _rate(rows, level), rate)] if rate is not None else []
        asked += [("max_cost", _cost(rows, level), max_cost)] if max_cost is not None else []
        asked += [("max_seconds", _seconds(rows, level), max_seconds)] if max_seconds is not None else []
        if unscored(rows).any() or not asked:
            asked.append(("max_failed", _failures(rows, level), max_failed))
        lines += [{**head, **_line(what, found, limit, evidence)} for what, found, limit in asked]
    if not lines:
        raise DataError("there are no answers, so nothing can be required of them")
    made = Requirement(pd.DataFrame(lines, columns=_COLUMNS), evidence)
    if not made.met:
        missed = [said for said, line in zip(made.findings(), sorted(made.table["met"]), strict=True) if not line]
        raise RequirementFailed("\n".join([*missed, *_examples(frame, made.table)]))
    return made


def _check(
    rate: float | None, max_cost: float | None, max_seconds: float | None, max_failed: float, evidence: str
) -> None:
    if evidence not in get_args(Evidence):
        raise UnknownName.among("kind of evidence", evidence, get_args(Evidence))
    for name, value in (("rate", rate), ("max_failed", max_failed)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is a share in [0, 1]; got {value}")
    for name, value in (("max_cost", max_cost), ("max_seconds", max_seconds)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} is a finite number, 0 or more; got {value}")


def _rate(rows: pd.DataFrame, level: float) -> stats.Estimate:
    scored = rows[~unscored(rows)]
    samples, scores, clusters = (scored[name].to_numpy() for name in ("sample", "score", "cluster"))
    return item_mean(samples, scores, clusters, level, (0.0, 1.0))


def _failures(rows: pd.DataFrame, level: float) -> stats.Estimate:
    return stats.wilson(int(unscored(rows).sum()), len(rows), level)


def _cost(rows: pd.DataFrame, level: float) -> stats.Estimate:
    answered = rows[rows["error"] == ""]
    if answered["cost"].isna().any():
        return stats.Estimate(NAN, NAN, NAN, len(answered), level)
    return stats.mean(answered["cost"], level=level, bounds=(0.0, math.inf), proportion=False)


def _seconds(rows: pd.DataFrame, level: float) -> stats.Estimate:
    return stats.median(rows.loc[rows["error"] == "", "seconds"].dropna(), level)


def _line(what: str, found: stats.Estimate, limit: float, evidence: Evidence) -> dict[str, Any]:
    # for a rate more is better, for a limit less
    sign = 1 if what == "rate" else -1
    measured, low, high = sign * found.value, *sorted((sign * found.low, sign * found.high))
    met = measured >= sign * limit - 1e-12
    shown = low >= sign * limit - 1e-12 if met else high < sign * limit
    verdict = ("shown" if shown else "met, not shown") if met else ("shown missed" if shown else "missed, not shown")
    counts = {"measured": met, "shown": met and shown, "not refuted": met or not shown}[evidence]
    if math.isnan(found.value):
        verdict, counts = "unknown", False
    if what == "max_failed":  # a count of what happened, not a sample of something
        counts = met
    numbers = {"n": found.n, "measured": found.value, "low": found.low, "high": found.high, "limit": limit}
    return {"what": what, **numbers, "verdict": verdict, "met": bool(counts)}


def _in_seconds(value: float) -> str:
    return f"{display.seconds(value)} s"


_SAID: dict[str, tuple[str, Callable[[float], str]]] = {
    "rate": ("passes", display.percent),
    "max_cost": ("costs per answer", display.dollars),
    "max_seconds": ("takes (median)", _in_seconds),
    "max_failed": ("loses answers:", display.percent),
}


def _sentence(line: Mapping[str, Any]) -> str:
    what, write = _SAID[line["what"]]
    bound = "at least" if line["what"] == "rate" else "at most"
    mark = "met" if line["met"] else "NOT MET"
    said = f"{mark}: {line['model']} on {line['benchmark']} {what} {write(line['measured'])}"
    if not math.isnan(line["low"]):
        said += f" [{write(line['low'])}, {write(line['high'])}]"
    said += f", required {bound} {write(line['limit'])} (n = {line['n']:,}; {line['verdict']})"
    if line["what"] == "rate" and line["verdict"] == "met, not shown" and line["limit"] < 1:
        said += f"; {display.count(_needed(line['limit']), 'item')}, all passed, would show it"
    return said


def _needed(rate: float) -> int:
    """Items that, all passed, put the lower Wilson bound at `rate`: n / (n + z^2) >= rate."""
    return math.ceil(rate * 1.959964**2 / (1 - rate))


def _examples(frame: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """A few answers that did not pass, of the lines that did not."""
    bad = table[~table["met"] & table["what"].isin(["rate", "max_failed"])]
    said = []
    for model, benchmark in dict.fromkeys(zip(bad["model"], bad["benchmark"], strict=True)):
        rows = frame[(frame["model"] == model) & (frame["benchmark"] == benchmark)]
        wrong = rows[unscored(rows) | (rows["score"] < 1)]
        for row in records(wrong.head(_SHOWN)):
            found = row["error"] or row["text"] or "(empty)"
            why = f" ({_cut(row['explanation'])})" if row["explanation"] else ""
            said.append(f"  {model} · {row['sample']}: {_cut(found)!r}{why}")
        said += [f"  … and {len(wrong) - _SHOWN:,} more: results.failures()"] if len(wrong) > _SHOWN else []
    return said


def _cut(text: str, width: int = 100) -> str:
    text = " ".join(display.visible(text).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"
