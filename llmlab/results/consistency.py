"""Does a model say the same when asked again, and do models say the same: agreement over items, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from llmlab import stats
from llmlab.errors import DataError
from llmlab.results import display
from llmlab.results.frame import GROUP, records
from llmlab.results.summary import groups, unscored
from llmlab.scorers.base import normalise

if TYPE_CHECKING:
    import pandas as pd

_KIND = ["benchmark", "benchmark_version", "protocol", "metric"]
_MEASURES = ("same_verdict", "same_answer", "same_text")


class _Said(NamedTuple):
    """One answer, as far as it can be the same as another."""

    score: float
    answer: str
    text: str


_Answers: TypeAlias = Mapping[str, Sequence[_Said]]  # sample -> what was said to it, repeat by repeat
_READ: dict[str, Callable[[_Said], Any]] = {
    "same_verdict": lambda said: said.score,
    "same_answer": lambda said: said.answer,
    "same_text": lambda said: said.text,
}


@dataclass(frozen=True, repr=False)
class Consistency:
    """How often two answers to the same item agree.

    Attributes:
        repeats: a line per model and benchmark that was asked more than once: n items with two or more scored answers,
            answers per item, score; same_verdict, same_answer (what the scorer read) and same_text (without case and
            spaces), each the chance that two repeats of an item agree, with _low and _high over items; flaky, the share
            of items with different verdicts, with its interval.
        models: the same for each pair of models a and b on the items of both; `by_chance` is the same_verdict of two
            models that have these scores and nothing else in common.
        level: coverage of the intervals.
    """

    repeats: pd.DataFrame
    models: pd.DataFrame
    level: float = 0.95

    def findings(self) -> list[str]:
        """A sentence per line."""
        return [_between_repeats(line) for line in records(self.repeats)] + [
            _between_models(line) for line in records(self.models)
        ]

    def __repr__(self) -> str:
        return "\n\n".join(f"{title}\n{display.text_table(*part)}" for title, part in self._tables())

    def _repr_html_(self) -> str:
        from llmlab.results.pages import fragment

        return "".join(
            fragment("comparison", headers=headers, rows=rows, caption=title, notes=())
            for title, (headers, rows) in self._tables()
        )

    def _tables(self) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
        level = f"{100 * self.level:g} % intervals over items"
        found = []
        if len(self.repeats):
            headers = ["model", "benchmark", "n", "answers each", "score", "same verdict", "same text", "flaky items"]
            rows = [
                [
                    *(line["model"], line["benchmark"], f"{line['n']:,}", f"{line['answers']:g}"),
                    *(
                        display.percent(line["score"]),
                        *(_cell(line, m) for m in ("same_verdict", "same_text", "flaky")),
                    ),
                ]
                for line in records(self.repeats)
            ]
            found.append((f"Between repeats of one item, {level}", (headers, rows)))
        if len(self.models):
            headers = ["a", "b", "benchmark", "n", "same verdict", "by chance", "same answer", "same text"]
            rows = [
                [
                    *(line["a"], line["b"], line["benchmark"], f"{line['n']:,}", _cell(line, "same_verdict")),
                    *(display.percent(line["by_chance"]), *(_cell(line, m) for m in ("same_answer", "same_text"))),
                ]
                for line in records(self.models)
            ]
            found.append((f"Between models on the same items, {level}", (headers, rows)))
        return found


def consistency(frame: pd.DataFrame, level: float = 0.95) -> Consistency:
    """What `Results.consistency` gives."""
    import pandas as pd

    within = [{**key, **line} for key, rows in groups(frame) if (line := _repeats(rows, level))]
    between = []
    for kind, rows in frame.groupby(_KIND, sort=False):
        head = {"benchmark": str(kind[0]), "protocol": str(kind[2])}
        said = {model: (rows[rows["model"] == model]) for model in dict.fromkeys(rows["model"])}
        between += [
            {"a": a, "b": b, **head, **line}
            for a, b in combinations(said, 2)
            if (line := _models(said[a], said[b], level))
        ]
    if not within and not between:
        raise DataError(
            "consistency compares answers to the same item, and there is one scored answer each; "
            "ask again with repeats=5, or ask a second model"
        )
    return Consistency(
        pd.DataFrame(within, columns=list(within[0]) if within else [*GROUP, "n"]),
        pd.DataFrame(between, columns=list(between[0]) if between else ["a", "b", "benchmark", "n"]),
        level,
    )


def _repeats(rows: pd.DataFrame, level: float) -> dict[str, Any] | None:
    answers, clusters = _answers(rows)
    several = {sample: said for sample, said in answers.items() if len(said) > 1}
    if not several:
        return None
    line: dict[str, Any] = {"n": len(several), "answers": sum(map(len, several.values())) / len(several)}
    line["score"] = sum(sum(s.score for s in said) / len(said) for said in several.values()) / len(several)
    belong = [clusters[sample] for sample in several]
    for name in _MEASURES:
        read = _READ[name]
        values = [_agreeing(list(combinations(map(read, said), 2))) for said in several.values()]
        line |= _named(name, stats.mean(values, belong, level, bounds=(0.0, 1.0)))
    flaky = [float(len({s.score for s in said}) > 1) for said in several.values()]
    return line | _named("flaky", stats.mean(flaky, belong, level, bounds=(0.0, 1.0)))


def _models(a: pd.DataFrame, b: pd.DataFrame, level: float) -> dict[str, Any] | None:
    first, clusters = _answers(a)
    second, _ = _answers(b)
    both = [sample for sample in first if sample in second]
    if not both:
        return None
    line: dict[str, Any] = {"n": len(both)}
    belong = [clusters[sample] for sample in both]
    for name in _MEASURES:
        read = _READ[name]
        values = [_agreeing(list(product(map(read, first[s]), map(read, second[s])))) for s in both]
        # by log-likelihood nobody writes: two empty texts are no agreement
        silent = name == "same_text" and not any(x.text for said in (first, second) for s in both for x in said[s])
        found = stats.mean([] if silent else values, [] if silent else belong, level, bounds=(0.0, 1.0))
        line |= _named(name, found)
    p, q = (sum(sum(x.score for x in said[s]) / len(said[s]) for s in both) / len(both) for said in (first, second))
    return line | {"by_chance": p * q + (1 - p) * (1 - q)}


def _answers(rows: pd.DataFrame) -> tuple[dict[str, list[_Said]], dict[str, str]]:
    scored = rows[~unscored(rows)]
    answers: dict[str, list[_Said]] = defaultdict(list)
    clusters: dict[str, str] = {}
    columns = (scored[name] for name in ("sample", "score", "answer", "text", "cluster"))
    for sample, score, answer, text, cluster in zip(*columns, strict=True):
        answers[sample].append(_Said(score, answer, normalise(text)))
        clusters[sample] = cluster
    return dict(answers), clusters


def _agreeing(pairs: Sequence[tuple[Any, Any]]) -> float:
    return sum(bool(x == y) for x, y in pairs) / len(pairs)


def _named(name: str, found: stats.Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _cell(line: Mapping[str, Any], name: str) -> str:
    if line[name] != line[name]:
        return display.percent(line[name])
    return f"{display.percent(line[name])} {display.interval(line[f'{name}_low'], line[f'{name}_high'])}"


def _between_repeats(line: Mapping[str, Any]) -> str:
    return (
        f"{line['model']} on {line['benchmark']}: asked again, it gets the same verdict in "
        f"{_cell(line, 'same_verdict')} of cases; {_cell(line, 'flaky')} of the items are flaky "
        f"({display.count(line['n'], 'item')}, {line['answers']:g} answers each)."
    )


def _between_models(line: Mapping[str, Any]) -> str:
    return (
        f"{line['a']} and {line['b']} on {line['benchmark']}: the same verdict in {_cell(line, 'same_verdict')} of "
        f"cases, {display.percent(line['by_chance'])} would be chance ({display.count(line['n'], 'item')})."
    )
