"""Suites: benchmarks of your own, from JSONL, CSV, YAML, or samples in Python.

Fields of a row: `input` (or `prompt`, `question`), `target` (or `answer`, `expected`), `choices`, `id`, `tags`,
`cluster`, `system`, `scorer`; everything else is kept as metadata. A template can use every field. The form
`{"id", "prompt", "evaluation_method": "keyword_match", "expected_keywords": [...]}` is understood as well.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.benchmarks.base import Benchmark, Card, Query, Reply
from llmlab.benchmarks.choice import LETTERS, best, score_decision
from llmlab.benchmarks.sources import Row, read_jsonl
from llmlab.errors import DataError, LabError
from llmlab.scorers import registry as scorers
from llmlab.scorers.base import describe
from llmlab.types import Message, Options, Protocol, Request, Sample, Score, Scorer, digest

if TYPE_CHECKING:
    from jinja2 import Template

_INPUT = ("input", "prompt", "question", "messages")
_TARGET = ("target", "answer", "expected", "expected_answer")
_SCORER = ("scorer", "evaluation_method")
_OWN = frozenset({*_INPUT, *_TARGET, *_SCORER, "choices", "id", "tags", "cluster", "system"})
_DECISIONS: tuple[Protocol, ...] = ("decision", "letter_logprob", "letter", "loglikelihood")


def suite(
    samples: str | os.PathLike[str] | Iterable[Sample | Mapping[str, Any]],
    *,
    template: str | None = None,
    scorer: Scorer | str | Mapping[str, Any] | None = None,
    system: str | None = None,
    name: str | None = None,
    **options: Any,
) -> Suite:
    r"""A benchmark from your own prompts.

    Args:
        samples: path of a .jsonl, .csv, .yaml or .json file, or a list of samples or of dicts.
        template: Jinja2 text of the prompt over a row's fields ("Answer briefly.\n\n{{ question }}"); for samples
            the fields are input, target, choices and the metadata. Unknown fields are errors.
        scorer: for every item that has none of its own: a scorer of `lab.scorers`, a function of text and sample,
            or words such as "contains:refund" or "numeric". Without one: choices decide, `expected_keywords` are
            searched, a target is looked for in the answer, and an answer without target is not judged (NaN).
        system: a system prompt before every item that has none of its own.
        name: in tables; the file's name by default.
        options: generation options (temperature, max_tokens, stop, ...); a model's own overrule them.

    Raises:
        DataError: for a malformed row or template, naming file, line and field.
        UnknownName: for a scorer or option that does not exist.

    >>> checks = suite([Sample("What is 17 * 3?", target="51")], scorer="numeric")
    >>> len(checks)
    1
    """
    from llmlab.errors import UnknownName

    known = set(Options.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise UnknownName.among("option of a suite", option, known | {"template", "scorer", "system", "name"})
    common = scorers.parse(scorer) if scorer is not None else None
    compiled = _compile(template) if template is not None else None
    if isinstance(samples, str | os.PathLike):
        path = Path(samples)
        rows: Iterable[Sample | Row] = read_rows(path)
        name = name or path.stem
    else:
        rows = (s if isinstance(s, Sample) else _row(s, i) for i, s in enumerate(samples, 1))
    made = [_sample(row, i, compiled) for i, row in enumerate(rows, 1)]
    if not made:
        raise DataError(f"the suite {os.fspath(samples) if isinstance(samples, str | os.PathLike) else ''} is empty")
    _check_ids(made)
    return Suite(
        name or f"suite-{digest([s.id for _, s in made])[:6]}", [s for _, s in made], common, system, Options(**options)
    )


class Suite(Benchmark):
    """Samples, each judged by its own scorer or the suite's. Made by `suite`.

    An item with choices and no scorer is decided among its choices by whatever protocol the model has; the others
    are answered in words.
    """

    def __init__(
        self,
        name: str,
        samples: Sequence[Sample],
        scorer: Scorer | None = None,
        system: str | None = None,
        options: Options | None = None,
    ) -> None:
        super().__init__(name)
        self.scorer = scorer
        self.system = system
        self._samples = tuple(samples)
        self._options = options or Options()
        decides = all(s.choices and self.scorer_for(s) is None for s in self._samples)
        self.protocols = (*_DECISIONS, "generate") if decides else ("generate",)
        self.card = Card(
            name, source="own suite", metric="score", n=len(samples), description=f"{len(samples)} items of your own"
        )
        self.version = digest([_content(s) for s in self._samples], system, describe(scorer))

    def samples(self) -> Sequence[Sample]:
        return self._samples

    def scorer_for(self, sample: Sample) -> Scorer | None:
        """The scorer that judges a sample; None for choices that are decided."""
        return sample.scorer or self.scorer or _usual_scorer(sample)

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        request = Request.of(sample.input)
        if self.system and not any(m.role == "system" for m in request.messages):
            request = request.with_system(self.system)
        if protocol == "loglikelihood":
            prompt = "\n\n".join(m.content for m in request.messages)
            return Query(protocol, pairs=((f"{prompt}\nAnswer:", tuple(f" {c}" for c in sample.choices)),))
        if protocol == "generate" and sample.choices:
            return Query(protocol, request=_with_choices(request, sample))
        return Query(protocol, request=request, choices=() if protocol == "generate" else sample.choices)

    def options(self, protocol: Protocol) -> Options:
        return self._options

    def score(self, sample: Sample, reply: Reply) -> Score:
        scorer = self.scorer_for(sample)
        if reply.logprobs:
            return _score_sums(sample, [c.logprob for c in reply.logprobs[0]])
        if reply.decision is not None and scorer is None:
            return score_decision(_indexed(sample), reply.decision)
        if scorer is None:
            from llmlab.scorers.letters import choice

            scorer = choice()
        return scorer(reply.text, sample)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL, CSV, YAML or JSON file.

    Raises:
        DataError: for a file that does not exist, is of another kind, or is malformed, with the line.
    """
    readers = {".csv": _read_csv, ".json": _read_yaml, ".jsonl": read_jsonl, ".yaml": _read_yaml, ".yml": _read_yaml}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"a suite is a file that ends in {', '.join(readers)}; got {path}")
    if not path.is_file():
        raise DataError(f"no file {path} (looked in {Path.cwd()})")
    return reader(path)


