"""An experiment as one self-contained HTML page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.results import display, pages
from llmlab.results.cells import summary_cells
from llmlab.results.frame import records
from llmlab.results.summary import warnings

if TYPE_CHECKING:
    from llmlab.experiments.outcome import Experiment


def write(found: Experiment, path: Path) -> Path:
    """Write the page."""
    table = found.results.summary()
    scores = summary_cells(table)
    return pages.write(
        path,
        "experiment.html.j2",
        experiment=found,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        # refusals are what such experiments are about; the table counts them
        warnings=[*found.notes, *warnings(table.assign(refused=0))],
        cells=found.cells(),
        plane=_plane(found),
        gains=_gains(found),
        means=_means(found),
        scores=scores,
        scores_left=scores[0].index("n"),
        plan=json.dumps(found.plan.record(), indent=2, ensure_ascii=False),
    )


def _plane(found: Experiment) -> Any:
    from markupsafe import Markup

    from llmlab import plots

    if found.axes is None:
        return ""
    table = found.plane()
    said = [f"{line['arm']}: {_said(line, 'y')}, {_said(line, 'x')}" for line in records(table)]
    alt = f"Scatter plot of {found.axes[1]} over {found.axes[0]} with 95 % intervals. {'; '.join(said)}."
    return Markup(plots.svg(plots.plane(table), alt, "plane"))  # noqa: S704  # matplotlib escapes names


def _said(line: dict[str, Any], axis: str) -> str:
    bounds = display.interval(line[f"{axis}_low"], line[f"{axis}_high"])
    return f"{line[f'{axis}_name']} {display.percent(line[axis])} {bounds}"


def _gains(found: Experiment) -> Any:
    from markupsafe import Markup

    from llmlab import plots

    if all(found.plan.metrics[line.metric].unit for line in found.lines):
        return ""
    alt = f"Forest plot of gains over {found.plan.baseline}. {found.verdict}"
    return Markup(plots.svg(found.gains(), alt, "gains"))  # noqa: S704


def _means(found: Experiment) -> tuple[list[str], list[list[str]]]:
    rows = []
    for line in records(found.means):
        unit = found.plan.metrics[line["metric"]].unit
        share = not unit
        value = display.percent(line["value"]) if share else f"{line['value']:.3g} {unit}"
        bounds = display.interval(line["low"], line["high"]) if share else f"[{line['low']:.3g}, {line['high']:.3g}]"
        rows.append([line["arm"], line["metric"], f"{line['n']:,}", value, bounds])
    return ["arm", "metric", "n", "value", "95 % interval"], rows
