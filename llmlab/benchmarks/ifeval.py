"""IFEval: instructions whose following a program can check ("no commas", "at least 300 words", "all in capitals").

Zhou et al. (2023), https://arxiv.org/abs/2311.07911. Data: google/IFEval, Apache-2.0. Definition: lm-evaluation-harness
0.4.13, tasks/ifeval v4.0. Headline: prompt-level strict accuracy, the share of prompts with every instruction followed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from llmlab.benchmarks.base import Card, Query, Reply, Source
from llmlab.benchmarks.ifeval_checks import CHECKS, RELATIONS, followed, needed
from llmlab.benchmarks.language import need_packages, sentence_rule
from llmlab.benchmarks.rows import RowsBenchmark
from llmlab.benchmarks.sources import Row
from llmlab.errors import UnknownName
from llmlab.types import Options, Protocol, Request, Sample, Score

_REVISION = "966cd89545d6b6acfd7638bc708b98261ca58e84"
_BY_SENTENCE = ("length_constraints:number_sentences", "change_case:capital_word_frequency")


class IFEval(RowsBenchmark):
    """A prompt with one to three instructions. Strict checks the response, loose also eight forgiving readings of it.

    Metrics of a score: prompt_level_strict (the value), prompt_level_loose, inst_level_strict and inst_level_loose (the
    share of this prompt's instructions), and instructions (how many there are). The published instruction-level
    accuracy counts every instruction once: `instruction_level` makes it from the scores.
    """

    card = Card(
        title="IFEval",
        paper="https://arxiv.org/abs/2311.07911",
        source=f"google/IFEval@{_REVISION}",
        licence="Apache-2.0",
        metric="prompt_level_strict",
        description="Instructions whose following a program can check",
        n=541,
    )
    source: ClassVar[Source] = Source("google/IFEval", "ifeval", "default", _REVISION, "train")
    most_shots = 0

    def samples(self) -> Sequence[Sample]:
        need_packages()
        return super().samples()

    def sample(self, row: Row) -> Sample:
        instructions = row.texts("instruction_id_list")
        given = row.data.get("kwargs")
        if not isinstance(given, list | tuple) or len(given) != len(instructions):
            raise row.wrong("kwargs", "a list with one object per instruction", given)
        settings = tuple(_settings(row, i, k) for i, k in zip(instructions, given, strict=True))
        metadata = {"instructions": instructions, "settings": settings}
        return Sample(row.text("prompt"), id=str(row.integer("key")), metadata=metadata, tags=instructions)

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        return Query(protocol, request=Request.of(sample.input))

    def options(self, protocol: Protocol) -> Options:
        return Options(temperature=0.0, max_tokens=1280)

    def wording(self, protocol: Protocol) -> str:
        return f"0-shot, checked by program (lm-eval ifeval; sentences by {sentence_rule()})"

    def score(self, sample: Sample, reply: Reply) -> Score:
        instructions: Sequence[str] = sample.metadata["instructions"]
        asked = list(zip(instructions, sample.metadata["settings"], strict=True))
        readings = loose_readings(reply.text)
        strict = [followed(name, settings, reply.text) for name, settings in asked]
        # what holds for the response as it is holds for the first of its readings
        loose = [
            held or any(followed(name, settings, reading) for reading in readings[1:])
            for held, (name, settings) in zip(strict, asked, strict=True)
        ]
        n = len(instructions)
        metrics = {
            "prompt_level_strict": float(all(strict)),
            "prompt_level_loose": float(all(loose)),
            "inst_level_strict": sum(strict) / n,
            "inst_level_loose": sum(loose) / n,
            "instructions": float(n),
        }
        broken = [name for name, held in zip(instructions, strict, strict=True) if not held]
        explanation = f"not followed: {', '.join(broken)}" if broken else "all followed"
        if any(name in _BY_SENTENCE for name in instructions) and "fallback" in (rule := sentence_rule()):
            explanation += f"; sentences by {rule}"
        return Score(metrics["prompt_level_strict"], None, explanation, metrics)


def loose_readings(response: str) -> list[str]:
    """The response as it is; without its first line, its last, and both; and each of the four without asterisks."""
    lines = response.split("\n")
    parts = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    plain = [response, *parts]
    return [*plain, *(reading.replace("*", "") for reading in plain)]


def instruction_level(metrics: Iterable[Mapping[str, float]], kind: str = "strict") -> float:
    """Share of all instructions that were followed, from the metrics of each score; NaN when there are none.

    >>> one, three = {"inst_level_strict": 1.0, "instructions": 1}, {"inst_level_strict": 0.0, "instructions": 3}
    >>> instruction_level([one, three])
    0.25
    """
    counts = [(m[f"inst_level_{kind}"], m["instructions"]) for m in metrics]
    total = math.fsum(n for _, n in counts)
    return math.fsum(share * n for share, n in counts) / total if total else math.nan


def _settings(row: Row, instruction: str, given: Any) -> dict[str, Any]:
    if instruction not in CHECKS:
        raise UnknownName.among("instruction", instruction, CHECKS, f"In {row.where}")
    if not isinstance(given, Mapping):
        raise row.wrong("kwargs", "a list of objects", given)
    # rows of the hub have every key, empty where it is of another instruction
    settings = {name: given.get(name) for name in needed(instruction)}
    for name, value in settings.items():
        if not value:
            raise row.wrong(f"kwargs.{name}", f"set for {instruction}", value)
        if name.endswith("relation") and value not in RELATIONS:
            raise row.wrong(f"kwargs.{name}", " or ".join(map(repr, RELATIONS)), value)
    return settings
