"""The title of a plot: what the comparisons show, and not more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.results import display
from llmlab.results.comparison import best
from llmlab.results.summary import items

if TYPE_CHECKING:
    import pandas as pd


def finding(frame: pd.DataFrame) -> str:
    """One sentence about who is ahead, as far as paired comparisons (Holm, 5 %) show it."""
    models = list(dict.fromkeys(frame["model"]))
    if not len(frame) or items(frame).empty:
        return "No answer has a score"
    if len(models) == 1:
        return _alone(frame, models[0])
    verdicts = list(best(frame))
    if len(verdicts) == 1:
        return _on_one(*verdicts[0], total=len(models))
    total = display.count(len(verdicts), "benchmark")
    lead = {name: sum(leaders == [name] for _, leaders in verdicts) for name in models}
    leaders = sorted((name for name in models if lead[name]), key=lambda name: -lead[name])
    if not leaders:
        return f"No model is shown to lead on any of {total}"
    if len(leaders) == 1 and lead[leaders[0]] == len(verdicts):
        return f"{leaders[0]} leads on {'both benchmarks' if len(verdicts) == 2 else f'all {total}'}"
    parts = [f"{name} leads on {lead[name]}" for name in leaders[:3]]
    open_ones = len(verdicts) - sum(lead.values())
    rest = f"; {open_ones} undecided" if open_ones else ""
    return f"{display.series(parts)} of {total}{rest}"


def _on_one(benchmark: str, leaders: list[str], total: int) -> str:
    if len(leaders) == 1:
        return f"{leaders[0]} leads on {benchmark}"
    if len(leaders) == total:
        return f"No model is shown to lead on {benchmark}"
    return f"{display.series(leaders)} lead on {benchmark}; no difference is shown between them"


def _alone(frame: pd.DataFrame, model: str) -> str:
    from llmlab.results.summary import summary

    table = summary(frame).dropna(subset=["chance"])
    above = int((table["low"] > table["chance"]).sum())
    if len(table) == 1 and len(frame["benchmark"].unique()) == 1:
        return f"{model} is {'' if above else 'not shown to be '}above chance on {table['benchmark'].iloc[0]}"
    if len(table) and len(set(frame["benchmark"])) == 1:
        return f"{model} is above chance on {table['benchmark'].iloc[0]} by {above} of {len(table)} protocols"
    if len(table):
        return f"{model} is above chance on {above} of {display.count(len(table), 'benchmark')}"
    return f"{model} on {display.count(frame['benchmark'].nunique(), 'benchmark')}"
