"""`llmlab serve`: models for any OpenAI client."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

StoreUrl = Annotated[str | None, typer.Option("--store", help="SQLAlchemy URL for usage and costs.")]


def serve(
    models: Annotated[list[str], typer.Argument(help="Names, such as micro/base; or NAME=MODEL to call it otherwise.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token.")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(help="What clients must show; better by LLMLAB_SERVE_TOKEN, as `ps` shows arguments.")
    ] = None,
    guard: Annotated[Path | None, typer.Option(help="YAML rules; every model gets a safety filter with them.")] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="Name behind which every user meets one of the models; the first is the baseline."),
    ] = None,
    slots: Annotated[int, typer.Option(help="Calls of models under way at a time.")] = 64,
    queue: Annotated[int, typer.Option(help="Calls that may wait; more are answered by 429.")] = 256,
    seconds: Annotated[float, typer.Option(help="That a request may take, waiting included.")] = 600.0,
    store: StoreUrl = None,
) -> None:
    """Serve models by OpenAI's protocol, until Ctrl-C.

    Local weights are loaded first; usage and costs go into the store, what was said does not.
    """
    from llmlab.serve.server import serve as start

    named: dict[str, str] = {}
    for given in models:
        name, _, model = given.rpartition("=")
        if (name or model) in named:
            raise typer.BadParameter(f"two models are called {name or model!r}: call one otherwise, as NAME=MODEL")
        named[name or model] = model
    server = start(
        named,
        port,
        host=host,
        token=token,
        guard=guard,
        experiment=experiment,
        slots=slots,
        queue=queue,
        seconds=seconds,
        store=store,
    )
    # what service managers and containers send
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = ", ".join(server.models)
    what = f"{experiment}, an experiment with {names}" if experiment else names
    typer.echo(f"{server.openai_url} serves {what}; Ctrl-C stops it", err=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
