"""Rows as `evaluate` makes them."""

from __future__ import annotations

from typing import Any

from llmlab.types import NAN


def answer(key: str, text: str = "The answer is 4.", **changes: Any) -> dict[str, Any]:
    """One answer as it is stored."""
    made = {
        "key": key,
        "model": "micro/base",
        "model_version": "v1",
        "request": {"messages": [["user", "What is 2 + 2?"]], "options": {"temperature": 0.0}, "repeat": 0},
        "reply": {"response": {"text": text, "finish_reason": "stop", "usage": [12, 5, None, None, None]}},
        "cost": 0.001,
        "price": "genai-prices 0.2.3: openai/gpt-4o-mini",
        "seconds": 0.25,
    }
    return made | changes


def row(run: str, sample: str = "s1", **changes: Any) -> dict[str, Any]:
    """One row of a Results table, with its run and answer_key."""
    made: dict[str, Any] = {
        "run": run,
        "model": "micro/base",
        "benchmark": "gsm8k",
        "benchmark_version": "1",
        "protocol": "generate",
        "sample": sample,
        "cluster": "",
        "tags": "easy,math",
        "repeat": 0,
        "prompt": "What is 2 + 2?",
        "text": "The answer is 4.",
        "answer": "4",
        "target": "4",
        "score": 1.0,
        "metrics": {"acc": 1.0, "loss": NAN},
        "explanation": None,
        "parsed": True,
        "finish_reason": "stop",
        "refused": False,
        "truncated": False,
        "empty": False,
        "error": "",
        "error_kind": "",
        "input_tokens": 12,
        "output_tokens": 5,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "cost": 0.001,
        "price": "genai-prices 0.2.3: openai/gpt-4o-mini",
        "judge_cost": 0.0,
        "seconds": 0.25,
        "first_token_seconds": NAN,
        "model_version": "v1",
        "prompt_hash": "0123456789abcdef",
        "seed": 0,
        "cached": False,
        "attempts": 1,
        "notes": "",
        "applied": {"temperature": 0.0, "stop": ["\n"]},
        "dropped": ["top_k"],
        "provenance": {"device": "cpu"},
        "chance": 0.0,
        "metric": "accuracy",
        "answer_key": f"key-{sample}",
    }
    return made | changes


def same(a: Any, b: Any) -> bool:
    """Equality in which NaN equals NaN and None equals only None, and types count."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float) and a != a:
        return b != b
    return type(a) is type(b) and bool(a == b)
