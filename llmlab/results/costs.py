"""What answers cost, and the cheapest model that is good enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat

from llmlab import prices, stats
from llmlab.errors import DataError
from llmlab.results import display
from llmlab.results.comparison import compare
from llmlab.results.frame import GROUP, records
from llmlab.results.summary import cost as cost_of
from llmlab.results.summary import groups, items
from llmlab.types import NAN, Usage

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.results.results import Results

CLASSES = ("input", "cached", "output")
_REPRODUCED = 1e-3
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def cost(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """A line per model, benchmark and protocol, in US dollars; NaN is unpriced, a missing token count unknown.

    Columns: answers (that came back), cost, judge_cost, per_1000 with per_1000_low and per_1000_high, per_right
    (dollars over the sum of scores) with per_right_low and per_right_high (infinite when so few are right that they do
    not bound it), the tokens of each class, and what they cost: input_cost, cached_cost, output_cost (NaN where today's
    prices do not give what was charged).
    """
    import pandas as pd

    lines = [{**key, **_line(rows, level)} for key, rows in groups(frame)]
    return pd.DataFrame(lines, columns=[*GROUP, *_line(frame.iloc[:0], level)])


def _line(rows: pd.DataFrame, level: float) -> dict[str, Any]:
    answered = rows[rows["error"] == ""]
    total, _ = cost_of(rows["cost"].to_numpy(), (rows["error"] == "").to_numpy())
    right = float(answered["score"].sum())
    per_call, per_right = _per_call(answered, level), _per_right(answered, level)
    judged = rows["judge_cost"].fillna(0.0).sum() if len(rows) else NAN
    tokens = {name: answered[name].sum(skipna=False, min_count=1) for name in _TOKENS}
    return {
        "answers": len(answered),
        "cost": total,
        "judge_cost": float(judged),
        "per_1000": 1000 * per_call.value,
        "per_1000_low": 1000 * per_call.low,
        "per_1000_high": 1000 * per_call.high,
        "per_right": total / right if right > 0 else NAN,
        "per_right_low": per_right.low,
        "per_right_high": per_right.high,
        **tokens,
        **{f"{name}_cost": dollars for name, dollars in by_class(answered).items()},
    }


def by_class(answered: pd.DataFrame) -> dict[str, float]:
    """US dollars by class of token; NaN unless today's prices give just what was charged."""
    totals = dict.fromkeys(CLASSES, 0.0)
    for row in records(answered[["model", "model_version", "cost", "price", *(f"{n}_tokens" for n in CLASSES)]]):
        known = {n: None if uncounted(row[f"{n}_tokens"]) else int(row[f"{n}_tokens"]) for n in CLASSES}
        usage = Usage(known["input"], known["output"], known["cached"])
        batch = str(row["price"]).endswith(prices.BATCH)
        found = prices.parts(row["model"], usage, version=row["model_version"], batch=batch)
        # a label of the user's, a price that has changed since, time of this machine: then we do not know
        if not found or not math.isclose(math.fsum(found.values()), row["cost"], rel_tol=_REPRODUCED):
            return dict.fromkeys(CLASSES, NAN)
        for name in CLASSES:
            totals[name] += found[name]
    return totals if len(answered) else dict.fromkeys(CLASSES, NAN)


def uncounted(value: Any) -> bool:
    """Whether a number of tokens is not known."""
    return value is None or value != value or str(value) == "<NA>"


def _per_call(answered: pd.DataFrame, level: float) -> stats.Estimate:
    """Mean cost of an answer over items; NaN when one has no price."""
    if answered["cost"].isna().any():
        return stats.Estimate(NAN, NAN, NAN, len(answered), level)
    per_item = answered.groupby("sample", sort=False).agg(cost=("cost", "mean"), cluster=("cluster", "first"))
    return stats.mean(per_item["cost"], per_item["cluster"].tolist(), level, bounds=(0.0, math.inf), proportion=False)


