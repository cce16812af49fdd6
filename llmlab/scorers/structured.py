"""The scorer for JSON: valid, and if a schema is given, as the schema says."""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from llmlab.errors import MissingPackage
from llmlab.scorers.base import Rule, shorten
from llmlab.types import Sample, Score

_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Json(Rule):
    """The answer is JSON."""

    name: ClassVar[str] = "json"
    schema: str | None = None
    """JSON text of the schema: a rule holds only what can be hashed."""

    def __call__(self, text: str, sample: Sample) -> Score:
        fenced = _FENCE.match(text)
        try:
            value = jsonlib.loads(fenced[1] if fenced else text)
        # deep nesting of brackets ends in the second
        except (jsonlib.JSONDecodeError, RecursionError) as error:
            return Score(0.0, None, f"not JSON: {shorten(str(error) or 'nested too deeply')}", parsed=False)
        answer = shorten(jsonlib.dumps(value, ensure_ascii=False), 400)
        problem = None if self.schema is None else _problem(value, self.schema)
        return Score(float(problem is None), answer, problem or "valid")


def json(schema: Mapping[str, Any] | None = None) -> Json:
    """The answer is valid JSON (a Markdown fence around it is passed over) and follows `schema`, a JSON Schema.

    Raises:
        MissingPackage: with a schema, when the package `jsonschema` is not installed.

    >>> json()('{"a": 1}', Sample("?")).value
    1.0
    """
    if schema is None:
        return Json()
    _validator(schema)
    return Json(jsonlib.dumps(schema, sort_keys=True))


def _problem(value: Any, schema: str) -> str | None:
    error = next(iter(_validator(jsonlib.loads(schema)).iter_errors(value)), None)
    if error is None:
        return None
    path = "".join(f"[{p!r}]" for p in error.absolute_path)
    return f"at ${path}: {shorten(error.message, 200)}"


def _validator(schema: Mapping[str, Any]) -> Any:
    try:
        import jsonschema
    except ModuleNotFoundError as error:
        raise MissingPackage("scorers.json(schema=...) needs the package: pip install jsonschema") from error
    from llmlab.errors import DataError

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise DataError(f"not a JSON Schema: {error.message}") from None
    return jsonschema.Draft202012Validator(schema)
