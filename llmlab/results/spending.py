"""What more answers would cost, where the money goes, and what to do about it, in words with their evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

from llmlab import prices, stats
from llmlab.errors import DataError
from llmlab.results import display
from llmlab.results.costs import cheapest, uncounted
from llmlab.results.frame import records
from llmlab.results.summary import groups
from llmlab.types import NAN, Usage

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.results.results import Results

_MUCH = 0.7


def forecast(frame: pd.DataFrame, answers: int, level: float = 0.95) -> pd.DataFrame:
    """What `Results.forecast` gives."""
    import pandas as pd

    if not (isinstance(answers, SupportsIndex) and answers >= 1):
        raise DataError(f"answers must be at least 1, a whole number; got {answers!r}")
    lines = []
    for key, rows in groups(frame):
        good = rows[rows["error"] == ""]
        cost, seconds = (stats.predicted_sum(good[name].tolist(), answers, level) for name in ("cost", "seconds"))
        head: dict[str, Any] = {name: key[name] for name in ("model", "benchmark", "protocol")}
        bounds = {"cost": cost.value, "low": cost.low, "high": cost.high}
        hours = {"hours": seconds.value / 3600, "hours_low": seconds.low / 3600, "hours_high": seconds.high / 3600}
        batch = _batch(good) * cost.value
        lines.append({**head, "n": len(good), "answers": answers, **bounds, "batch": batch, **hours})
    return pd.DataFrame(lines)


def recommend(results: Results, within: float = 0.02) -> list[str]:
    """What `Results.recommend` gives."""
    said = []
    for benchmark in results.benchmarks:
        try:
            said.append(cheapest(results, within, benchmark).why)
        except DataError as error:
            said.append(f"{benchmark}: no recommendation: {error}")
    for line in records(results.cost()):
        said += _savings(line)
    for key, rows in groups(results.samples):
        good = rows[rows["error"] == ""]
        factor, per_1000 = _batch(good), 1000 * good["cost"].mean(skipna=False)
        if factor < 1:
            said.append(
                f"{key['model']} costs {display.dollars(per_1000)} per 1000 answers, with batch=True (within a day) "
                f"{display.dollars(factor * per_1000)}."
            )
    return list(dict.fromkeys(said))


def _savings(line: Mapping[str, Any]) -> list[str]:
    """Where nearly all of the money goes."""
    if math.isnan(line["output_cost"]) or not line["cost"]:
        return []
    share = line["output_cost"] / line["cost"]
    where = f"of what {line['model']} costs on {line['benchmark']}"
    if share > _MUCH:
        tokens = int(line["output_tokens"]) / line["answers"]
        return [
            f"{display.percent(share, 0)} {where} is output ({tokens:.0f} tokens an answer): ask for shorter answers."
        ]
    plain = line["input_cost"] / line["cost"]
    if plain > _MUCH:
        tokens = int(line["input_tokens"]) / line["answers"]
        return [
            f"{display.percent(plain, 0)} {where} is input ({tokens:.0f} tokens a prompt): shorten or cache the prompt."
        ]
    return []


def _batch(answered: pd.DataFrame) -> float:
    """What the batch price is of the one that was paid; NaN where there is none or that is not known."""
    usual = batch = 0.0
    for row in records(answered[["model", "model_version", "price", "input_tokens", "output_tokens"]].head(200)):
        if uncounted(row["input_tokens"]) or uncounted(row["output_tokens"]):
            return NAN
        usage = Usage(int(row["input_tokens"]), int(row["output_tokens"]))
        least = prices.price(row["model"], usage, version=row["model_version"], batch=True).cost
        paid = str(row["price"]).endswith(prices.BATCH)
        usual += least if paid else prices.price(row["model"], usage, version=row["model_version"]).cost
        batch += least
    return batch / usual if usual else NAN
