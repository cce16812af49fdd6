"""Replies made by hand, and the folders with rows that the tests read."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmlab.benchmarks.base import Benchmark, Reply
from llmlab.types import ContinuationLogprob, Decision, Protocol, Response, Sample

OWN = Path(__file__).parent / "rows"


def real_rows() -> Path:
    """A folder with rows of the real benchmarks; the test is skipped where there is none."""
    beside = Path(__file__).parents[3] / "shared" / "benchmarks"
    folder = Path(os.environ.get("LLMLAB_BENCHMARKS") or beside)
    if not folder.is_dir():
        pytest.skip("needs real rows: LLMLAB_BENCHMARKS or ../shared/benchmarks")
    return folder


def said(text: str) -> Reply:
    """A generated answer."""
    return Reply(Response(text))


def likely(*logprobs: float) -> Reply:
    """Log-probabilities of one context's continuations."""
    return Reply(logprobs=(tuple(ContinuationLogprob(value, 1, False) for value in logprobs),))


def decided(
    sample: Sample, choice: int | None, probabilities: Sequence[float] = (), protocol: Protocol = "letter"
) -> Reply:
    """A decision among the sample's choices."""
    unknown = (math.nan,) * len(sample.choices)
    return Reply(decision=Decision(sample.choices, tuple(probabilities) or unknown, choice, protocol))


def first(benchmark: Benchmark) -> Sample:
    """The first sample."""
    return benchmark.samples()[0]
