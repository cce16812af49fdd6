"""`llmlab import` and `llmlab export`: results of other tools come in, ours go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

export = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Give results to Prometheus, MLflow, or as CSV or Parquet."
)

StoreUrl = Annotated[str | None, typer.Option("--store", help="SQLAlchemy URL of the results database.")]
Watches = Annotated[list[str] | None, typer.Option("--watch", help="Only this watch; may be repeated.")]


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="lm-eval samples_*.jsonl or results_*.json; Inspect .eval, .json.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Its name, where the file does not say it.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Which of the file's metrics is the score.")] = None,
    project: Annotated[str, typer.Option(help="Of the runs in the store.")] = "",
    watch: Annotated[str | None, typer.Option(help="Make each a round of this watch, oldest file first.")] = None,
    store: StoreUrl = None,
) -> None:
    """Store results of lm-eval and Inspect as runs, dated as they were made; with --watch they join its history."""
    from llmlab.evaluation.evaluate import opened
    from llmlab.monitor.watch import monitor
    from llmlab.results.imports import import_results

    with opened(store) as source:
        for file in files:
            for run in import_results(file, source, model=model, metric=metric, project=project):
                typer.echo(f"{file}: run {run} (`llmlab show {run}`)")
                if watch is not None:
                    typer.echo(repr(monitor(name=watch, store=source, project=project or None).adopt(run)))


@export.command()
def prometheus(
    file: Annotated[Path | None, typer.Argument(help="File to write for the textfile collector, *.prom.")] = None,
    port: Annotated[int, typer.Option(help="Without a file: serve /metrics here until Ctrl-C.")] = 9464,
    address: Annotated[str, typer.Option(help="To listen on; 127.0.0.1 is this machine only.")] = "127.0.0.1",
    watch: Watches = None,
    store: StoreUrl = None,
) -> None:
    """Metrics of the latest rounds, as a file or an endpoint. configs/grafana.json is a dashboard for them."""
    from llmlab.evaluation.evaluate import opened
    from llmlab.monitor import exporters

    with opened(store) as source:
        if file is not None:
            typer.echo(f"metrics: {exporters.to_textfile(source, file, watch or None)}")
            return
        typer.echo(f"serving http://{address}:{port}/metrics", err=True)
        exporters.follow(source, port, address, watch or None)


@export.command()
def history(
    file: Annotated[Path, typer.Argument(help="File to write, .csv or .parquet.")],
    watch: Annotated[str, typer.Option(help="Whose history.")] = "watch",
    store: StoreUrl = None,
) -> None:
    """A line per round, model and benchmark of a watch."""
    from llmlab.evaluation.evaluate import opened
    from llmlab.monitor import exporters
    from llmlab.monitor.watch import monitor

    with opened(store) as source:
        exporters.names(source, [watch])
        typer.echo(f"history: {exporters.save_history(monitor(name=watch, store=source).history(), file)}")


@export.command()
def mlflow(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run; the latest if left out.")] = None,
    tracking: Annotated[str | None, typer.Option(help="Tracking URI; MLflow's own default if left out.")] = None,
    experiment: Annotated[str, typer.Option(help="Name of the MLflow experiment.")] = "llmlab",
    store: StoreUrl = None,
) -> None:
    """A run to MLflow: one MLflow run per model, with scores, intervals, costs and the rows as an artefact."""
    from llmlab.evaluation.evaluate import opened
    from llmlab.results import Results
    from llmlab.results.mlflow import to_mlflow

    with opened(store) as source:
        results = Results(source.results(run_id))
    for made in to_mlflow(results, tracking=tracking, experiment=experiment):
        typer.echo(f"MLflow run: {made}")
