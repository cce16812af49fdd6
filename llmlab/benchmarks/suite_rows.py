"""From a row of a file, or a dict, to a sample: the fields by their many names, templates, assertions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from llmlab.benchmarks.sources import Row
from llmlab.errors import DataError, LabError
from llmlab.scorers import registry as scorers
from llmlab.types import Message, Request, Sample, Scorer, digest

if TYPE_CHECKING:
    from llmlab.benchmarks.templates import Template

_INPUT = ("input", "prompt", "question", "messages")
_TARGET = ("target", "answer", "expected", "expected_answer")
_SCORER = ("scorer", "evaluation_method")
_ASSERT = ("assert", "checks")
Shots: TypeAlias = Callable[[Mapping[str, Any]], list[Mapping[str, Any]]]
"""Worked examples for an item with these fields."""
_OWN = frozenset({*_INPUT, *_TARGET, *_SCORER, *_ASSERT, "choices", "id", "tags", "cluster", "system"})


def row_of(given: object, number: int) -> Row:
    """A dict as a row that knows its place."""
    if not isinstance(given, Mapping):
        raise DataError(f"sample {number}: should be a Sample or a dict, it is {type(given).__name__}")
    return Row(given, f"sample {number}")


def sample_of(
    row: Sample | Row, number: int, template: Template | None, shots: Shots | None = None
) -> tuple[str, Sample]:
    """Where a sample stands, and the sample; `shots` draws the worked examples that its template shows.

    Raises:
        DataError: naming file, line and field.
    """
    if isinstance(row, Sample):
        where = f"sample {number}"
        if template is None:
            return where, row
        return where, replace(row, input=template.render(_fields(fields_of(row), shots), where))
    given = {field: row.data[field] for field in _INPUT if field in row.data}
    if template is not None:
        prompt: str | tuple[Message, ...] = template.render(_fields(fields_of(row), shots), row.where)
    elif not given:
        raise DataError(f"{row.where}: no field 'input' (or {', '.join(_INPUT[1:])}); it has {', '.join(row.data)}")
    else:
        prompt = _prompt(row, *next(iter(given.items())))
    if "system" in row:
        prompt = Request.of(prompt).with_system(row.text("system")).messages
    sample = Sample(
        prompt,
        _target(row),
        _id(row, template),
        _choices(row),
        {k: v for k, v in row.data.items() if k not in _OWN},
        _row_scorer(row),
        _tags(row),
        str(row.data.get("cluster", "")),
    )
    if sample.choices:
        indexed(sample, row)
    return row.where, sample


def fields_of(row: Sample | Row) -> dict[str, Any]:
    """What a template can use: every field, and `input` and `target` by these names, whatever the row calls them."""
    if isinstance(row, Sample):
        return {"input": row.input, "target": row.target, "choices": row.choices, **row.metadata}
    named = {
        name: row.data[field]
        for name, fields in (("input", _INPUT), ("target", _TARGET))
        for field in fields[::-1]
        if field in row.data
    }
    return {**row.data, **{name: value for name, value in named.items() if name not in row.data}}


def _fields(own: dict[str, Any], shots: Shots | None) -> dict[str, Any]:
    return own if shots is None else {**own, "examples": shots(own)}


def _id(row: Row, template: Template | None) -> str:
    if row.data.get("id") not in (None, ""):
        return str(row.data["id"])
    # the same item under every wording, so that wordings can be compared item by item
    return digest(dict(row.data)) if template is not None else ""


def _prompt(row: Row, field: str, value: object) -> str | tuple[Message, ...]:
    if isinstance(value, str):
        return value
    try:
        return Request.of(value).messages  # type: ignore[arg-type]  # checked by the call itself
    except LabError:
        raise row.wrong(field, "text, or a list of messages with role and content", value) from None


def _target(row: Row) -> str | int | tuple[str, ...] | None:
    field = next((f for f in _TARGET if f in row), None)
    value = row.data[field] if field else None
    if field is None or value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and "choices" in row:
        return value
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list | tuple) and value and all(isinstance(v, str | int | float) for v in value):
        return tuple(map(str, value))
    raise row.wrong(field, "text, a number, or a list of acceptable answers", value)


def _choices(row: Row) -> tuple[str, ...]:
    value = row.data.get("choices")
    if value is None:
        return ()
    # a cell of a table holds them in one text
    parts = [part.strip() for part in value.split("|")] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) < 2:
        raise row.wrong("choices", "a list of two or more options (in CSV: separated by |)", value)
    return tuple(map(str, parts))


def _tags(row: Row) -> tuple[str, ...]:
    value = row.data.get("tags", ())
    parts = value.replace(";", ",").split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise row.wrong("tags", "a list of labels, or a text with commas", value)
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _row_scorer(row: Row) -> Scorer | None:
    found = _named_scorer(row)
    field = next((f for f in _ASSERT if row.data.get(f) is not None), None)
    if field is None:
        return found
    from llmlab.scorers.assertions import checks, read

    try:
        asserted = read(row.data[field])
        return asserted if found is None else checks(found).and_(asserted)
    except LabError as error:
        raise DataError(f"{row.where}: field {field!r}: {error}") from None


def _named_scorer(row: Row) -> Scorer | None:
    keywords = row.data.get("expected_keywords")
    if isinstance(keywords, str):
        keywords = [word.strip() for word in keywords.replace("|", ",").split(",")]
    if keywords is not None and (not isinstance(keywords, list | tuple) or not keywords):
        raise row.wrong("expected_keywords", "a list of words", keywords)
    field = next((f for f in _SCORER if f in row), None)
    value = row.data[field] if field else None
    if field is None or value is None:
        return scorers.parse({"contains": list(keywords)}) if keywords else None
    if keywords and isinstance(value, str) and scorers.ALIASES.get(value, value) == "contains":
        value = {value: list(keywords)}
    try:
        return scorers.parse(value)
    except LabError as error:
        raise DataError(f"{row.where}: field {field!r}: {error}") from None


def indexed(sample: Sample, row: Row | None = None) -> Sample:
    """The sample of choices with its target as the index of the right one."""
    from llmlab.scorers.letters import right_index

    if sample.target is None:
        return sample
    try:
        return replace(sample, target=right_index(sample))
    except DataError as error:
        raise DataError(f"{row.where}: {error}" if row else str(error)) from None
