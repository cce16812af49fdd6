"""Tests: each sample of a suite file on each model, and functions that run several times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmlab.benchmarks.suite import Suite, suite
from llmlab.errors import BudgetExceeded, LabError
from llmlab.pytest_plugin.asking import Subject, tally
from llmlab.pytest_plugin.session import NO_MODELS, bench, models
from llmlab.results import display
from llmlab.stats import wilson
from llmlab.types import Sample

_ROUNDING = 1e-9


class SuiteFile(pytest.File):
    """A suite: its samples are tests, one per model."""

    def collect(self) -> Iterator[pytest.Item]:
        made = suite(self.path)
        names = models(self.config)
        for name in names:
            bench(self.config).model(name)  # an unknown name is an error of the collection, said once
        for name in names or [""]:
            for sample in made.samples():
                label = f"{sample.id}[{name or 'no model'}]"
                yield SampleItem.from_parent(self, name=label, suite=made, sample=sample, model=name)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, LabError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class SampleItem(pytest.Item):
    """One sample on one model; passes when enough of its repeats do."""

    def __init__(self, suite: Suite, sample: Sample, model: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.suite, self.sample, self.model = suite, sample, model
        self.extra_keyword_matches.update((*sample.tags, model, suite.name))

    def runtest(self) -> None:
        if not self.model:
            pytest.skip(NO_MODELS)
        try:
            rows = bench(self.config).ask(self.suite, self.sample, self.model)
        except BudgetExceeded as error:
            pytest.fail(f"not asked: {error}", pytrace=False)
        found = tally(rows)
        self.user_properties += found.properties(self.model, self.suite.name)
        score = sum(found.scores) / len(found.scores)
        # a score that is NaN (the call failed, or there was nothing to judge by) does not pass
        if not score >= self.suite.pass_rate - _ROUNDING:
            raise NotPassed(_failure(rows, found.scores, self.suite.pass_rate))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, NotPassed | LabError):
            where = self.suite.where_is.get(self.sample.id, "").removeprefix(f"{self.config.rootpath}/")
            return "\n".join(filter(None, [where, str(excinfo.value)]))
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        line = self.suite.where_is.get(self.sample.id, "").rpartition(":")[2]
        return self.path, int(line) - 1 if line.isdigit() else None, self.name


class NotPassed(AssertionError):
    """A sample that did not pass; the message has the answers and why."""


def _failure(rows: Sequence[dict[str, Any]], scores: Sequence[float], pass_rate: float) -> str:
    lines = [f"{rows[0]['model']} · {display.visible(rows[0]['prompt'])}"]
    lines += [f"  target: {display.visible(rows[0]['target'])}"] if rows[0]["target"] else []
    if len(rows) > 1:
        lines.append(f"  {passed_of(scores)}, required {display.percent(pass_rate, 0)}")
    for row, score in zip(rows, scores, strict=True):
        if score == 1:
            continue
        verdict = "failed" if row["error"] else "not judged" if math.isnan(score) else f"score {score:.3g}"
        repeat = f" (repeat {row['repeat']})" if len(rows) > 1 else ""
        lines.append(f"  answer{repeat}: {display.visible(row['error'] or row['text'])!r}")
        lines.append(f"    {verdict}{': ' if row['explanation'] else ''}{display.visible(row['explanation'] or '')}")
    return "\n".join(lines)


def passed_of(scores: Sequence[float]) -> str:
    """`3 of 5 passed [23.1, 88.2]`."""
    passed = sum(score == 1 for score in scores)
    found = wilson(passed, len(scores))
    return f"{passed} of {len(scores)} passed {display.interval(found.low, found.high)}"


def repeated(
    item: pytest.Function, subject: Subject, suite: str | None = None, repeats: int = 1, pass_rate: float = 1.0
) -> None:
    """Run a test function several times; raises what it raised, or how many of the runs passed when too few did."""
    times = item.config.getoption("--llm-repeats") or repeats
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    failures: list[BaseException] = []
    for subject.repeat in range(times):
        try:
            item.obj(**arguments)
            subject.scores.append(1.0)
        except BudgetExceeded as error:
            pytest.fail(f"not asked: {error}", pytrace=False)
        except (AssertionError, pytest.fail.Exception) as error:
            subject.scores.append(0.0)
            failures.append(error)
    if sum(subject.scores) / times >= pass_rate - _ROUNDING:
        return
    if times == 1:
        raise failures[0]
    required = display.percent(pass_rate, 0)
    raise AssertionError(f"{passed_of(subject.scores)}, required {required}; the first failure is above") from failures[
        0
    ]
