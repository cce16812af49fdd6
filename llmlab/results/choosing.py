"""Which model to take, what all of them together could reach, and whether they fail on the same items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab import stats
from llmlab.errors import DataError
from llmlab.results import display
from llmlab.results.comparison import compare
from llmlab.results.frame import records
from llmlab.results.summary import items, summary
from llmlab.types import NAN

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.results.results import Results


@dataclass(frozen=True)
class Selection:
    """The recommended model with its evidence.

    Attributes:
        model: its name; None when no model fulfils the conditions.
        best: the highest-scoring of those that do.
        why: the evidence in words.
        table: a line per model, cheapest first: score with low and high, failed (share of answers lost), cost (US
            dollars per answer), seconds (median), difference from the best with its interval and Holm-adjusted p,
            and verdict.
    """

    model: str | None
    best: str | None
    why: str
    table: pd.DataFrame

    def __repr__(self) -> str:
        return self.why

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(self.why)}</p>{self.table.to_html(float_format='{:.4g}'.format, na_rep='–')}"


def choose(
    results: Results | pd.DataFrame,
    min_quality: float | None = None,
    max_cost: float | None = None,
    max_seconds: float | None = None,
    level: float = 0.95,
) -> Selection:
    """The cheapest model that is not shown to be worse than the best.

    Args:
        results: of one benchmark, asked by one protocol; or their `samples`.
        min_quality: lowest mean score, in [0, 1].
        max_cost: most US dollars per answer. A model without a known price does not fulfil it.
        max_seconds: highest median of the seconds per answer.
        level: 1 - level is the error rate of the comparisons with the best, all together (Holm).

    Best is the highest score among the models that fulfil the conditions. Among those not shown to be worse than it
    by a paired test, the one with the lowest cost is chosen; of equal ones the faster. Unpriced models come last.
    "Not shown" is not "shown not": the evidence says what difference could have been seen.

    Raises:
        DataError: for several benchmarks or ways of asking, whose scores cannot be compared, or when nothing has a
            score.
    """
    import pandas as pd

    frame = _one(results)
    table = summary(frame, level).set_index("model")
    table["failed"] = table["failed"] / table["answers"]
    table["cost"] = table["cost_per_1000"] / 1000
    lines = {str(name): line for name, line in table[table["n"] > 0].iterrows()}
    verdicts = {name: _unfit(line, min_quality, max_cost, max_seconds) for name, line in lines.items()}
    fit = [name for name, verdict in verdicts.items() if not verdict]
    best = max(fit, key=lambda name: lines[name]["score"], default=None)
    compared: dict[str, dict[str, Any]] = {}
    if best is not None and len(fit) > 1:
        comparison = compare(frame[frame["model"].isin(fit)], best, level=level)
        compared = {line["model"]: line for line in records(comparison.table)}
    for name in fit:
        verdicts[name] = "best" if name == best else _against(compared.get(name))
    order = sorted(lines, key=lambda name: _price(lines[name]))
    good = [name for name in order if name == best or verdicts[name] == "not shown worse"]
    shown = pd.DataFrame([_row(name, lines[name], compared.get(name, {}), verdicts[name]) for name in order])
    model = good[0] if good else None
    why = _why(model, best, lines, compared, verdicts)
    return Selection(model, best, why, shown.set_index("model"))


def _unfit(line: Any, min_quality: float | None, max_cost: float | None, max_seconds: float | None) -> str:
    """Which condition a model does not fulfil, "" when it fulfils all."""
    if min_quality is not None and line["score"] < min_quality:
        return f"score below {display.percent(min_quality)}"
    if max_cost is not None and not line["cost"] <= max_cost:
        return "unpriced" if math.isnan(line["cost"]) else f"costs more than {display.dollars(max_cost)} per answer"
    if max_seconds is not None and not line["seconds"] <= max_seconds:
        return "time unknown" if math.isnan(line["seconds"]) else f"takes more than {display.seconds(max_seconds)} s"
    return ""


def _against(line: dict[str, Any] | None) -> str:
    if line is None:
        return "not comparable with the best"
    if math.isnan(line["p_holm"]):
        return "too few items to tell"
    return "worse" if line["verdict"] == "worse" else "not shown worse"


def _price(line: Any) -> tuple[float, float, float]:
    """Sort key: cost, then seconds, then score; the unknown last."""
    return (*(math.inf if math.isnan(line[name]) else line[name] for name in ("cost", "seconds")), -line["score"])


def _row(name: str, line: Any, compared: dict[str, Any], verdict: str) -> dict[str, Any]:
    own = {key: line[key] for key in ("n", "score", "low", "high", "failed", "cost", "seconds")}
    found = {"difference": "difference", "diff_low": "low", "diff_high": "high", "p": "p_holm"}
    return {"model": name, **own, **{k: compared.get(v, NAN) for k, v in found.items()}, "verdict": verdict}


def _why(
    model: str | None,
    best: str | None,
    lines: dict[str, Any],
    compared: dict[str, dict[str, Any]],
    verdicts: dict[str, str],
) -> str:
    if model is None or best is None:
        return f"No model fulfils the conditions: {'; '.join(f'{n}: {v}' for n, v in verdicts.items())}."
    line = lines[model]
    cost = "unpriced" if math.isnan(line["cost"]) else f"{display.dollars(line['cost'])} per answer"
    said = f"{model}: {display.percent(line['score'])} {display.interval(line['low'], line['high'])}, {cost}"
    if model == best:
        said += ". It scores best"
        worse = [n for n, v in verdicts.items() if v == "worse"]
        said += f"; shown worse: {display.series(worse)}" if worse else ""
    else:
        pair = compared[model]
        gap = f"{display.points(pair['difference'])} points {display.interval(pair['low'], pair['high'])}"
        said += f". It is not shown worse than the best, {best} ({display.percent(lines[best]['score'])}): {gap}"
        if pair["detectable"] < 1:
            said += f"; a true difference under {100 * pair['detectable']:.1f} points could not have been seen"
    if line["failed"] > 0:
        said += f". {display.percent(line['failed'])} of its answers failed and are not in its score"
    unfit = [f"{n}: {v}" for n, v in verdicts.items() if v not in ("best", "worse", "not shown worse")]
    return f"{said}. Left out: {'; '.join(unfit)}." if unfit else f"{said}."


class Ceiling(NamedTuple):
    """What always taking the best answer would reach. gain is its paired difference from the best single model."""

    score: stats.Estimate
    best: str
    gain: stats.Difference


def oracle(results: Results | pd.DataFrame, level: float = 0.95) -> Ceiling:
    """Score of a perfect choice among the models' answers, item by item: the ceiling of routing and ensembles.

    Counts the items that every model has a score for; repeats are averaged before. With many models or chance-level
    ones the ceiling is flattered by luck: guesses on four options by ten models are right somewhere 94 % of the time.

    Raises:
        DataError: as for `choose`, or when no item has a score from all.
    """
    scores, clusters = _by_model(_one(results))
    top = scores.max(axis=1)
    best = str(scores.mean().idxmax())
    return Ceiling(
        stats.mean(top, clusters, level, bounds=(0.0, 1.0)), best, stats.paired(top, scores[best], clusters, level)
    )


def error_correlation(results: Results | pd.DataFrame) -> pd.DataFrame:
    """Correlation of the models' errors (1 - score) over items, a symmetric table of models.

    Near 1: they fail on the same items, and a vote of them gains little; near 0: their errors are independent. NaN
    for a model that is always right or always wrong. Counts the items that every model has a score for.

    Raises:
        DataError: as for `oracle`.
    """
    scores, _ = _by_model(_one(results))
    errors = 1 - scores
    return errors.corr().rename_axis(index=None, columns=None)


def _by_model(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Scores (items, models) of the items that all have a score for, and the clusters of these items."""
    per_item = items(frame)
    scores = per_item.pivot_table(index="sample", columns="model", values="score", sort=False).dropna()
    models = list(dict.fromkeys(frame["model"]))
    if scores.empty or len(scores.columns) < len(models):
        raise DataError(f"there is no item that all of {', '.join(models)} have a score for")
    clusters = per_item.drop_duplicates("sample").set_index("sample").loc[scores.index, "cluster"]
    return scores[models], clusters.tolist()


def _one(results: Results | pd.DataFrame) -> pd.DataFrame:
    """The rows, which must be of one benchmark and one way of asking."""
    import pandas as pd

    frame = results if isinstance(results, pd.DataFrame) else results.samples
    for column in ("benchmark", "benchmark_version", "protocol", "metric"):
        values = list(dict.fromkeys(map(str, frame[column])))
        if len(values) > 1:
            raise DataError(
                f"scores of different kinds cannot be ranked together; {column}: {', '.join(values)}. "
                f"Choose one: results.filter({column}={values[0]!r})"
            )
    if not len(items(frame)):
        raise DataError("no answer has a score, so there is nothing to choose by")
    return frame
