"""One line per model, benchmark and protocol: the score with its interval, its cost, and what went wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmlab import stats
from llmlab.results.frame import GROUP, records
from llmlab.types import NAN, was_shortened

if TYPE_CHECKING:
    import pandas as pd

COUNTERS = ("truncated", "empty", "refused", "unparsable", "shortened", "unjudged", "failed")
NEEDED = (
    *("model", "benchmark", "benchmark_version", "protocol", "metric", "sample", "repeat", "cluster"),
    *("score", "chance", "cost", "seconds", "error", "parsed", "refused", "truncated", "empty", "notes"),
)
"""Columns of the rows that a summary, the counters and a comparison read; the rest is for people to read."""
WARN_ABOVE = 0.02
"""Share of answers from which a counter is worth a warning."""


def unscored(frame: pd.DataFrame) -> pd.Series[bool]:
    """Rows without a score: something failed, a judge wrote nonsense, or nothing judges. Counted, never scored."""
    return (frame["error"] != "") | frame["score"].isna()


def flags(frame: pd.DataFrame) -> pd.DataFrame:
    """The counters, row by row; a failed call counts as failed only, a verdict that says nothing as unparsable.

    An answer that nothing judges (no target, no scorer, an unknown price) is unjudged: it is whole, and has no score.
    """
    import pandas as pd

    answered, lost = frame["error"] == "", unscored(frame)
    unparsable = ~frame["parsed"] & answered
    unjudged = lost & answered & ~unparsable
    whole = ~lost | unjudged
    found: dict[str, pd.Series[bool]] = {name: frame[name] & whole for name in ("truncated", "empty", "refused")}
    found |= {"unparsable": unparsable, "shortened": frame["notes"].map(was_shortened).astype(bool) & whole}
    found |= {"unjudged": unjudged, "failed": ~answered}
    return pd.DataFrame(found)


def items(frame: pd.DataFrame) -> pd.DataFrame:
    """One scored row per item: repeats are averaged first, those without a score left out."""
    by_item = frame[~unscored(frame)].groupby([*GROUP, "sample"], sort=False)
    return by_item.agg(score=("score", "mean"), cluster=("cluster", "first")).reset_index()


def places(frame: pd.DataFrame) -> list[tuple[dict[str, str], Any]]:
    """Where the rows behind each score are, benchmark by benchmark, in the order of the rows."""
    indices: Any = frame.groupby(GROUP, sort=False).indices  # tuple of the key -> positions of its rows
    found = [(dict(zip(GROUP, key, strict=True)), rows) for key, rows in indices.items()]
    ranks = [
        {value: i for i, value in enumerate(frame[names].drop_duplicates().itertuples(index=False, name=None))}
        for names in (["benchmark"], ["benchmark_version", "protocol", "metric"], ["model"])
    ]

    def rank(group: tuple[dict[str, str], Any]) -> tuple[int, int, int]:
        key = group[0]
        kind = key["benchmark_version"], key["protocol"], key["metric"]
        return ranks[0][key["benchmark"],], ranks[1][kind], ranks[2][key["model"],]

    return sorted(found, key=rank)


def groups(frame: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The rows behind each score, in the same order."""
    return [(key, frame.iloc[rows]) for key, rows in places(frame)]


