"""The five standard benchmarks on real rows: by a transformers model, and by each provider over the loopback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import llmlab as lab
from llmlab.testing import ProviderServer
from tests.contract.models import CLOUD, cloud, make

FIVE = ["truthfulqa", "gsm8k", "mmlu", "arc_challenge", "hellaswag"]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Path:
    beside = Path(__file__).parents[2] / "shared" / "benchmarks"
    folder = Path(os.environ.get("LLMLAB_BENCHMARKS") or beside)
    if not folder.is_dir():
        pytest.skip("needs real rows: LLMLAB_BENCHMARKS or ../shared/benchmarks")
    monkeypatch.setenv("LLMLAB_BENCHMARKS", str(folder))
    return folder


def test_a_transformers_model_runs_all_five(rows: Path, server: ProviderServer, keys: None) -> None:
    results = lab.evaluate(make("hf/tiny", server, max_tokens=4), FIVE, n=3, progress=False)
    samples = results.samples
    assert len(samples) == 15 and (samples.error == "").all()
    protocols = dict(zip(samples.benchmark, samples.protocol, strict=True))
    assert protocols.pop("gsm8k") == "generate" and set(protocols.values()) == {"loglikelihood"}


@pytest.mark.parametrize("name", [n for n in CLOUD if "decisions" not in n])
def test_every_provider_runs_all_five(name: str, rows: Path, server: ProviderServer, keys: None) -> None:
    server.answer = lambda messages: "I think so.\n#### 4\nAnswer: B\nThe best answer is B"
    results = lab.evaluate(cloud(name, server), FIVE, n=3, progress=False)
    samples = results.samples
    assert len(samples) == 15 and (samples.error == "").all(), samples[["benchmark", "error"]].to_string()
    # an OpenAI-compatible server may echo log-probabilities of a prompt, as ours here does
    ways = {"generate", "loglikelihood"} if name.startswith("compatible/") else {"generate"}
    assert set(samples.protocol) == ways and samples.parsed.all()
    assert results.summary()["score"].between(0, 1).all()
    asked = len(server.requests)
    again = lab.evaluate(cloud(name, server), FIVE, n=3, progress=False)
    assert len(server.requests) == asked and again.samples.cached.all()
