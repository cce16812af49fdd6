"""The command line as a user types it, in a process of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

OVERVIEW = """\
{"id": "a", "prompt": "Say yes", "evaluation_method": "keyword_match", "expected_keywords": ["yes"]}
{"id": "b", "prompt": "Say nothing of the kind", "evaluation_method": "keyword_match", "expected_keywords": ["yes"]}
"""


@pytest.fixture
def llmlab(tmp_path: Path):
    (tmp_path / "custom.jsonl").write_text(OVERVIEW)

    def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        env |= {"LLMLAB_HOME": str(tmp_path), "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-m", "llmlab", *arguments],
            capture_output=True, text=True, cwd=tmp_path, env=env, input=stdin, timeout=120,
        )  # fmt: skip

    return call


def test_run_prints_scores_with_n_and_interval_and_writes_files(llmlab, tmp_path: Path) -> None:
    done = llmlab(
        "run", "--model", "scripted/echo", "--dataset", "custom.jsonl", "--csv", "out.csv", "--report", "r.html"
    )
    assert done.returncode == 0, done.stderr
    assert "scripted/echo" in done.stdout and "0.5" in done.stdout
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [r["score"] for r in rows] == ["1.0", "0.0"]
    assert "<html" in (tmp_path / "r.html").read_text()


def test_overview_spellings_are_understood(llmlab) -> None:
    done = llmlab("run", "--models", "scripted/echo,scripted/constant", "--dataset", "custom.jsonl", "--parallel", "-q")
    assert done.returncode == 0, done.stderr
    assert "scripted/constant" in done.stdout


def test_second_run_answers_from_the_store_and_show_reads_it(llmlab) -> None:
    llmlab("run", "-m", "scripted/echo", "-b", "custom.jsonl")
    shown = llmlab("show")
    assert shown.returncode == 0 and "scripted/echo" in shown.stdout
    assert "Say nothing of the kind" in llmlab("show", "--item", "b").stdout
    listed = llmlab("show", "--runs").stdout
    assert listed.count("\n") >= 2 and max(map(len, listed.splitlines())) < 200
    assert "b" in llmlab("show", "--failures").stdout


def test_requirement_that_fails_is_exit_status_1(llmlab) -> None:
    asked = ("run", "-m", "scripted/echo", "-b", "custom.jsonl")
    assert llmlab(*asked, "--require", "0.4").returncode == 0
    failed = llmlab(*asked, "--require", "0.9")
    assert failed.returncode == 1 and "at least 0.9" in failed.stderr


def test_estimate_needs_no_key(llmlab) -> None:
    said = llmlab("estimate", "--model", "gpt-4o-mini", "--dataset", "micro/gsm8k", "-n", "20")
    assert said.returncode == 0 and "About $" in said.stdout, said.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "-m", "scripted/eco", "-b", "custom.jsonl"), "Did you mean 'scripted/echo'"),
        (("run", "-m", "scripted/echo", "-b", "gsm9k"), "Did you mean 'gsm8k'"),
        (("run", "-m", "openai/gpt-4o-mini", "-b", "custom.jsonl"), "OPENAI_API_KEY"),
        (("run", "-m", "scripted/echo"), "--benchmarks"),
        (("run", "-b", "custom.jsonl"), "--models"),
        (("run", "-m", "scripted/echo", "-b", "missing.jsonl"), "missing.jsonl"),
        (("run", "-m", "scripted/echo", "-b", "custom.jsonl", "--protocol", "loglikelihood"), "Known: generate"),
        (("run", "-m", "scripted/echo", "-b", "custom.jsonl", "--budget", "nan"), "0 or more; got nan"),
        (("run", "-m", "scripted/echo", "-b", "custom.jsonl", "--repeats", "0"), "repeats must be at least 1"),
        (("prompt", "Hello", "-m", "scripted/echo", "--budget", "-1"), "0 or more; got -1.0"),
        (("run", "-m", "scripted/echo", "-b", "custom.jsonl", "--csv", "custom.jsonl/x"), "custom.jsonl"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_status_2(llmlab, arguments: tuple[str, ...], message: str) -> None:
    done = llmlab(*arguments)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_prompt_asks_several_models_and_reads_standard_input(llmlab) -> None:
    done = llmlab("prompt", "-", "-m", "scripted/echo", "-m", "scripted/constant", stdin="hello there")
    assert done.returncode == 0, done.stderr
    assert "hello there" in done.stdout and "\nA\n" in done.stdout and "tokens" in done.stdout


def test_estimate_names_calls_dollars_and_what_n_can_show(llmlab) -> None:
    done = llmlab("estimate", "-m", "scripted/echo", "-b", "custom.jsonl")
    assert done.returncode == 0, done.stderr
    for word in ("calls", "cost", "detectable"):
        assert word in done.stdout


def test_models_and_benchmarks_are_listed(llmlab) -> None:
    models = llmlab("models").stdout
    assert "micro/base" in models and "OPENAI_API_KEY" in models
    usable = llmlab("models", "--usable").stdout
    assert "scripted/echo" in usable and "openai/" not in usable
    assert "truthfulqa" in llmlab("benchmarks").stdout
