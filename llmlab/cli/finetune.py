"""`llmlab finetune`, `memory`, `dataset`: training from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llmlab.cli.names import listed

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="A field of the recipe, as name=value; repeat for more."),
]


def _presets(asked: bool) -> None:
    """Print the models whose recipe is known, and end."""
    if not asked:
        return
    from llmlab.finetune.presets import presets

    table = presets().drop(columns="source").round({"gb": 1})
    typer.echo(table.to_string(index=False, na_rep=""))
    raise typer.Exit


def finetune(
    model: Annotated[str, typer.Argument(help="A local model: hf/… or micro/….")],
    data: Annotated[str, typer.Argument(help="A file, a folder or an id of the hub.")],
    method: Annotated[str | None, typer.Option(help="lora, qlora or full.")] = None,
    objective: Annotated[str | None, typer.Option(help="sft, dpo or kto.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of recipe fields.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first weights and the order of examples.")] = 0,
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the training.")] = None,
    held_out: Annotated[str | None, typer.Option(help="Data to measure the loss on.")] = None,
    unseen: Annotated[list[str] | None, typer.Option(help="Benchmarks that must not be in the data.")] = None,
    evaluate_on: Annotated[
        list[str] | None, typer.Option(help="Benchmarks to score at every evaluation (-s evaluate_every=50).")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option("--compare", "-b", help="Benchmarks for before and after; 'target' is held out.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="Items per benchmark.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the result there: a folder, or a file ….gguf.")] = None,
    set_: Overrides = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    presets: Annotated[
        bool, typer.Option("--presets", is_eager=True, callback=_presets, help="List known models and their memory.")
    ] = False,
) -> None:
    """Fine-tune a local model on examples.

    The same command again continues a training that was killed.
    """
    from llmlab.finetune.train import finetune as train

    tuned = train(
        model,
        data,
        method,  # type: ignore[arg-type]  # checked by the recipe
        objective,  # type: ignore[arg-type]
        config,
        seed,
        held_out=held_out,
        unseen=listed(unseen),
        folder=folder,
        progress=not quiet,
        **_fields(set_),
    )
    typer.echo(repr(tuned))
    if compare:
        typer.echo(repr(tuned.compare(listed(compare), n, progress=not quiet)))
    if export:
        typer.echo(tuned.export(export, "gguf" if export.suffix == ".gguf" else "merged"))


def memory(
    model: Annotated[str, typer.Argument(help="A local model: hf/… or micro/….")],
    method: Annotated[str | None, typer.Option(help="lora, qlora or full; all three if left out.")] = None,
    length: Annotated[int | None, typer.Option(help="Tokens of the longest example.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples at a time.")] = None,
    set_: Overrides = None,
) -> None:
    """Predict the memory that a training will take."""
    from llmlab.finetune.config import METHODS
    from llmlab.finetune.memory import memory as predict

    for one in [method] if method else METHODS:
        typer.echo(repr(predict(model, one, length, batch, **_fields(set_))))  # type: ignore[arg-type]


def dataset(
    data: Annotated[str, typer.Argument(help="A file, a folder or an id of the hub.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Shows tokens as this model sees them.")] = None,
    n: Annotated[int, typer.Option("-n", help="Examples to show.")] = 2,
    length: Annotated[int | None, typer.Option(help="Tokens at which examples are cut off.")] = None,
    unseen: Annotated[list[str] | None, typer.Option(help="Benchmarks to look for in the data.")] = None,
) -> None:
    """Check training data: its form, what is trained on, lengths, copies, and a benchmark's items in it."""
    from llmlab.finetune.data import dataset as read

    found = read(data)
    typer.echo(repr(found))
    typer.echo(repr(found.preview(model, n, length)))
    if model:
        typer.echo(repr(found.lengths(model, length)))
    alike = found.distinct()
    typer.echo("; ".join(alike.notes) or "no copies")
    leaks = [found.leakage(name) for name in listed(unseen)]
    for leak in leaks:
        typer.echo(repr(leak))
    raise typer.Exit(int(any(not leak.clean for leak in leaks)))


def _fields(given: list[str] | None) -> dict[str, Any]:
    import yaml

    fields = {}
    for part in given or ():
        name, equals, value = part.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set takes name=value, such as learning_rate=0.001; got {part!r}")
        fields[name.strip().replace("-", "_")] = yaml.safe_load(value)
    return fields
