"""BBH, GPQA, HumanEval and IFEval against what lm-evaluation-harness 0.4.13 asked and said about our own rows."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "golden_hard.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = HERE.parent / "benchmarks" / "golden_hard.py"
    spec = importlib.util.spec_from_file_location("golden_hard", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["task"])
def test_questions_and_verdicts_are_those_of_the_reference(case: dict[str, Any], script: ModuleType) -> None:
    compared, problems = script.compare(case, HERE / "rows")
    assert compared >= 5
    assert problems == []


def test_every_check_of_ifeval_is_seen_followed_and_not_followed() -> None:
    from llmlab.benchmarks.ifeval_checks import CHECKS

    case = next(case for case in CASES if case["ours"] == "ifeval")
    path = HERE / "rows" / "ifeval" / "default" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seen = {
        (name, verdict)
        for row, item in zip(rows, case["items"], strict=True)
        for verdicts in item["verdicts"]
        for name, verdict in zip(row["instruction_id_list"], verdicts["inst_level_strict_acc,none"], strict=True)
    }
    assert seen == {(name, verdict) for name in CHECKS for verdict in (True, False)}


def test_a_changed_prompt_and_a_changed_verdict_are_noticed(script: ModuleType) -> None:
    case = json.loads(json.dumps(next(case for case in CASES if case["ours"] == "bbh")))
    case["items"][0]["args"][0][0] += " "
    verdict = case["items"][1]["verdicts"][0]
    verdict["exact_match,get-answer"] = 1 - verdict["exact_match,get-answer"]
    assert len(script.compare(case, HERE / "rows")[1]) == 2
