"""Suites: benchmarks of your own, from JSONL, CSV, YAML, or samples in Python.

Fields of a row: `input` (or `prompt`, `question`), `target` (or `answer`, `expected`), `choices`, `id`, `tags`,
`cluster`, `system`, `scorer`, `assert`; everything else is kept as metadata. A template can use every field. The form
`{"id", "prompt", "evaluation_method": "keyword_match", "expected_keywords": [...]}` is understood as well.

A YAML file may have settings above its samples, with the names of the arguments of `suite`::

    system: Answer truthfully.
    repeats: 5
    pass_rate: 0.8
    require: {rate: 0.9, max_seconds: 2}
    samples:
      - {input: What is the capital of Japan?, assert: [contains: Tokyo, not: {contains: sorry}], tags: facts}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llmlab.benchmarks.base import Benchmark, Card, Query, Reply
from llmlab.benchmarks.choice import LETTERS, best, score_decision
from llmlab.benchmarks.shots import wording
from llmlab.benchmarks.sources import Row
from llmlab.benchmarks.suite_files import read_rows, read_sheet
from llmlab.benchmarks.suite_rows import indexed, row_of, sample_of
from llmlab.errors import DataError, UnknownName
from llmlab.scorers import registry as scorers
from llmlab.scorers.base import describe
from llmlab.types import Options, Protocol, Request, Sample, Score, Scorer, digest

if TYPE_CHECKING:
    from llmlab.scorers.assertions import Assertion, Checks

__all__ = ["Suite", "read_rows", "suite"]

_DECISIONS: tuple[Protocol, ...] = ("decision", "letter_logprob", "letter", "loglikelihood")
_REQUIRE = ("rate", "max_cost", "max_seconds", "max_failed", "evidence")


def suite(
    samples: str | os.PathLike[str] | Iterable[Sample | Mapping[str, Any]],
    *,
    template: str | os.PathLike[str] | None = None,
    examples: str | os.PathLike[str] | Iterable[Sample | Mapping[str, Any]] | None = None,
    shots: int | None = None,
    shot_seed: int | None = None,
    scorer: Scorer | str | Mapping[str, Any] | None = None,
    checks: Sequence[Assertion] | Assertion | None = None,
    system: str | None = None,
    name: str | None = None,
    repeats: int | None = None,
    pass_rate: float | None = None,
    require: Mapping[str, Any] | None = None,
    encoding: str | None = None,
    **options: Any,
) -> Suite:
    r"""A benchmark from your own prompts.

    What is given here overrules the settings that stand above the samples of a YAML file.

    Args:
        samples: path of a .jsonl, .csv, .tsv, .yaml or .json file, or a list of samples or of dicts.
        template: Jinja2 text of the prompt over a row's fields ("Answer briefly.\n\n{{ question }}"), a .j2 file, or a
            name of `lab.prompts()`; see `llmlab.benchmarks.templates`. For samples the fields are input, target,
            choices and the metadata. Unknown fields are errors.
        examples: worked examples for the template, which sees them as `examples`: a file or a list as for samples.
            An item is never among its own examples.
        shots: how many examples each item gets; all if None.
        shot_seed: draws them, for each item anew; None takes the first ones.
        scorer: for every item that has none of its own: a scorer of `lab.scorers`, a function of text and sample,
            or words such as "contains:refund" or "numeric". Without one: choices decide, `expected_keywords` are
            searched, a target is looked for in the answer, and an answer without target is not judged (NaN).
        checks: assertions that every answer must fulfil as well, see `lab.scorers.checks`: ["not:contains:sorry",
            {"max_seconds": 2}].
        system: a system prompt before every item that has none of its own.
        name: in tables; the file's name by default.
        repeats: how often `evaluate` asks each item when it is not told; 1 if None.
        pass_rate: share of the repeats that must pass for an item to pass, in (0, 1]; 1 if None.
        require: what the results must fulfil, the arguments of `Results.require`; pytest checks them.
        encoding: of a CSV file; None tells it from the bytes.
        options: generation options (temperature, max_tokens, stop, ...); a model's own overrule them.

    Raises:
        DataError: for a malformed row, setting or template, naming file, line and field.
        UnknownName: for a scorer or option that does not exist.

    >>> sums = suite([Sample("What is 17 * 3?", target="51")], scorer="numeric")
    >>> len(sums)
    1
    """
    given: dict[str, Any] = {"template": template, "scorer": scorer, "checks": checks, "system": system, "name": name}
    given |= {"repeats": repeats, "pass_rate": pass_rate, "require": require}
    given |= {"examples": examples, "shots": shots, "shot_seed": shot_seed}
    _known(options, given)
    if isinstance(samples, str | os.PathLike):
        path = Path(samples)
        sheet = read_sheet(path, encoding)
        settings = _settings(path, sheet.settings, given)
        rows: Iterable[Sample | Row] = sheet.rows
        settings.setdefault("name", path.stem.removesuffix(".suite"))
        source = f"the suite {path}"
    else:
        settings, source, path = {}, "the suite", Path()
        rows = (s if isinstance(s, Sample) else row_of(s, i) for i, s in enumerate(samples, 1))
    settings |= {k: v for k, v in {**given, **options}.items() if v is not None}
    shape, drawn = wording(settings, path.parent)
    made = [sample_of(row, i, shape, drawn) for i, row in enumerate(rows, 1)]
    if not made:
        raise DataError(f"{source} is empty")
    _check_ids(made)
    settings.setdefault("name", f"suite-{digest([s.id for _, s in made])[:6]}")
    suite = _made(made, settings)
    suite.template = f"{shape.name or 'own'} {shape.version}" if shape else ""
    return suite


def _known(options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    known = set(Options.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise UnknownName.among("option of a suite", option, known | settings.keys())


def _settings(path: Path, above: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings above the samples of a file, checked."""
    settings = {("checks" if name == "assert" else name): value for name, value in above.items() if value is not None}
    try:
        _known({name: value for name, value in settings.items() if name not in given}, {"assert": None, **given})
    except UnknownName as error:
        raise DataError(f"{path}: {error}") from None
    for name in ("template", "system", "name"):
        if not isinstance(settings.get(name, ""), str):
            raise DataError(f"{path}: setting {name!r} should be text, it is {settings[name]!r}")
    return settings


