"""One line per model, benchmark and protocol: the score with its interval, its cost, and what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlab import stats
from llmlab.results.frame import GROUP, records
from llmlab.types import NAN

if TYPE_CHECKING:
    import pandas as pd

COUNTERS = ("truncated", "empty", "refused", "unparsable", "failed")
WARN_ABOVE = 0.02
"""Share of answers from which a counter is worth a warning."""


def failed(frame: pd.DataFrame) -> pd.Series[bool]:
    """Rows without a score: the call, the scorer or the judge failed. They are counted, never scored."""
    return (frame["error"] != "") | frame["score"].isna()


def flags(frame: pd.DataFrame) -> pd.DataFrame:
    """The five counters, row by row; a failed call counts as failed only."""
    import pandas as pd

    lost = failed(frame)
    found: dict[str, pd.Series[bool]] = {name: frame[name] & ~lost for name in ("truncated", "empty", "refused")}
    found |= {"unparsable": ~frame["parsed"] & ~lost, "failed": lost}
    return pd.DataFrame(found)


def items(frame: pd.DataFrame, score: str = "score") -> pd.DataFrame:
    """One scored row per item: repeats are averaged first, failed ones left out."""
    scored = frame[~failed(frame) & frame[score].notna()]
    by_item = scored.groupby([*GROUP, "sample"], sort=False)
    return by_item.agg(score=(score, "mean"), cluster=("cluster", "first")).reset_index()


def groups(frame: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The rows behind each score, benchmark by benchmark, in the order of the rows."""
    found = [(dict(zip(GROUP, map(str, key), strict=True)), rows) for key, rows in frame.groupby(GROUP, sort=False)]
    place = {name: i for i, name in enumerate(dict.fromkeys(frame["benchmark"]))}
    models = {name: i for i, name in enumerate(dict.fromkeys(frame["model"]))}
    kinds = {
        kind: i for i, kind in enumerate(dict.fromkeys(zip(frame["benchmark_version"], frame["protocol"], strict=True)))
    }
    return sorted(
        found,
        key=lambda g: (
            place[g[0]["benchmark"]],
            kinds[g[0]["benchmark_version"], g[0]["protocol"]],
            models[g[0]["model"]],
        ),
    )


def summary(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """The table that `Results.summary` gives; its docstring names the columns."""
    import pandas as pd

    lines = [{**key, **_line(rows, level)} for key, rows in groups(frame)]
    return pd.DataFrame(lines, columns=[*GROUP, *_line(frame.iloc[:0], level)])


def _line(rows: pd.DataFrame, level: float) -> dict[str, Any]:
    per_item = items(rows)
    estimate = stats.mean(per_item["score"], per_item["cluster"].tolist(), level, bounds=(0.0, 1.0))
    low, high = lost_bounds(rows)
    total, per_call = cost(rows)
    answered = rows[rows["error"] == ""]
    return {
        "n": estimate.n,
        "score": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "chance": float(rows["chance"].iloc[0]) if len(rows) else NAN,
        "low_if_all_wrong": low,
        "high_if_all_right": high,
        "answers": len(rows),
        **{str(name): int(column.sum()) for name, column in flags(rows).items()},
        "cost": total,
        "cost_per_1000": 1000 * per_call,
        "seconds": float(answered["seconds"].median()),
    }


def lost_bounds(rows: pd.DataFrame) -> tuple[float, float]:
    """Score had every lost answer been wrong, and had every one been right.

    Lost on the low side are failed rows. On the high side also answers that were cut off, empty or could not be
    read: a run that lost answers to the token limit must not look like a worse model. A refusal is an answer.
    """
    lost, flag = failed(rows), flags(rows)
    doubtful = lost | flag["truncated"] | flag["empty"] | flag["unparsable"]
    wrong = rows["score"].mask(lost, 0.0)
    right = rows["score"].mask(doubtful, 1.0)
    by_item = [scores.groupby(rows["sample"]).mean().mean() for scores in (wrong, right)]
    return float(by_item[0]), float(by_item[1])


def cost(rows: pd.DataFrame) -> tuple[float, float]:
    """US dollars in total and per answered row; NaN when any answer has no known price.

    Failed calls add what they are known to have cost.
    """
    answered = rows["error"] == ""
    paid = rows["cost"]
    total = float(paid[answered].sum(skipna=False)) + float(paid[~answered].sum())
    return (total if len(rows) else NAN), float(paid[answered].mean(skipna=False)) if answered.any() else NAN


def metrics(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Every further number of the scorers (acc_norm, mc2, ...), with its own interval."""
    import pandas as pd

    lines = []
    for key, rows in groups(frame):
        for name in dict.fromkeys(name for found in rows["metrics"] for name in found):
            values = rows.assign(_metric=[found.get(name, NAN) for found in rows["metrics"]])
            per_item = items(values, "_metric")
            # no bounds: a metric may be in [0, 100]
            estimate = stats.mean(per_item["score"], per_item["cluster"].tolist(), level)
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
            lost = "" if high == ["refused"] else _consequence(line)
            found.append(f"{line['model']} on {line['benchmark']}, of {line['answers']} answers: {counts}{lost}")
    return found


_MEANING = {
    "truncated": "cut off at the token limit",
    "empty": "empty",
    "refused": "refused (which is scored as an answer)",
    "unparsable": "unreadable",
    "failed": "failed (which is not scored)",
}


def _consequence(line: dict[str, Any]) -> str:
    low, high = 100 * line["low_if_all_wrong"], 100 * line["high_if_all_right"]
    return f". Had all lost answers been wrong, the score would be {low:.1f} %; all right, {high:.1f} %"
