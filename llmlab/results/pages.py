"""Results as HTML: parts for notebooks, and whole pages. What a model wrote is text, never markup."""

from __future__ import annotations

import functools
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import UnknownName
from llmlab.results import display
from llmlab.results.frame import records

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment
    from markupsafe import Markup


class Page:
    """Something to read: shows itself in a notebook, prints as text, and saves as a self-contained HTML page."""

    def __init__(self, title: str, body: str, text: str) -> None:
        self.title = title
        self.html = body
        self.text = text

    def save(self, path: str | Path) -> Path:
        """Write a page that needs nothing else; gives the path."""
        return write(Path(path), "page.html.j2", title=self.title, body=_made(self.html))

    def _repr_html_(self) -> str:
        return fragment("part", body=_made(self.html))

    def __repr__(self) -> str:
        return self.text


def fragment(name: str, **data: Any) -> str:
    """A piece of HTML with its own style, for a notebook."""
    return environment().get_template(f"{name}.html.j2").render(**data)


def write(path: Path, template: str, **data: Any) -> Path:
    """Render a template into a file, whose folder is made when missing.

    Raises:
        UnknownName: for a file that does not end in .html.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UnknownName.among("kind of report", path.suffix, (".html",))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment().get_template(template).render(**data), encoding="utf-8")
    return path


@functools.cache
def environment() -> Environment:
    """Jinja with everything escaped, and our ways to write numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("llmlab.results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (display.percent, display.interval, display.points, display.dollars, display.seconds, display.visible)
    made.filters.update({f.__name__: f for f in filters})
    made.globals["count"] = display.count
    # the stylesheet is ours; inside <style> it must not be escaped
    made.globals["style"] = lambda: Markup(made.get_template("style.css").render())  # noqa: S704
    return made


def escaped(text: object) -> str:
    """A text in HTML, where it can do nothing."""
    return html.escape(display.visible(text))


def _made(text: str) -> Markup:
    """HTML that we made, in which everything foreign is escaped already."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704


# -- one item -------------------------------------------------------------------------------------------------


def show(rows: pd.DataFrame) -> Page:
    """One item in full, with every model's answer to it."""
    found = item(rows)
    body = environment().get_template("item.html.j2").render(item=found, heading=2)
    return Page(f"{found['benchmark']}: {found['sample']}", body, _item_text(found))


def item(rows: pd.DataFrame) -> dict[str, Any]:
    """What there is to read about one item: asked (prompt and answers to it, mostly one), target, tags."""
    first = records(rows)[0]
    asked: dict[str, list[dict[str, Any]]] = {}
    for row in records(rows):
        asked.setdefault(row["prompt"], []).append(_answer(row))
    head = {name: first[name] for name in ("benchmark", "benchmark_version", "sample", "target", "tags", "cluster")}
    return {**head, "asked": [{"prompt": prompt, "answers": answers} for prompt, answers in asked.items()]}


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    facts = [f"by {row['protocol']}"] if row["protocol"] else []
    facts += [f"repeat {row['repeat']}"] if row["repeat"] else []
    facts += [name for name in ("truncated", "empty", "refused") if row[name]]
    facts += ["unparsable"] if not row["parsed"] else []
    facts += ["from the store"] if row["cached"] else []
    facts += [f"{display.seconds(row['seconds'])} s"] if row["seconds"] == row["seconds"] else []
    facts += [display.dollars(row["cost"])]
    facts += [f"{name} {value:.3g}" for name, value in row["metrics"].items()]
    facts += [f"left out: {', '.join(row['dropped'])}"] if row["dropped"] else []
    facts += [row["notes"]] if row["notes"] else []
    names = ("model", "text", "answer", "explanation", "error", "score")
    return {**{name: row[name] for name in names}, "verdict": _verdict(row), "facts": facts}


def _verdict(row: dict[str, Any]) -> str:
    if row["error"]:
        return "failed"
    if row["score"] != row["score"]:
        return "not judged"
    return {0.0: "wrong", 1.0: "right"}.get(row["score"], f"score {row['score']:.3g}")


def _item_text(found: dict[str, Any]) -> str:
    lines = [f"{found['benchmark']} · {found['sample']}"]
    for asked in found["asked"]:
        lines += ["", "Prompt", _indented(asked["prompt"]), "", f"Target: {display.visible(found['target'])}"]
        for answer in asked["answers"]:
            facts = " · ".join([answer["verdict"], *answer["facts"]])
            lines += ["", f"{answer['model']} ({display.visible(facts)})"]
            lines += [_indented(answer["text"])] if answer["text"] else []
            lines += [f"    error: {display.visible(answer['error'])}"] if answer["error"] else []
            lines += [f"    read as: {display.visible(answer['answer'])}"] if answer["answer"] else []
            lines += [f"    why: {display.visible(answer['explanation'])}"] if answer["explanation"] else []
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in display.visible(text).split("\n"))


# -- all answers ----------------------------------------------------------------------------------------------


_LISTED = ["model", "benchmark", "sample", "answer", "target", "prompt", "text", "error", "score"]
_BROWSED = 200
"""Answers that a notebook shows: ten thousand would take seconds to make and longer to scroll."""


class Listing(Page):
    """Every answer in one table, in the order of the rows: the first 200 in a notebook, all of them in a saved page."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.title = display.count(len(frame), "answer")
        self._frame = frame

    @property
    def html(self) -> str:  # type: ignore[override]  # made when it is wanted: it may be long
        return _listed(self._frame, len(self._frame))

    @property
    def text(self) -> str:  # type: ignore[override]
        headers = ["model", "benchmark", "sample", "verdict", "answer", "target"]
        lines = [{**row, "verdict": _verdict(row)} for row in records(self._frame.head(_BROWSED))]
        table = display.text_table(headers, [[_cut(row[name]) for name in headers] for row in lines])
        more = len(self._frame) - len(lines)
        return f"{table}\n… and {more:,} more: .save('answers.html')" if more > 0 else table

    def _repr_html_(self) -> str:
        return fragment("part", body=_made(_listed(self._frame.head(_BROWSED), len(self._frame))))


def _listed(rows: pd.DataFrame, total: int) -> str:
    lines = "\n".join(map(_answer_row, records(rows[_LISTED])))
    return environment().get_template("browse.html.j2").render(rows=_made(lines), shown=len(rows), total=total)


def _answer_row(row: dict[str, Any]) -> str:
    # by hand: a template would take three times as long, and there may be tens of thousands
    model, benchmark, sample, answer, target, prompt, text = (
        escaped(row[name]) for name in ("model", "benchmark", "sample", "answer", "target", "prompt", "text")
    )
    said = escaped(row["error"]) if row["error"] else text
    words = '<div class="words" dir="auto" tabindex="0">'
    return (
        f'<tr><th scope="row">{model}</th><td>{benchmark}</td><td>{sample}</td><td>{_verdict(row)}</td>'
        f'<td dir="auto">{answer}</td><td dir="auto">{target}</td><td>{words}{prompt}</div></td>'
        f"<td>{words}{said}</div></td></tr>"
    )


def browse(frame: pd.DataFrame) -> Page:
    """Every answer in one table, in the order of the rows."""
    return Listing(frame)


def _cut(text: str, width: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def as_json(value: Any) -> str:
    """A setting as people read it: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