def _per_right(answered: pd.DataFrame, level: float) -> stats.Estimate:
    """Dollars per right answer over items; what was not judged cost money and is not right."""
    if answered["cost"].isna().any():
        return stats.Estimate(NAN, NAN, NAN, len(answered), level)
    per_item = answered.fillna({"score": 0.0}).groupby("sample", sort=False)
    means = per_item.agg(cost=("cost", "mean"), score=("score", "mean"), cluster=("cluster", "first"))
    return stats.ratio(means["cost"], means["score"], means["cluster"].tolist(), level)


def frontier(results: Results, benchmark: str | None = None) -> pd.DataFrame:
    """Score and cost per 1000 answers of each model, on one benchmark and protocol, with intervals.

    Raises:
        DataError: when the results hold several and `benchmark` does not choose.
    """
    chosen = _one_benchmark(results, benchmark)
    scores = chosen.summary()[[*GROUP, "n", "score", "low", "high", "chance"]]
    prices = chosen.cost()[[*GROUP, "per_1000", "per_1000_low", "per_1000_high"]]
    return scores.merge(prices, on=GROUP, validate="one_to_one")


@dataclass(frozen=True)
class Choice:
    """A recommendation with its evidence.

    model is None when no price is known. shown says whether the interval of the difference excludes that the model
    is worse than the best one by more than `within`; if not, the choice rests on the measured difference alone.
    """

    model: str | None
    benchmark: str
    within: float
    shown: bool
    why: str

    def __str__(self) -> str:
        return self.why


def cheapest(results: Results, within: float = 0.02, benchmark: str | None = None) -> Choice:
    """The cheapest model whose measured score is at most `within` below the best one's, paired by item.

    Raises:
        DataError: when the results hold several benchmarks or protocols and `benchmark` does not choose.
    """
    if not (isinstance(within, SupportsFloat) and 0 <= within <= 1):
        raise DataError(f"within is a difference of scores in [0, 1], such as 0.02 for 2 points; got {within!r}")
    chosen = _one_benchmark(results, benchmark)
    table, name = frontier(chosen), chosen.benchmarks[0]
    priced = table.dropna(subset=["score", "per_1000"]).sort_values("per_1000", kind="stable")
    if priced.empty:
        return Choice(None, name, within, False, f"No model has a known price and a score on {name}.")
    best = str(table.sort_values("score", ascending=False, kind="stable")["model"].iloc[0])
    lines = records(compare(chosen.samples, best).table) if len(table) > 1 else []
    gaps = {best: (0.0, 0.0), **{str(line["model"]): (line["difference"], line["low"]) for line in lines}}
    model = next((str(m) for m in priced["model"] if m in gaps and gaps[m][0] >= -within), None)
    if model is None:
        return Choice(
            None, name, within, False, f"No priced model is within {100 * within:g} points of {best} on {name}."
        )
    price = f"{display.dollars(float(priced.loc[priced['model'] == model, 'per_1000'].iloc[0]))} per 1000 answers"
    if model == best:
        why = f"{model} scores highest on {name} and nothing cheaper is within {100 * within:g} points: {price}."
        return Choice(model, name, within, True, why)
    difference, low = gaps[model]
    shown = low >= -within
    n = int(next(line["n"] for line in lines if line["model"] == model))
    measured = f"{display.points(difference)} points, at worst {display.points(low)}, n = {n:,}"
    doubt = "" if shown else "; n is too small to show it"
    why = f"{model} is within {100 * within:g} points of {best} on {name} ({measured}{doubt}) at {price}."
    return Choice(model, name, within, shown, why)


def _one_benchmark(results: Results, benchmark: str | None) -> Results:
    chosen = results if benchmark is None else results.filter(benchmark=benchmark)
    kinds = list(
        dict.fromkeys((k["benchmark"], k["benchmark_version"], k["protocol"]) for k, _ in groups(chosen.samples))
    )
    if not kinds or items(chosen.samples).empty:
        raise DataError("no answer has a score, so there is nothing to weigh against cost")
    if len(kinds) > 1:
        listed = "; ".join(f"{name} by {protocol} (version {version})" for name, version, protocol in kinds)
        raise DataError(
            f"cost is weighed against one benchmark and protocol at a time, and these results hold {listed}; "
            "choose with benchmark=, or with results.filter(protocol=...)"
        )
    return chosen
