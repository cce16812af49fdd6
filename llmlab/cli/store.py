"""`llmlab store check | backup | migrate | prune | stop`: looking after the results database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look after the results database.",
    epilog="Exit status: 0 done, 1 something is lost or damaged, 2 bad input.",
)

StoreUrl = Annotated[str | None, typer.Option("--store", help="SQLAlchemy URL of the results database.")]


@app.command()
def check(store: StoreUrl = None) -> None:
    """Read everything once: damaged pages, lost texts, unreadable JSON, runs that never ended. Changes nothing."""
    from llmlab.store import upkeep

    found = upkeep.check(store)
    typer.echo(repr(found))
    raise typer.Exit(int(not found.ok))


@app.command()
def backup(
    to: Annotated[Path | None, typer.Argument(help="File to make; beside the store if left out.")] = None,
    store: StoreUrl = None,
) -> None:
    """Copy an SQLite store while others may write to it, and verify the copy. For Postgres: says the command."""
    from llmlab.store import upkeep

    typer.echo(f"backup: {upkeep.backup(store, to)}")


@app.command()
def migrate(
    store: StoreUrl = None,
    copy: Annotated[bool, typer.Option("--backup/--no-backup", help="Copy the store first.")] = True,
) -> None:
    """Bring a store to the newest schema, after a backup. Opening a store does the same without one."""
    from llmlab.store import upkeep

    typer.echo(repr(upkeep.migrate(store, copy=copy)))


@app.command()
def prune(
    older_than: Annotated[float | None, typer.Option("--older-than", help="Days: runs begun before may go.")] = None,
    watch: Annotated[str | None, typer.Option(help="Only runs of this watch.")] = None,
    keep: Annotated[int | None, typer.Option(help="Keep the runs of the watch's newest so many rounds.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without, only says what would go.")] = False,
    compact: Annotated[bool, typer.Option("--compact/--no-compact", help="Give the space back to the disk.")] = True,
    store: StoreUrl = None,
) -> None:
    """Forget old runs with their answers. Keeps baselines, experiments, trends, budgets and what was spent."""
    from datetime import UTC, datetime, timedelta

    from llmlab.evaluation.evaluate import opened
    from llmlab.monitor.retention import forgettable
    from llmlab.store import compaction
    from llmlab.store.pruning import prune as forget

    with opened(store) as source:
        doomed = forgettable(source, older_than, watch, keep)
        # answers of no run (judges, calls outside of runs) have no watch
        before = datetime.now(UTC) - timedelta(days=older_than) if older_than is not None and watch is None else None
        typer.echo(repr(forget(source, doomed, before, dry=not yes, compact=False)))
        if yes and compact:
            if wait := compaction.standstill(source):
                said = f"giving the space back, this once by writing the file anew: others wait for about {wait:.0f} s"
                typer.echo(said, err=True)
            compaction.compact(source)
    if not yes:
        typer.echo("nothing was changed; add --yes to do it", err=True)


@app.command()
def stop(
    run: Annotated[str, typer.Argument(help="Its id: `llmlab show --runs` lists them.")], store: StoreUrl = None
) -> None:
    """End a run that is under way, wherever it was started: its answers are kept, the same call goes on from there."""
    from llmlab.evaluation.evaluate import opened

    with opened(store) as source:
        source.stop_run(run)
    typer.echo(f"run {run} ends when the calls under way are answered; all answers are kept")
