"""What one round of a watch found, small enough to keep for ever: scores, costs and flags per item, no texts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmlab.types import NAN, digest

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.monitor.items import Items

Floats: TypeAlias = NDArray[np.float64]

FLAGS = ("truncated", "refused", "unparsable", "failed")
_NUMBERS = ("score", "cost", "asked", *FLAGS)
_FACTS = ("model_version", "prompts", "benchmark_version", "options")


@dataclass(frozen=True)
class Series:
    """One model on one benchmark in one round.

    Attributes:
        model, benchmark, protocol, metric: what the numbers are about.
        items: hash of the items that were asked.
        numbers: per item, in the items' order, NaN where unknown: score (mean over repeats), cost (US dollars per
            answer), asked (answers with a score), and how many answers were truncated, refused, unparsable, failed.
        seconds: median and 95th percentile of the seconds per answer.
        tokens: of input and output in all, NaN when unknown.
        facts: what the answers depended on: version that answered, digests of prompts and options, ...
        error: what the provider said when no answer came at all, else "".
    """

    model: str
    benchmark: str
    protocol: str
    metric: str
    items: str
    numbers: Mapping[str, Floats]
    seconds: tuple[float, float] = (NAN, NAN)
    tokens: tuple[float, float] = (NAN, NAN)
    facts: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Model and benchmark."""
        return self.model, self.benchmark

    @property
    def scores(self) -> Floats:
        """(n,) scores of the items, NaN where there is none."""
        return self.numbers["score"]

    def rate(self, flag: str) -> float:
        """Share of the answers with a flag."""
        flagged, scored = self.numbers[flag].sum(), self.numbers["asked"].sum()
        answers = scored + self.numbers["failed"].sum()
        return float(flagged / answers) if answers else NAN

    @property
    def cost(self) -> float:
        """US dollars in all; NaN when a price is unknown."""
        costs, asked = self.numbers["cost"], self.numbers["asked"]
        return float((costs[asked > 0] * asked[asked > 0]).sum()) if (asked > 0).any() else NAN


