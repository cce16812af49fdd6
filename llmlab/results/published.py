"""Does a set-up reproduce published numbers? Compare results with `configs/published.yaml`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llmlab.settings import config

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["model", "benchmark", "metric", "n", "score", "low", "high", "published", "verdict", "source"]


def published(samples: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Scores beside those that others published for the same model, benchmark, protocol and metric.

    Columns: model, benchmark, metric, n, score, low, high (interval of our score that also holds the published one's
    own error where its source gives it), published, verdict ("within its interval", "lower", "higher"), source.
    Empty when nothing is published; only log-likelihood scores are compared.

    Args:
        samples: `results.samples`.
        level: coverage of the interval.
    """
    import pandas as pd

    rows = []
    for entry in config("published.yaml")["scores"]:
        mine = samples[
            (samples["model"] == entry["model"])
            & (samples["benchmark"] == entry["benchmark"])
            & (samples["protocol"] == "loglikelihood")
            & samples["score"].notna()
        ]
        if len(mine):
            rows.append(_compared(entry, mine, level))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _compared(entry: dict[str, Any], mine: pd.DataFrame, level: float) -> dict[str, Any]:
    from statistics import NormalDist

    from llmlab.stats import mean

    values = [m.get(entry["metric"], s) for m, s in zip(mine["metrics"], mine["score"], strict=True)]
    ours = mean(values, level=level)
    # the published number has an error of its own; the two together decide
    theirs = NormalDist().inv_cdf((1 + level) / 2) * entry.get("se", 0.0)
    low = ours.value - math.hypot(ours.value - ours.low, theirs)
    high = ours.value + math.hypot(ours.high - ours.value, theirs)
    verdict = "within its interval" if low <= entry["value"] <= high else "lower" if high < entry["value"] else "higher"
    kept = {k: entry[k] for k in ("model", "benchmark", "metric", "source")}
    return kept | {
        "n": ours.n,
        "score": ours.value,
        "low": low,
        "high": high,
        "published": entry["value"],
        "verdict": verdict,
    }
