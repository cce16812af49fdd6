"""Rows for the tests: a small seeded generator of what an evaluation yields, as fixtures that are functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmlab.results import Results

NAN = float("nan")


def make_row(**changes: Any) -> dict[str, Any]:
    """One right answer, changed as asked."""
    base: dict[str, Any] = {
        "run": "run-1",
        "model": "micro/base",
        "benchmark": "micro/arc",
        "benchmark_version": "1",
        "protocol": "loglikelihood",
        "sample": "item-0",
        "cluster": "",
        "tags": "",
        "repeat": 0,
        "prompt": "Question: What is round?\nAnswer:",
        "text": "a ball",
        "answer": "a ball",
        "target": "a ball",
        "score": 1.0,
        "metrics": {},
        "explanation": None,
        "parsed": True,
        "finish_reason": "stop",
        "refused": False,
        "truncated": False,
        "empty": False,
        "error": "",
        "error_kind": "",
        "input_tokens": 20,
        "output_tokens": 5,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "cost": 0.001,
        "price": "",
        "judge_cost": 0.0,
        "seconds": 0.2,
        "first_token_seconds": NAN,
        "model_version": "v1",
        "prompt_hash": "0123456789abcdef",
        "seed": 0,
        "cached": False,
        "attempts": 1,
        "notes": "",
        "applied": {"max_tokens": 64},
        "dropped": [],
        "provenance": {"dtype": "float32"},
        "chance": 0.25,
        "metric": "accuracy",
    }
    return base | changes


def make_failed(**changes: Any) -> dict[str, Any]:
    """One call that failed."""
    lost = {"score": NAN, "text": "", "answer": None, "error": "429 Too Many Requests", "error_kind": "RateLimited"}
    return make_row(**(lost | {"cost": NAN, "seconds": NAN, "finish_reason": "unknown"} | changes))


def make_rows(
    rates: dict[str, float], benchmark: str = "micro/arc", n: int = 100, repeats: int = 1, seed: int = 0, **changes: Any
) -> list[dict[str, Any]]:
    """n items per model; a better model is right on what a worse one is right on, mostly."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(n)
    made = []
    for place, (model, rate) in enumerate(rates.items()):
        for item in range(n):
            for repeat in range(repeats):
                noisy = np.clip(hardness[item] + rng.normal(0, 0.1), 0, 1)
                right = float(noisy < rate)
                made.append(
                    make_row(
                        model=model,
                        benchmark=benchmark,
                        sample=f"item-{item}",
                        repeat=repeat,
                        prompt=f"Question: What is thing {item}?\nAnswer:",
                        score=right,
                        answer="a ball" if right else "a box",
                        text="a ball" if right else "a box",
                        cost=0.0004 * (place + 1) * rng.uniform(0.8, 1.2),
                        seconds=0.1 * (place + 1),
                        metrics={"acc_norm": float(rng.random() < rate)},
                        **changes,
                    )
                )
    return made


@pytest.fixture(name="row")
def _row():
    return make_row


@pytest.fixture(name="failed")
def _failed():
    return make_failed


@pytest.fixture(name="rows")
def _rows():
    return make_rows


@pytest.fixture(scope="session")
def module_rows():
    """For fixtures that live longer than a test: the functions that make many rows, and a failed one."""
    return make_rows, make_failed


@pytest.fixture(name="results")
def _results():
    return lambda rates, **settings: Results(make_rows(rates, **settings))


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