def _read_csv(path: Path) -> Iterator[Row]:
    where = f"{path}:1"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            while True:
                columns = reader.fieldnames
                # a cell may have line breaks in it: the row begins after the one before it ended
                where = f"{path}:{reader.line_num + 1}"
                row = next(reader, None)
                if row is None:
                    return
                # DictReader files surplus cells under None and missing ones as None
                if None in row:
                    raise DataError(f"{where}: more cells than the {len(columns or ())} columns of the header")
                yield Row({k: v for k, v in row.items() if v not in (None, "")}, where)
    except csv.Error as error:
        raise DataError(f"{where}: not CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _read_yaml(path: Path) -> Iterator[Row]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
        # the tree of nodes knows the lines, which the loaded values have lost
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        loaded = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{path}{at}: not YAML ({getattr(error, 'problem', None) or error})") from None
    if isinstance(loaded, Mapping) and len(loaded) == 1 and isinstance(next(iter(loaded.values())), list):
        node, loaded = node.value[0][1], next(iter(loaded.values()))  # `samples:` above the list
    if not isinstance(loaded, list):
        raise DataError(f"{path}: should be a list of samples, it is {type(loaded).__name__}")
    for row, at in zip(loaded, node.value, strict=True):
        where = f"{path}:{at.start_mark.line + 1}"
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: each sample should be a mapping of fields, this one is {type(row).__name__}")
        yield Row(row, where)


def _row(given: object, number: int) -> Row:
    if not isinstance(given, Mapping):
        raise DataError(f"sample {number}: should be a Sample or a dict, it is {type(given).__name__}")
    return Row(given, f"sample {number}")


def _sample(row: Sample | Row, number: int, template: Template | None) -> tuple[str, Sample]:
    if isinstance(row, Sample):
        if template is None:
            return f"sample {number}", row
        fields = {"input": row.input, "target": row.target, "choices": row.choices, **row.metadata}
        return f"sample {number}", replace(row, input=_render(template, fields, f"sample {number}"))
    given = {field: row.data[field] for field in _INPUT if field in row.data}
    if template is not None:
        prompt: str | tuple[Message, ...] = _render(template, row.data, row.where)
    elif not given:
        raise DataError(f"{row.where}: no field 'input' (or {', '.join(_INPUT[1:])}); it has {', '.join(row.data)}")
    else:
        prompt = _prompt(row, *next(iter(given.items())))
    if "system" in row:
        prompt = Request.of(prompt).with_system(row.text("system")).messages
    sample = Sample(
        prompt,
        _target(row),
        str(row.data["id"]) if row.data.get("id") not in (None, "") else "",
        _choices(row),
        {k: v for k, v in row.data.items() if k not in _OWN},
        _row_scorer(row),
        _tags(row),
        str(row.data.get("cluster", "")),
    )
    if sample.choices:
        _indexed(sample, row)
    return row.where, sample


def _prompt(row: Row, field: str, value: object) -> str | tuple[Message, ...]:
    if isinstance(value, str):
        return value
    try:
        return Request.of(value).messages  # type: ignore[arg-type]  # checked by the call itself
    except (TypeError, AttributeError):
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


def _usual_scorer(sample: Sample) -> Scorer | None:
    if sample.choices:
        return None
    from llmlab.scorers.words import contains

    return contains()


def _compile(template: str) -> Template:
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import SandboxedEnvironment

    try:
        environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        return environment.from_string(template)
    except TemplateSyntaxError as error:
        raise DataError(f"template line {error.lineno}: {error.message}") from None


def _render(template: Template, fields: Mapping[str, Any], where: str) -> str:
    from jinja2 import TemplateError

    try:
        return template.render(fields)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"{where}: template: {error}; fields: {', '.join(map(str, fields))}") from None


def _check_ids(samples: Sequence[tuple[str, Sample]]) -> None:
    first: dict[str, str] = {}
    for where, sample in samples:
        if sample.id in first:
            raise DataError(
                f"{where}: id {sample.id!r} is already used at {first[sample.id]}; ids are unique in a suite"
            )
        first[sample.id] = where


def _content(sample: Sample) -> list[object]:
    turns = [[m.role, m.content] for m in Request.of(sample.input).messages]
    return [sample.id, turns, sample.target, sample.choices, describe(sample.scorer)]


def _indexed(sample: Sample, row: Row | None = None) -> Sample:
    from llmlab.scorers.letters import right_index

    if sample.target is None:
        return sample
    try:
        return replace(sample, target=right_index(sample))
    except DataError as error:
        raise DataError(f"{row.where}: {error}" if row else str(error)) from None


def _score_sums(sample: Sample, sums: Sequence[float]) -> Score:
    from llmlab.benchmarks.choice import score_sums

    sample = _indexed(sample)
    if sample.target is None:
        return Score(float("nan"), sample.choices[best(sums)], "the sample has no target")
    return score_sums(sample, sums, sample.choices, "acc")


def _with_choices(request: Request, sample: Sample) -> Request:
    listed = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, sample.choices, strict=False))
    last = request.messages[-1]
    return replace(request, messages=(*request.messages[:-1], replace(last, content=f"{last.content}\n\n{listed}")))
