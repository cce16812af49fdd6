"""What an evaluation will ask: models times benchmarks times items, each with the key of its answer."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, TypeAlias

from llmlab.benchmarks.base import Benchmark, Query
from llmlab.benchmarks.registry import benchmark as make_benchmark
from llmlab.errors import DataError
from llmlab.models.base import Model
from llmlab.models.registry import model as make_model
from llmlab.types import Protocol, Sample, digest

Models: TypeAlias = str | Model | Sequence[str | Model] | Mapping[str, str | Model]
Benchmarks: TypeAlias = Any
"""A benchmark, a name, a path to a suite, or a list of these."""


@dataclass(frozen=True)
class Cell:
    """One model on one benchmark by one protocol."""

    label: str
    model: Model
    benchmark: Benchmark
    protocol: Protocol


@dataclass(frozen=True)
class Unit:
    """One item asked once: what is asked, and the key under which its answer is stored."""

    cell: Cell
    sample: Sample
    repeat: int
    query: Query
    key: str


def at_least_one(**counts: object) -> None:
    """Refuse what is no count; None is left to the default.

    >>> at_least_one(n=2.5)
    Traceback (most recent call last):
    llmlab.errors.DataError: n must be at least 1, a whole number; got 2.5
    """
    for name, count in counts.items():
        if count is not None and not (_is_whole(count) and int(count) >= 1):  # type: ignore[call-overload]  # it is one
            raise DataError(f"{name} must be at least 1, a whole number; got {count!r}")


def whole(**numbers: object) -> None:
    """Refuse what is no whole number."""
    for name, number in numbers.items():
        if not _is_whole(number):
            raise DataError(f"{name} must be a whole number; got {number!r}")


def _is_whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def named_models(models: Models) -> dict[str, Model]:
    """Label -> model. Labels are the dict's keys, else the models' names, made different where they collide."""
    if isinstance(models, Mapping):
        return {label: make_model(m) for label, m in models.items()}
    if not isinstance(models, str | Model | Iterable):
        raise DataError(f"models are names, Models, a list of them, or a dict from label to either; got {models!r}")
    made = [make_model(m) for m in ([models] if isinstance(models, str | Model) else models)]
    if not made:
        raise DataError("no model was given; for example models=['micro/base']")
    labels: dict[str, Model] = {}
    for m in made:
        label, k = m.name, 2
        while label in labels:
            label, k = f"{m.name} ({k})", k + 1
        labels[label] = m
    return labels


def named_benchmarks(benchmarks: Benchmarks) -> list[Benchmark]:
    """The benchmarks of an `evaluate` call; a list of samples or rows counts as one suite."""
    one = isinstance(benchmarks, str | Benchmark) or not isinstance(benchmarks, Iterable)
    made = [make_benchmark(b) for b in ([benchmarks] if one else benchmarks)]
    if not made:
        raise DataError("no benchmark was given; for example benchmarks=['micro/arc']")
    names = [b.name for b in made]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"benchmarks of the same name: {', '.join(sorted(twice))}; give each a name of its own")
    return made


def cells(models: Models, benchmarks: Benchmarks, protocol: Protocol | None) -> list[Cell]:
    """Every model on every benchmark, by the best protocol that both have, or by the forced one."""
    made = named_benchmarks(benchmarks)
    return [
        Cell(label, model, bench, bench.protocol_for(model.protocols, protocol))
        for label, model in named_models(models).items()
        for bench in made
    ]


def pick(benchmark: Benchmark, n: int | None, seed: int) -> list[Sample]:
    """`n` items drawn by `seed`, in the order of the draw; a larger n of the same seed contains a smaller one.

    None takes all. More than there are takes all and warns.

    Raises:
        DataError: when the benchmark is empty, ids repeat, or n is less than 1.
    """
    samples = list(benchmark.samples())
    if not samples:
        raise DataError(f"{benchmark.name} has no items")
    ids = {s.id for s in samples}
    if len(ids) < len(samples):
        seen: set[str] = set()
        twice = next(s.id for s in samples if s.id in seen or seen.add(s.id))  # type: ignore[func-returns-value]
        raise DataError(f"{benchmark.name} has several items with the id {twice!r}; ids must differ")
    if n is None:
        return samples
    at_least_one(n=n)
    if n > len(samples):
        warnings.warn(f"{benchmark.name} has {len(samples)} items; n={n} takes all of them", stacklevel=2)
    order = list(range(len(samples)))
    random.Random(seed).shuffle(order)
    return [samples[i] for i in order[:n]]


def units(cell: Cell, samples: Sequence[Sample], repeats: int | None, seed: int, salt: str = "") -> list[Unit]:
    """The questions of one cell, each as often as `repeats` says (None: as the benchmark says).

    Log-likelihoods do not vary, so they are asked once.
    """
    times = 1 if cell.protocol == "loglikelihood" else repeats or cell.benchmark.repeats
    identity = dict(cell.model.identity())
    options = cell.benchmark.options(cell.protocol).merged(cell.model.options)
    if options.temperature and options.seed is None and cell.model.local:
        options = replace(options, seed=seed)
    made = []
    for repeat in range(times):
        for sample in samples:
            query = cell.benchmark.query(sample, cell.protocol)
            if query.request is not None:
                request = replace(query.request, options=query.request.options.merged(options), repeat=repeat)
                query = replace(query, request=request)
            made.append(Unit(cell, sample, repeat, query, key_of(identity, query, salt)))
    return made


def key_of(identity: Mapping[str, Any], query: Query, salt: str = "") -> str:
    """The key of an answer: a digest of all that it depends on."""
    request = query.request
    asked = (
        None
        if request is None
        else [
            [[m.role, m.content] for m in request.messages],
            request.template,
            request.options.set(),
            [repr(i) for i in request.interventions],
            request.repeat,
        ]
    )
    return digest(dict(identity), query.protocol, asked, query.pairs, query.choices, salt)
