"""The commands. Each is the library call of the same name; heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmlab.cli.exchange import export, import_
from llmlab.cli.experiment import experiment
from llmlab.cli.finetune import dataset, finetune, memory
from llmlab.cli.local import profile, pull
from llmlab.cli.monitor import app as monitor
from llmlab.cli.names import chosen, required
from llmlab.cli.prompt import prompt
from llmlab.cli.serve import serve
from llmlab.cli.store import app as store
from llmlab.cli.ui import ui

if TYPE_CHECKING:
    from llmlab.results import Results

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich takes longer to import than everything else together
    pretty_exceptions_enable=False,
    help="Benchmark, compare and monitor language models, with intervals and costs.",
    epilog="Exit status: 0 done, 1 a requirement or some calls failed, 2 bad input, 3 stopped by the budget, "
    "130 interrupted.",
)

Models = Annotated[
    list[str] | None, typer.Option("--models", "--model", "-m", help="Names, repeated or separated by commas.")
]
Benchmarks = Annotated[
    list[str] | None,
    typer.Option("--benchmarks", "--benchmark", "--dataset", "-b", help="Names or suite files, likewise."),
]
AllModels = Annotated[bool, typer.Option("--all-models", help="Every known model that is usable here.")]
Number = Annotated[int | None, typer.Option("-n", "--limit", help="Items per benchmark; all if left out.")]
Seed = Annotated[int, typer.Option(help="Draws the items.")]
Repeats = Annotated[int | None, typer.Option(help="How often each item is asked; once, or as the suite says.")]
ProtocolName = Annotated[str | None, typer.Option("--protocol", help="Force one way of asking.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="SQLAlchemy URL of the results database.")]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature.")]
MaxTokens = Annotated[int | None, typer.Option(help="Longest answer, in tokens.")]


@app.command()
def run(
    models: Models = None,
    benchmarks: Benchmarks = None,
    all_models: AllModels = False,
    n: Number = None,
    seed: Seed = 0,
    repeats: Repeats = None,
    protocol: ProtocolName = None,
    budget: Annotated[float | None, typer.Option(help="US dollars that may be spent; a hard limit.")] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="By the providers' batch APIs: half the price, within a day.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Simultaneous calls to cloud models (64).")] = None,
    parallel: Annotated[
        bool, typer.Option("--parallel/--sequential", help="Many calls at once, or one after the other.")
    ] = True,
    cache: Annotated[bool, typer.Option(help="Use answers that the store already has.")] = True,
    store: StoreUrl = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per answer to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page to this file.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Compare every model with this one, paired.")] = None,
    require: Annotated[float | None, typer.Option(help="Exit with 1 when a score is below this.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Score models on benchmarks, with costs and intervals."""
    from llmlab.evaluation.evaluate import evaluate

    results = evaluate(
        chosen(models, all_models, temperature=temperature, max_tokens=max_tokens),
        required(benchmarks, "--benchmarks", "llmlab benchmarks"),
        n,
        seed=seed,
        repeats=repeats,
        protocol=protocol,  # type: ignore[arg-type]  # checked against the benchmark's own list
        budget=budget,
        batch=batch,
        threads=threads if parallel else 1,
        cache=cache,
        store=store,
        progress=not quiet,
    )
    typer.echo(repr(results))
    if baseline:
        typer.echo(f"\n{results.compare(baseline)!r}")
    if csv:
        results.to_csv(csv)
        typer.echo(f"rows: {csv}", err=True)
    if report:
        results.report(report)
        typer.echo(f"report: {report}", err=True)
    raise typer.Exit(_status(results, require))


@app.command()
def estimate(
    models: Models = None,
    benchmarks: Benchmarks = None,
    all_models: AllModels = False,
    n: Number = None,
    seed: Seed = 0,
    repeats: Repeats = None,
    protocol: ProtocolName = None,
    store: StoreUrl = None,
    max_tokens: MaxTokens = None,
) -> None:
    """Forecast a run: calls, tokens, dollars.

    Also shows the smallest difference between two models that its n can show.
    """
    from llmlab import settings
    from llmlab.evaluation.estimate import estimate as forecast

    with settings.unasked():
        asked = chosen(models, all_models, max_tokens=max_tokens)
    names = required(benchmarks, "--benchmarks", "llmlab benchmarks")
    typer.echo(repr(forecast(asked, names, n, seed=seed, repeats=repeats, protocol=protocol, store=store)))  # type: ignore[arg-type]


@app.command()
def models(
    provider: Annotated[str | None, typer.Argument(help="Only models of this provider.")] = None,
    usable: Annotated[bool, typer.Option("--usable", help="Only those whose key or weights are here.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Local ones: their size, and what fits this machine.")] = False,
) -> None:
    """List known models and what each needs here."""
    from llmlab.models.listing import models as known

    _print_table(known(provider, usable=True if usable else None, local=local))


@app.command()
def benchmarks() -> None:
    """List known benchmarks."""
    from llmlab.benchmarks.registry import benchmarks as known

    _print_table(known())


@app.command()
def show(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run; the latest if left out.")] = None,
    item: Annotated[str | None, typer.Option(help="Show this one item in full.")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="List wrong and failed answers.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="List the runs of the store.")] = False,
    baseline: Annotated[str | None, typer.Option(help="Compare every model with this one, paired.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per answer to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page to this file.")] = None,
    store: StoreUrl = None,
) -> None:
    """Show a stored run again, for free.

    The summary, or one item, the failures, a comparison, a CSV file, a report.
    """
    from llmlab.evaluation.evaluate import opened
    from llmlab.results import Results

    with opened(store) as source:
        if runs:
            # the config, with every cell of a run, and the versions would make each line hundreds of columns wide
            _print_table(source.runs().drop(columns=["config", "versions"]))
            return
        results = Results(source.results(run_id))
    if item:
        typer.echo(str(results.show(item)))
    elif failures:
        _print_table(results.failures())
    elif baseline:
        typer.echo(repr(results.compare(baseline)))
    else:
        typer.echo(repr(results))
    if csv:
        results.to_csv(csv)
    if report:
        results.report(report)


for _command in (experiment, finetune, memory, dataset, profile, pull, prompt, serve, ui):
    app.command()(_command)
app.add_typer(monitor, name="monitor")
app.add_typer(store, name="store")
app.add_typer(export, name="export")
app.command("import")(import_)


def _status(results: Results, require: float | None) -> int:
    if results.status == "interrupted":
        return 130
    if results.status == "budget":
        return 3
    summary = results.summary()
    if require is not None and not (summary["score"] >= require).all():
        typer.echo(f"required: every score at least {require}", err=True)
        return 1
    return int(bool((results.samples["error"] != "").any()))


def _print_table(table: Any) -> None:
    import pandas as pd

    with pd.option_context("display.max_rows", None, "display.max_colwidth", 60, "display.width", 200):
        typer.echo(table.to_string(na_rep=""))
