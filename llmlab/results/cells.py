"""A summary as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.results import display
from llmlab.results.frame import records
from llmlab.results.summary import COUNTERS

if TYPE_CHECKING:
    import pandas as pd


def summary_cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A summary as people read it; counters that are 0 everywhere are left out."""
    counters = [name for name in COUNTERS if table[name].any()]
    versions = table.groupby("benchmark")["benchmark_version"].nunique().max() > 1
    several = table.groupby("benchmark")["metric"].nunique().max() > 1
    named = ["model", "benchmark"]
    named += ["benchmark_version"] if versions else []
    named += ["protocol"]
    named += ["metric"] if several else []
    headers = ["version" if name == "benchmark_version" else name for name in named]
    headers += ["n", "score", "95 % interval", "chance", *counters, "cost", "per 1000", "seconds"]
    rows = [
        [
            *(line[name] for name in named),
            f"{line['n']:,}",
            display.percent(line["score"]),
            display.interval(line["low"], line["high"]),
            display.percent(line["chance"], 0),
            *(f"{line[name]:,}" for name in counters),
            display.dollars(line["cost"]),
            display.dollars(line["cost_per_1000"]),
            display.seconds(line["seconds"]),
        ]
        for line in records(table)
    ]
    return headers, rows
