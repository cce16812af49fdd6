"""`llmlab profile` and `llmlab pull`: what local models take, and fetching them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreUrl = Annotated[str | None, typer.Option("--store", help="SQLAlchemy URL of the database that keeps the profile.")]


def profile(
    models: Annotated[list[str], typer.Argument(help="Names of local models, such as micro/base.")],
    prompt_tokens: Annotated[str, typer.Option(help="Length of the prompts; several separated by commas.")] = "128",
    new_tokens: Annotated[int, typer.Option(help="Tokens to write after each.")] = 32,
    batch: Annotated[str, typer.Option(help="Prompts at once; several separated by commas.")] = "1,8",
    repeats: Annotated[int, typer.Option(help="Of each measurement; six are needed for intervals.")] = 6,
    quantize: Annotated[
        str | None,
        typer.Option(help="int8, int8-dynamic, nf4, fp4 or none; several separated by commas, each for every model."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this file (.png, .svg, .pdf).")] = None,
    store: StoreUrl = None,
) -> None:
    """Measure speed and memory of local models.

    Tokens per second reading and writing, time to the first token and per token, load time, memory by part.
    """
    from llmlab.evaluation.profile import profile as measure
    from llmlab.models.registry import model

    formats = [None if q == "none" else q for q in (quantize or "none").split(",")]
    asked = {
        name if q is None else f"{name} {q}": model(name, **({} if q is None else {"quantize": q}))
        for name in models
        for q in formats
    }
    found = measure(
        asked, _numbers(prompt_tokens, "--prompt-tokens"), new_tokens, _numbers(batch, "--batch"),
        repeats=repeats, store=store,
    )  # fmt: skip
    typer.echo(repr(found))
    if csv:
        found.to_csv(csv)
    if plot:
        figure = found.plot()[0].get_figure(root=True)
        assert figure is not None
        figure.savefig(plot)


def pull(
    name: Annotated[str, typer.Argument(help="A known name, or owner/name of the hub.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Fetch a local model's files, with progress.

    They go into Hugging Face's cache; from then on the model needs no network.
    """
    from llmlab.models.local.known import pull as fetch

    folder = fetch(name, revision)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    typer.echo(f"{name}: {size / 1e9:.2f} GB in {folder}")


def _numbers(given: str, option: str) -> list[int]:
    try:
        return [int(part) for part in given.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{option} takes whole numbers separated by commas, such as 1,8; got {given!r}"
        ) from None