def _made(made: Sequence[tuple[str, Sample]], settings: dict[str, Any]) -> Suite:
    from llmlab.scorers.assertions import read

    repeats, pass_rate = settings.pop("repeats", 1), settings.pop("pass_rate", 1.0)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise DataError(f"repeats is a whole number, 1 or more; got {repeats!r}")
    if isinstance(pass_rate, bool) or not isinstance(pass_rate, int | float) or not 0 < pass_rate <= 1:
        raise DataError(f"pass_rate is a share of the repeats, in (0, 1]; got {pass_rate!r}")
    require = settings.pop("require", {})
    if not isinstance(require, Mapping):
        raise DataError(f"require is a mapping such as {{rate: 0.9, max_seconds: 2}}; got {require!r}")
    for name in require:
        if name not in _REQUIRE:
            raise UnknownName.among("requirement of a suite", name, _REQUIRE)
    scorer, checks = settings.pop("scorer", None), settings.pop("checks", None)
    suite = Suite(
        settings.pop("name"),
        [sample for _, sample in made],
        scorers.parse(scorer) if scorer is not None else None,
        settings.pop("system", None),
        Options(**settings),
        read(checks) if checks is not None else None,
    )
    suite.repeats, suite.pass_rate, suite.requirements = repeats, float(pass_rate), dict(require)
    suite.where_is = {sample.id: where for where, sample in made}
    return suite


class Suite(Benchmark):
    """Samples, each judged by its own scorer or the suite's. Made by `suite`.

    An item with choices and no scorer is decided among its choices by whatever protocol the model has; the others
    are answered in words.

    Attributes:
        repeats: how often each item is asked.
        pass_rate: share of the repeats that must pass for an item to pass.
        requirements: what its results must fulfil: `results.require(**suite.requirements)`.
        where_is: file and line of each item, by its id.
        template: name and version of the prompt template, "" without one.
    """

    pass_rate: float = 1.0
    requirements: Mapping[str, Any] = MappingProxyType({})
    where_is: Mapping[str, str] = MappingProxyType({})
    template: str = ""

    def __init__(
        self,
        name: str,
        samples: Sequence[Sample],
        scorer: Scorer | None = None,
        system: str | None = None,
        options: Options | None = None,
        checks: Checks | None = None,
    ) -> None:
        super().__init__(name)
        self.scorer = scorer
        self.checks = checks
        self.system = system
        self._samples = tuple(samples)
        self._options = options or Options()
        decides = all(s.choices and self.scorer_for(s) is None for s in self._samples)
        self.protocols = (*_DECISIONS, "generate") if decides else ("generate",)
        self.card = Card(
            name, source="own suite", metric="score", n=len(samples), description=f"{len(samples)} items of your own"
        )
        content = (_content(s) for s in self._samples)
        self.version = digest(content, system, describe(scorer), *([describe(checks)] if checks else []))

    def samples(self) -> Sequence[Sample]:
        return self._samples

    def scorer_for(self, sample: Sample) -> Scorer | None:
        """The scorer that judges a sample; None for choices that are decided."""
        own = sample.scorer or self.scorer
        if self.checks is None:
            return own or _usual_scorer(sample)
        if own is None and not self.checks.checks and sample.target is not None:
            own = _usual_scorer(sample) or _choice()
        from llmlab.scorers.assertions import checks

        return checks(own).and_(self.checks) if own else self.checks

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
        from llmlab.scorers.assertions import Checks

        scorer = self.scorer_for(sample)
        if reply.logprobs:
            return _score_sums(sample, [c.logprob for c in reply.logprobs[0]])
        if reply.decision is not None and scorer is None:
            return score_decision(indexed(sample), reply.decision)
        if isinstance(scorer, Checks):
            return scorer.judge(reply.text, sample, reply.answer)
        return (scorer or _choice())(reply.text, sample)


def _usual_scorer(sample: Sample) -> Scorer | None:
    if sample.choices:
        return None
    from llmlab.scorers.words import contains

    return contains()


def _choice() -> Scorer:
    from llmlab.scorers.letters import choice

    return choice()


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


def _score_sums(sample: Sample, sums: Sequence[float]) -> Score:
    from llmlab.benchmarks.choice import score_sums

    sample = indexed(sample)
    if sample.target is None:
        return Score(float("nan"), sample.choices[best(sums)], "the sample has no target")
    return score_sums(sample, sums, sample.choices, "acc")


def _with_choices(request: Request, sample: Sample) -> Request:
    listed = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, sample.choices, strict=False))
    last = request.messages[-1]
    return replace(request, messages=(*request.messages[:-1], replace(last, content=f"{last.content}\n\n{listed}")))
