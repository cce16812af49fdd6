"""`llmlab prompt`: one prompt, or a file of them, to several models side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmlab.cli.names import chosen
from llmlab.errors import DataError, LabError

if TYPE_CHECKING:
    from llmlab.models.base import Model
    from llmlab.results import Results
    from llmlab.types import Response, Sample, Scorer

_NARROW = 24
"""Columns of characters below which answers stand one under the other."""


def prompt(
    text: Annotated[
        str, typer.Argument(help="The prompt, '-' for standard input. With -f: the template, or words before each row.")
    ] = "",
    models: Annotated[
        list[str] | None, typer.Option("--models", "--model", "-m", help="Names, repeated or separated by commas.")
    ] = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="Every known model that is usable here.")] = False,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Ask every row of this JSONL, CSV or YAML file.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", "-t", help="A .j2 file, or a name of the library: brief, few_shot, ….")
    ] = None,
    var: Annotated[list[str] | None, typer.Option("--var", help="name=value for the template; repeated.")] = None,
    scorer: Annotated[
        str | None, typer.Option("--scorer", "-s", help="Judge the answers: contains:refund, numeric, ….")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", "--limit", help="Rows of the file; all if left out.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    budget: Annotated[float | None, typer.Option(help="US dollars that may be spent; a hard limit.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="SQLAlchemy URL of the results database.")] = None,
) -> None:
    """Ask several models one prompt, or every row of a file.

    The answers stream side by side, each with its tokens, cost and seconds.
    """
    from llmlab.ledger import Ledger

    asked = chosen(models, all_models, temperature=temperature, max_tokens=max_tokens)
    said = sys.stdin.read() if text == "-" else text
    fields = dict(_variable(given) for given in var or ())
    if file is not None:
        raise typer.Exit(_rows(asked, said, file, template, fields, scorer, n, system, budget, store))
    if not said and template is None:
        raise typer.BadParameter("give a prompt, or rows with -f data.jsonl")
    with Ledger(budget):
        raise typer.Exit(_one(asked, said, template, fields, scorer, system))


def _variable(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign or not name.isidentifier():
        raise typer.BadParameter(f"--var takes name=value, such as --var tone=kind; got {given!r}")
    return name, value


# -- one prompt ---------------------------------------------------------------------------------------------------


def _one(
    models: Sequence[Model],
    text: str,
    template: str | None,
    fields: dict[str, str],
    scorer: str | None,
    system: str | None,
) -> int:
    from llmlab.benchmarks.templates import template as read
    from llmlab.models.together import streams
    from llmlab.scorers.registry import parse
    from llmlab.types import Request, Sample

    judge = parse(scorer) if scorer else None
    given = {"input": text, **fields}
    shape = read(template) if template else read(text) if fields and "{" in text else None
    request = Request.of(shape.render(given) if shape else text)
    request = request.with_system(system) if system else request
    sheet = _Sheet([m.name for m in models], judge, Sample(text or request.prompt))
    sheet.show(streams(models, request))
    return int(any(isinstance(end, LabError) for end in sheet.ends))


class _Sheet:
    """The answers so far, drawn as columns of a terminal or, elsewhere, one after the other when they are whole."""

    def __init__(self, names: Sequence[str], judge: Scorer | None, sample: Sample) -> None:
        self.names = names
        self.texts = [""] * len(names)
        self.ends: list[Response | LabError | None] = [None] * len(names)
        self.verdicts = [""] * len(names)
        self._judge, self._sample = judge, sample

    def show(self, pieces: Iterable[tuple[int, Any]]) -> None:
        from rich.console import Console

        console = Console()
        if not console.is_terminal or console.width < _NARROW * len(self.names):
            self._plain(pieces)
            return
        from rich.live import Live

        with Live(self._columns(), console=console, refresh_per_second=12, vertical_overflow="crop") as live:
            for place, piece in pieces:
                self._take(place, piece)
                live.update(self._columns())
            live.vertical_overflow = "visible"  # whatever did not fit while it was being written

    def _plain(self, pieces: Iterable[tuple[int, Any]]) -> None:
        shown = 0
        for place, piece in pieces:
            self._take(place, piece)
            # in the order in which they were named, each as soon as those before it are there
            while shown < len(self.names) and self.ends[shown] is not None:
                self._print(shown)
                shown += 1

    def _print(self, place: int) -> None:
        from llmlab.results.display import visible

        end = self.ends[place]
        typer.echo(f"── {self.names[place]}")
        typer.echo(visible(f"failed: {end}" if isinstance(end, LabError) else self.texts[place]))
        if not isinstance(end, LabError):
            typer.echo(self._below(place))

    def _take(self, place: int, piece: Any) -> None:
        if isinstance(piece, LabError):
            self.ends[place] = piece
            return
        self.texts[place] += piece.text
        if piece.response is not None:
            # an interceptor may have changed what was streamed
            self.ends[place], self.texts[place] = piece.response, piece.response.text
            self.verdicts[place] = _verdict(self._judge, piece.response.text, self._sample)

    def _below(self, place: int) -> str:
        return " · ".join(filter(None, [facts(self.ends[place]), self.verdicts[place]]))

    def _columns(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(expand=True, padding=(0, 2))
        for _ in self.names:
            table.add_column(ratio=1)
        table.add_row(*(Text(name, style="bold") for name in self.names))
        table.add_row(*(self._body(i) for i in range(len(self.names))))
        table.add_row(*(Text(self._below(i), style="dim") for i in range(len(self.names))))
        return table

    def _body(self, place: int) -> Any:
        from rich.text import Text

        from llmlab.results.display import visible

        end = self.ends[place]
        if isinstance(end, LabError):
            return Text(visible(f"failed: {end}"), style="red")
        return Text(visible(self.texts[place]) + ("" if end else "▌"))


def _verdict(judge: Scorer | None, text: str, sample: Sample) -> str:
    from llmlab.results.display import visible

    if judge is None:
        return ""
    score = judge(text, sample)
    value = "no verdict" if score.value != score.value else f"score {score.value:.3g}"
    return f"{value} ({visible(score.explanation)})" if score.explanation else value


def facts(answer: Any) -> str:
    """What an answer took, in one line; nothing while it is still being written."""
    from llmlab.results.display import dollars
    from llmlab.results.display import seconds as duration

    if answer is None or isinstance(answer, LabError):
        return ""
    used = answer.usage
    tokens = " + ".join("?" if k is None else str(k) for k in (used.input_tokens, used.output_tokens))
    took = "" if answer.seconds != answer.seconds else f"{duration(answer.seconds)} s"
    cut = "cut off at max_tokens" if answer.finish_reason == "length" else ""
    return " · ".join(filter(None, [f"{tokens} tokens", dollars(answer.cost), took, cut]))


# -- a file of them -----------------------------------------------------------------------------------------------


def _rows(
    models: Sequence[Model],
    text: str,
    file: Path,
    template: str | None,
    fields: dict[str, str],
    scorer: str | None,
    n: int | None,
    system: str | None,
    budget: float | None,
    store: str | None,
) -> int:
    from llmlab.benchmarks.suite import suite
    from llmlab.benchmarks.suite_files import read_sheet
    from llmlab.evaluation.evaluate import evaluate

    if fields or (text and template):
        # variables are fields that every row has, unless it says otherwise
        sheet = read_sheet(file)
        if sheet.settings:
            raise DataError(f"{file} has settings of its own; set the variables in its rows")
        shared = {**fields, **({"instruction": text} if text else {})}
        given: Any = [{**shared, **row.data} for row in sheet.rows]
    else:
        given = file
    shape = template or (text if "{" in text else f"{text}\n\n{{{{ input }}}}" if text else None)
    asked = suite(given, template=shape, scorer=scorer, system=system, name=file.stem.removesuffix(".suite"))
    results = evaluate(list(models), asked, n, budget=budget, store=store, progress=sys.stderr.isatty())
    _side_by_side(results)
    typer.echo(repr(results))
    if len(results.models) > 1 and results.samples["score"].notna().any():
        typer.echo(results.finding())
    return int(bool((results.samples["error"] != "").any()))


def _side_by_side(results: Results) -> None:
    """Every row with the answers of all models, verdict, cost and seconds under each."""
    from llmlab.results.display import dollars, percent, visible
    from llmlab.results.display import seconds as duration
    from llmlab.results.frame import records

    for _, rows in results.samples.groupby("sample", sort=False):
        lines = records(rows)
        typer.echo(f"── {visible(lines[0]['sample'])}: {visible(lines[0]['prompt'])}")
        for line in lines:
            score = line["score"]
            verdict = "not judged" if score != score else percent(score, 0)
            typer.echo(f"   {line['model']}: {visible(line['error'] or line['text'] or line['answer'])}")
            typer.echo(f"      {verdict} · {dollars(line['cost'])} · {duration(line['seconds'])} s")
