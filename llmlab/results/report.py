"""One HTML file that says what was found, how sure it is, and where it comes from."""

from __future__ import annotations

import contextlib
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError
from llmlab.results import display, pages
from llmlab.results.cells import summary_cells
from llmlab.results.frame import GROUP, records
from llmlab.results.summary import COUNTERS, WARN_ABOVE, warnings

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.results.comparison import Comparison
    from llmlab.results.results import Results

_FAILURES = 25
_ITEMS_PER_BENCHMARK = 3


def write(results: Results, path: Path, baseline: str | None = None) -> Path:
    """Write the report; `baseline` is the model that the others are compared with (the first, if None)."""
    table = results.summary()
    cells = summary_cells(table)
    return pages.write(
        path,
        "report.html.j2",
        results=results,
        finding=results.finding(),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=warnings(table),
        scores=cells,
        scores_left=cells[0].index("n"),
        scores_plot=_scores_plot(results, table),
        comparison=_comparison(results, baseline),
        counters=_counters(table),
        metrics=_metrics(results),
        costs=_costs(results),
        failures=_failures(results),
        items=_items(results),
        provenance=_provenance(results),
    )


def _scores_plot(results: Results, table: pd.DataFrame) -> Any:
    from markupsafe import Markup

    from llmlab import plots

    if not len(table):
        return ""
    said = [
        f"{line['model']} on {line['benchmark']} {display.percent(line['score'])} "
        f"{display.interval(line['low'], line['high'])}"
        for line in records(table)
    ]
    alt = f"Dot plot of scores with 95 % intervals. {'; '.join(said)}."
    # made by matplotlib, which escapes the names in it
    return Markup(plots.svg(plots.scores(table, title=""), alt, "scores"))  # noqa: S704


def _comparison(results: Results, baseline: str | None) -> dict[str, Any] | None:
    from markupsafe import Markup

    from llmlab import plots

    if len(results.models) < 2:
        return None
    try:
        found: Comparison = results.compare(baseline or results.models[0])
    except DataError as error:
        return {"baseline": baseline or results.models[0], "note": str(error)}
    alt = f"Forest plot of differences. {' '.join(found.findings())}"
    plot = Markup(plots.svg(found.plot(), alt, "differences"))  # noqa: S704
    headers, rows = found.cells()
    return {
        "baseline": found.baseline,
        "note": "",
        "findings": found.findings(),
        "plot": plot,
        "headers": headers,
        "rows": rows,
        "notes": found.notes,
    }


def _counters(table: pd.DataFrame) -> list[dict[str, Any]]:
    lines = records(table)
    for line in lines:
        line["cells"] = [
            {
                "count": line[name],
                "share": line[name] / line["answers"],
                "high": line[name] / line["answers"] > WARN_ABOVE,
            }
            for name in COUNTERS
        ]
    return lines


def _metrics(results: Results) -> tuple[list[str], list[list[str]]]:
    named = ["model", "benchmark", "protocol", "metric"]
    rows = [
        [*(line[name] for name in named), f"{line['n']:,}", *(_number(line[name]) for name in ("value", "low", "high"))]
        for line in records(results.metrics())
    ]
    return [*named, "n", "value", "low", "high"], rows


def _costs(results: Results) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            line["model"],
            line["benchmark"],
            f"{line['answers']:,}",
            display.dollars(line["cost"]),
            display.dollars(line["per_1000"]),
            display.dollars(line["per_right"]),
            display.dollars(line["judge_cost"]),
            _tokens(line["input_tokens"]),
            _tokens(line["output_tokens"]),
        ]
        for line in records(results.cost())
    ]
    headers = ["model", "benchmark", "answers", "cost", "per 1000 answers", "per right answer", "judging"]
    return [*headers, "tokens in", "tokens out"], rows


def _failures(results: Results) -> dict[str, Any]:
    found = results.failures()
    wanted = found[found["why"] != "wrong"]
    rows = [{**row, "said": row["error"] or row["text"]} for row in records(wanted.head(_FAILURES))]
    return {"total": len(wanted), "wrong": len(found) - len(wanted), "rows": rows}


def _items(results: Results) -> list[dict[str, Any]]:
    """A few items of every benchmark, those first on which the models disagree."""
    frame = results.samples
    chosen: list[dict[str, Any]] = []
    for benchmark in results.benchmarks:
        rows = frame[frame["benchmark"] == benchmark]
        by_item = rows.groupby("sample", sort=False)["score"]
        disagreement = (by_item.max() - by_item.min()).fillna(0.0).sort_values(ascending=False, kind="stable")
        shown = disagreement.index[:_ITEMS_PER_BENCHMARK]
        chosen += [pages.item(rows[rows["sample"] == sample]) for sample in shown]
    return chosen


def _provenance(results: Results) -> dict[str, Any]:
    frame = results.samples
    runs = [name for name in dict.fromkeys(frame["run"]) if name]
    seeds = [str(seed) for seed in dict.fromkeys(frame["seed"].dropna())]
    facts = [
        ("this page made with", _versions()),
        ("runs", ", ".join(runs)),
        ("seed", ", ".join(seeds)),
        ("answers taken from the store", f"{int(frame['cached'].sum()):,} of {len(frame):,}"),
    ]
    return {"facts": [(name, value) for name, value in facts if value], "cells": _settings(frame)}


def _versions() -> str:
    """Python, the system, and the packages here that answers can depend on."""
    import llmlab

    found = [f"llmlab {llmlab.__version__}", f"Python {platform.python_version()}", platform.system()]
    for package in ("torch", "transformers", "openai", "anthropic", "google-genai", "genai-prices"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def _settings(frame: pd.DataFrame) -> list[tuple[str, list[tuple[str, str]]]]:
    """Per model and benchmark, what else the number depends on; several values are listed."""
    found = []
    for key, rows in frame.groupby(GROUP, sort=False):
        named = dict(zip(GROUP, map(str, key), strict=True))
        facts = {
            "benchmark version": {named["benchmark_version"]: None},
            "protocol": {named["protocol"]: None},
            "metric": {named["metric"]: None},
            "model version": dict.fromkeys(rows["model_version"]),
            "price": dict.fromkeys(rows["price"]),
            "options not accepted": dict.fromkeys(", ".join(map(str, names)) for names in rows["dropped"]),
        }
        for settings in (*rows["applied"], *rows["provenance"]):
            for name, value in settings.items():
                facts.setdefault(str(name), {})[pages.as_json(value)] = None
        listed = [(name, "; ".join(v for v in values if v)) for name, values in facts.items()]
        found.append((f"{named['model']} on {named['benchmark']}", [(n, v) for n, v in listed if v]))
    return found


def _number(value: float) -> str:
    return display.UNKNOWN if value != value else f"{value:.3f}"


def _tokens(value: Any) -> str:
    return "unknown" if value != value or value is None or str(value) == "<NA>" else f"{int(value):,}"