def summary(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """The table that `Results.summary` gives; its docstring names the columns."""
    import pandas as pd

    # plain arrays: many small groups would spend their time inside pandas
    needed = frame[["sample", "cluster", "score", "chance", "cost", "seconds", "error"]].join(flags(frame))
    columns = {str(name): needed[name].to_numpy() for name in needed.columns}
    lines = [
        {**key, **_line({name: values[rows] for name, values in columns.items()}, level)} for key, rows in places(frame)
    ]
    nothing = _line({name: values[:0] for name, values in columns.items()}, level)
    return pd.DataFrame(lines, columns=[*GROUP, *nothing])


def _line(rows: dict[str, NDArray[Any]], level: float) -> dict[str, Any]:
    scored = _scored(rows)
    estimate = item_mean(rows["sample"][scored], rows["score"][scored], rows["cluster"][scored], level, (0.0, 1.0))
    low, high = _lost_bounds(rows)
    answered = rows["error"] == ""
    total, per_call = cost(rows["cost"], answered)
    seconds = rows["seconds"][answered & ~np.isnan(rows["seconds"])]
    return {
        "n": estimate.n,
        "score": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "chance": float(rows["chance"][0]) if len(scored) else NAN,
        "low_if_all_wrong": low,
        "high_if_all_right": high,
        "answers": len(scored),
        **{name: int(rows[name].sum()) for name in COUNTERS},
        "cost": total,
        "cost_per_1000": 1000 * per_call,
        "seconds": float(np.median(seconds)) if len(seconds) else NAN,
    }


def _scored(rows: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = ~np.isnan(rows["score"]) & (rows["error"] == "")
    return known


def item_mean(
    samples: NDArray[Any],
    values: NDArray[np.float64],
    clusters: NDArray[Any],
    level: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> stats.Estimate:
    """Mean over items of what was measured once or more often for each: repeats are averaged first."""
    means, first = _per_item(samples, values)
    return stats.mean(means, clusters[first].tolist(), level, bounds)


def _per_item(samples: NDArray[Any], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The mean value of each item, and the place of its first row."""
    import pandas as pd

    codes, names = pd.factorize(samples)
    first = np.zeros(len(names), dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return np.bincount(codes, weights=values, minlength=len(names)) / np.bincount(codes, minlength=len(names)), first


def _lost_bounds(rows: dict[str, NDArray[Any]]) -> tuple[float, float]:
    """Score had every lost answer been wrong, and had every one been right.

    Lost on the low side are rows without a score. On the high side also answers that were cut off, empty or could not
    be read: a run that lost answers to the token limit must not look like a worse model. A refusal is an answer.
    """
    if not len(rows["score"]):
        return NAN, NAN
    lost = ~_scored(rows)
    doubtful = lost | rows["truncated"] | rows["empty"] | rows["unparsable"]
    wrong = np.where(lost, 0.0, rows["score"])
    right = np.where(doubtful, 1.0, rows["score"])
    return tuple(float(_per_item(rows["sample"], scores)[0].mean()) for scores in (wrong, right))  # type: ignore[return-value]  # two of them


def cost(paid: NDArray[np.float64], answered: NDArray[np.bool_]) -> tuple[float, float]:
    """US dollars in total and per answered row; NaN when any answer has no known price.

    Failed calls add what they are known to have cost.
    """
    if not len(paid):
        return NAN, NAN
    total = float(paid[answered].sum() + np.nansum(paid[~answered]))
    return total, float(paid[answered].mean()) if answered.any() else NAN


def metrics(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Every further number of the scorers (acc_norm, mc2, ...), with its own interval."""
    import pandas as pd

    lines = []
    for key, rows in groups(frame):
        samples, clusters, lost = (c.to_numpy() for c in (rows["sample"], rows["cluster"], unscored(rows)))
        for name in dict.fromkeys(name for found in rows["metrics"] for name in found):
            values = np.array([found.get(name, NAN) for found in rows["metrics"]], dtype=np.float64)
            known = ~np.isnan(values) & ~lost
            # no bounds: a metric may be in [0, 100]
            estimate = item_mean(samples[known], values[known], clusters[known], level)
            numbers = {"n": estimate.n, "value": estimate.value, "low": estimate.low, "high": estimate.high}
            lines.append({**key, "metric": name, **numbers})
    return pd.DataFrame(lines, columns=[*GROUP, "n", "value", "low", "high"])


def warnings(table: pd.DataFrame) -> list[str]:
    """A sentence for each line of a summary with a counter above 2 %, and what that may have done to the score."""
    found = []
    for line in records(table):
        high = [name for name in COUNTERS if line[name] > WARN_ABOVE * line["answers"]]
        if high:
            counts = ", ".join(f"{line[name]} {_MEANING[name]}" for name in high)
            lost = "" if {"refused", "unjudged"}.issuperset(high) else _consequence(line)
            found.append(f"{line['model']} on {line['benchmark']}, of {line['answers']} answers: {counts}{lost}")
    return found


_MEANING = {
    "truncated": "cut off at the token limit",
    "empty": "empty",
    "refused": "refused (which is scored as an answer)",
    "unparsable": "unreadable",
    "shortened": "to prompts that lost their beginning, being too long",
    "unjudged": "not judged (they have no scorer, or lack what it needs)",
    "failed": "failed (which is not scored)",
}


def _consequence(line: dict[str, Any]) -> str:
    low, high = 100 * line["low_if_all_wrong"], 100 * line["high_if_all_right"]
    return f". Had all lost answers been wrong, the score would be {low:.1f} %; all right, {high:.1f} %"