@dataclass(frozen=True)
class Round:
    """One round of a watch.

    Attributes:
        slot: its key, the time it stands for as `2026-11-23T06:00:00Z`.
        at: the same as a datetime in UTC.
        run, canary_run: ids of the runs in the store, "" when there is none.
        status: "complete", or what ended it early.
        series: what was measured.
        canary: model -> prompt -> its different answers.
        canary_changed: model -> prompts whose answer was new in this round.
        versions: of Python and the packages that answers can depend on.
        identities: model -> what its settings are.
        cost, seconds: of the whole round, now.
        notes: what a person should know about this round.
    """

    slot: str
    at: datetime
    run: str = ""
    canary_run: str = ""
    status: str = "complete"
    series: tuple[Series, ...] = ()
    canary: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    canary_changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    identities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost: float = NAN
    seconds: float = NAN
    notes: tuple[str, ...] = ()

    def find(self, key: tuple[str, str]) -> Series | None:
        """The series of a model and a benchmark, None when it was not measured."""
        return next((s for s in self.series if s.key == key), None)

    def to_document(self) -> dict[str, Any]:
        """As JSON types."""
        plain = {name: getattr(self, name) for name in ("slot", "run", "canary_run", "status", "cost", "seconds")}
        return plain | {
            "series": [_series_to_document(s) for s in self.series],
            "canary": {m: dict(t) for m, t in self.canary.items()},
            "canary_changed": {m: list(k) for m, k in self.canary_changed.items()},
            "versions": dict(self.versions),
            "identities": {m: dict(i) for m, i in self.identities.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_document(cls, body: Mapping[str, Any]) -> Round:
        """What `to_document` wrote."""
        names = ("slot", "run", "canary_run", "status", "canary", "canary_changed", "versions", "identities")
        return cls(
            **{name: body[name] for name in names},
            at=moment(body["slot"]),
            series=tuple(map(_series_from_document, body["series"])),
            cost=_float(body["cost"]),
            seconds=_float(body["seconds"]),
            notes=tuple(body["notes"]),
        )


def series_of(frame: pd.DataFrame, items: Mapping[str, Items]) -> tuple[Series, ...]:
    """The series in the rows of a run; `items` are those of each benchmark."""
    return tuple(
        _series(rows, items[str(benchmark)])
        for (_, benchmark), rows in frame.groupby(["model", "benchmark"], sort=False)
    )


def _series(rows: pd.DataFrame, items: Items) -> Series:
    from llmlab.results.summary import flags

    first = rows.iloc[0]
    place = {sample: i for i, sample in enumerate(items.ids)}
    where = rows["sample"].map(place).to_numpy(dtype=np.intp)
    flagged = flags(rows)
    flagged["failed"] |= flagged["unjudged"]  # either way an item that is watched has no score
    scored = (~flagged["failed"] & rows["score"].notna()).to_numpy()
    costs, seconds = rows["cost"].to_numpy(dtype=np.float64), rows["seconds"].to_numpy(dtype=np.float64)

    def count(which: NDArray[np.bool_]) -> Floats:
        return np.bincount(where[which], minlength=len(place)).astype(np.float64)

    def mean(values: Floats) -> Floats:
        total = np.bincount(where[scored], weights=values[scored], minlength=len(place))
        with np.errstate(invalid="ignore"):
            made: Floats = total / count(scored)
        return made

    numbers = {"score": mean(rows["score"].to_numpy(dtype=np.float64)), "cost": mean(costs), "asked": count(scored)}
    numbers |= {name: count(flagged[name].to_numpy(dtype=bool)) for name in FLAGS}
    known = seconds[scored & ~np.isnan(seconds)]
    median, high = np.quantile(known, [0.5, 0.95]).tolist() if len(known) else (NAN, NAN)
    return Series(
        model=str(first["model"]),
        benchmark=str(first["benchmark"]),
        protocol=str(first["protocol"]),
        metric=str(first["metric"]),
        items=items.hash,
        numbers=numbers,
        seconds=(median, high),
        tokens=(_total(rows["input_tokens"]), _total(rows["output_tokens"])),
        facts=_facts(rows),
        error="" if scored.any() else str(first["error"]),
    )


def _facts(rows: pd.DataFrame) -> dict[str, str]:
    answered = rows[rows["error"] == ""]
    versions = sorted(set(answered["model_version"]) - {""})
    by_item = rows.drop_duplicates("sample").sort_values("sample")
    return {
        "model_version": ", ".join(versions),
        "prompts": digest(list(by_item["sample"]), list(by_item["prompt"])),
        "benchmark_version": str(rows["benchmark_version"].iloc[0]),
        "options": digest(sorted({digest(dict(o)) for o in answered["applied"]})),
    }


def _total(column: pd.Series) -> float:
    known = column.dropna()
    return float(known.sum()) if len(known) else NAN


def _series_to_document(series: Series) -> dict[str, Any]:
    plain = {n: getattr(series, n) for n in ("model", "benchmark", "protocol", "metric", "items", "error")}
    numbers = {name: _packed(values) for name, values in series.numbers.items()}
    return plain | {
        "numbers": numbers,
        "seconds": list(series.seconds),
        "tokens": list(series.tokens),
        "facts": dict(series.facts),
    }


def _series_from_document(body: Mapping[str, Any]) -> Series:
    plain = {n: body[n] for n in ("model", "benchmark", "protocol", "metric", "items", "error", "facts")}
    return Series(
        **plain,
        numbers={name: _unpacked(values) for name, values in body["numbers"].items()},
        seconds=(_float(body["seconds"][0]), _float(body["seconds"][1])),
        tokens=(_float(body["tokens"][0]), _float(body["tokens"][1])),
    )


def _packed(values: Floats) -> Any:
    """One pair where all are the same; a list of whole numbers, None for the unknown; else seven digits in base64.

    As JSON numbers, a year of nights would take seconds to read.
    """
    listed = [None if np.isnan(v) else int(v) if v == int(v) else float(v) for v in values]
    if len(set(listed)) == 1:
        return {"all": listed[0], "n": len(listed)}
    if not any(isinstance(v, float) for v in listed):
        return listed
    return {"float32": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def _unpacked(values: Any) -> Floats:
    if isinstance(values, Mapping) and "float32" in values:
        return np.frombuffer(base64.b64decode(values["float32"]), "<f4").astype(np.float64)
    if isinstance(values, Mapping):
        return np.full(values["n"], NAN if values["all"] is None else values["all"], dtype=np.float64)
    return np.array(values, dtype=np.float64)  # None is NaN to numpy


def _float(value: float | None) -> float:
    return NAN if value is None else float(value)


def slot_of(at: datetime) -> str:
    """A time as the key of a round, in UTC and whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(slot: str) -> datetime:
    """The time that a key stands for."""
    return datetime.fromisoformat(slot)
