"""Log-likelihoods as lm-evaluation-harness computes them; `tests/benchmarks/golden_logprobs.py` stored the values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_log_likelihoods_equal_those_of_lm_eval(lm, family):
    results = lm(family).logprob_batch([(context, continuations) for context, continuations in GOLDEN["cases"]])
    found = [r for several in results for r in several]
    assert len(found) == len(GOLDEN[family]) > 20
    for ours, (logprob, greedy) in zip(found, GOLDEN[family], strict=True):
        assert ours.logprob == pytest.approx(logprob, abs=2e-4)
        assert ours.is_greedy == greedy
