"""Prompts, continuations and metrics against values that lm-evaluation-harness 0.4.13 gave for our own rows."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))


def _script() -> ModuleType:
    path = HERE.parent / "benchmarks" / "golden_prompts.py"
    spec = importlib.util.spec_from_file_location("golden_prompts", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['task']}-{case['shots']}")
def test_questions_and_metrics_are_those_of_the_reference(case: dict[str, Any], tmp_path: Path) -> None:
    script = _script()
    compared, problems = script.compare(case, script.complete(HERE / "rows", tmp_path))
    assert compared >= 2
    assert problems == []


def test_golden_values_cover_every_benchmark_with_a_reference() -> None:
    covered = {(case["ours"], case["shots"] > 0) for case in CASES}
    for name in ("mmlu", "hellaswag", "arc_easy", "arc_challenge", "winogrande"):
        assert {(name, False), (name, True)} <= covered
    assert {"gsm8k", "gsm8k_cot", "gsm8k_cot_llama", "gsm8k_cot_zeroshot"} <= {name for name, _ in covered}
    assert {"truthfulqa", "truthfulqa_gen"} <= {name for name, _ in covered}


def test_a_changed_prompt_is_noticed(tmp_path: Path) -> None:
    script = _script()
    case = json.loads(json.dumps(CASES[0]))
    case["items"][0]["args"][0][0] += " "
    _, problems = script.compare(case, script.complete(HERE / "rows", tmp_path))
    assert len(problems) == 1
