"""The pytest plugin, as someone meets it who runs pytest: each session is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

CONFTEST = """
from llmlab.models import scripted

scripted._SCRIPTS["flaky"] = lambda request: "no" if request.repeat == 1 else "yes"
scripted._SCRIPTS["yes"] = "yes"
scripted.Scripted.worst_case = lambda self, request: 0.01
scripted.Scripted.price = lambda self, usage: 0.01
plain = scripted.Scripted._respond

def dear(self, request):
    from dataclasses import replace
    return replace(plain(self, request), cost=0.01)

scripted.Scripted._respond = dear
"""
SUITE = """
repeats: 3
pass_rate: 0.6
require: {rate: 0.9}
samples:
- {id: says-yes, input: "Yes?", assert: ["contains:yes", {not: "contains:sorry"}], tags: mood}
- {id: asks, input: "What?", target: "what", tags: [echo]}
"""
FUNCTIONS = """
import pytest

@pytest.mark.llm(repeats=3)
def test_always_yes(llm):
    assert "yes" in llm("Yes?").text.lower()

@pytest.mark.llm(suite="mood.suite.yaml")
def test_is_brief(llm, sample):
    assert len(llm(sample).text) < 20

def test_without_models():
    pass
"""


class Session:
    """One run of pytest in a folder: its status, what it printed, and its JUnit report."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.xml = folder / "junit.xml"
        self.xml.unlink(missing_ok=True)
        # when the plugin is installed as an entry point, it must not be there twice
        loaded = ["-p", "no:llmlab", "-p", "llmlab.pytest_plugin", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *loaded, f"--junitxml={self.xml}", *arguments]
        environment = {**os.environ, "LLMLAB_STORE": f"sqlite:///{folder / 'runs.db'}", "COLUMNS": "180"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        self.status, self.out = done.returncode, done.stdout + done.stderr

    def properties(self, name: str) -> dict[str, str]:
        """What the JUnit report tells about a test."""
        case = next(c for c in ET.parse(self.xml).iter("testcase") if c.get("name") == name)
        return {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}

    def line(self, *words: str) -> list[str]:
        """The cells of the summary's line that begins so."""
        return next(line.split() for line in self.out.splitlines() if line.split()[: len(words)] == list(words))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    (made / "conftest.py").write_text(CONFTEST)
    (made / "mood.suite.yaml").write_text(SUITE)
    (made / "test_functions.py").write_text(FUNCTIONS)
    return made


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    return Session(folder, "--llm-models=scripted/flaky,scripted/echo", "-v")


def test_each_sample_on_each_model_is_a_test(session: Session) -> None:
    for item in ("says-yes", "asks"):
        for model in ("scripted/flaky", "scripted/echo"):
            assert f"mood.suite.yaml::{item}[{model}]" in session.out
    assert "5 failed, 6 passed" not in session.out and session.status == 1
    assert "test_functions.py::test_without_models PASSED" in session.out


def test_enough_of_the_repeats_must_pass(session: Session) -> None:
    assert "mood.suite.yaml::says-yes[scripted/flaky] PASSED" in session.out
    assert session.properties("says-yes[scripted/flaky]")["llm_passed"] == "2 of 3"
    assert "test_functions.py::test_always_yes[scripted/flaky] FAILED" in session.out
    assert "2 of 3 passed [20.8, 93.9], required 100 %" in session.out
    assert session.properties("test_always_yes[scripted/flaky]")["llm_passed"] == "2 of 3"


def test_failure_shows_place_question_answer_and_reason(session: Session) -> None:
    assert "mood.suite.yaml:7\nscripted/flaky · What?\n  target: what\n  0 of 3 passed" in session.out
    assert "answer (repeat 0): 'yes'\n    score 0: lacks: 'what'" in session.out


def test_summary_counts_items_answers_flaky_ones_and_dollars(session: Session) -> None:
    cells = session.line("mood", "scripted/flaky")
    assert cells[2:4] == ["2", "1"] and cells[6:10] == ["1", "6", "6", "$0.060"]
    assert session.properties("asks[scripted/echo]")["llm_cost"] == "0.03"


def test_requirement_of_the_suite_fails_the_session(session: Session) -> None:
    assert "NOT MET: scripted/flaky on mood passes 33.3 %" in session.out


@pytest.mark.slow
def test_second_run_asks_nothing_also_with_two_workers(folder: Path, session: Session) -> None:
    again = Session(folder, "--llm-models=scripted/flaky,scripted/echo", "-n2")
    assert again.status == 1 and session.out.rpartition("=== ")[2][:10] == again.out.rpartition("=== ")[2][:10]
    assert again.line("mood", "scripted/flaky")[8] == "0" and " 0 asked now" in again.out
    assert "NOT MET: scripted/flaky on mood" in again.out
    assert again.properties("says-yes[scripted/flaky]")["llm_passed"] == "2 of 3"


def test_choice_by_tag_fresh_answers_and_other_repeats(folder: Path, session: Session) -> None:
    some = Session(
        folder,
        "--llm-models=scripted/flaky",
        "-k",
        "mood and not asks",
        "--llm-fresh",
        "--llm-repeats=1",
        "-x",
        "mood.suite.yaml",
    )
    assert some.status == 0 and "1 passed, 1 deselected" in some.out
    assert some.line("mood", "scripted/flaky")[6:9] == ["0", "1", "1"]


def test_what_the_budget_cannot_pay_for_fails(folder: Path, session: Session) -> None:
    rows = "\n".join(f'{{"id": "s{i}", "input": "{i} yes?", "target": "yes"}}' for i in range(8))
    (folder / "many.suite.jsonl").write_text(rows)
    cut = Session(folder, "--llm-models=scripted/yes", "--llm-budget=0.05", "many.suite.jsonl")
    assert "3 failed, 5 passed" in cut.out and cut.status == 1
    assert "not asked: the next call to scripted/yes could cost up to $0.0100, and $0.0000 of $0.05" in cut.out


def test_what_is_wrong_is_said_in_a_line_each(folder: Path, session: Session) -> None:
    (folder / "wrong.suite.yaml").write_text("- {input: a, assert: [contain:x]}\n")
    nothing = Session(folder, "wrong.suite.yaml", "mood.suite.yaml", "--continue-on-collection-errors", "-rs")
    assert "wrong.suite.yaml:1: field 'assert': No scorer 'contain'. Did you mean 'contains'" in nothing.out
    assert "SKIPPED [2]" in nothing.out and "give --llm-models=micro/base" in nothing.out
    (folder / "wrong.suite.yaml").unlink()
    unknown = Session(folder, "--llm-models=scripted/echo,micro/huge", "mood.suite.yaml", "test_functions.py")
    assert unknown.out.count("\nNo embedded model 'micro/huge'. Did you mean") == 2, "once for each file"
    assert "Traceback" not in unknown.out and "UnknownName" not in unknown.out and unknown.status == 2
