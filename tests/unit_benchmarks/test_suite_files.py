"""Files as people have them: other encodings and separators, settings above the samples, a hundred megabytes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from llmlab.benchmarks.suite import suite
from llmlab.benchmarks.suite_files import read_rows
from llmlab.errors import DataError, LabError


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# -- separators and encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("question;expected\nHow much, please?;9,50\n", {"question": "How much, please?", "expected": "9,50"}),
        ("id\tinput\ttarget\n1\ta, b; c\td\n", {"id": "1", "input": "a, b; c", "target": "d"}),
        ("input|target\nx, y|z\n", {"input": "x, y", "target": "z"}),
        ("input\nonly one; column\n", {"input": "only one; column"}),
        ("stadt;land;input\nBonn;D;x\n", {"stadt": "Bonn", "land": "D", "input": "x"}),
    ],
)
def test_separator_is_read_off_the_header(text: str, expected: dict[str, str], tmp_path: Path) -> None:
    assert [row.data for row in read_rows(write(tmp_path / "s.csv", text))] == [expected]


def test_column_that_would_be_lost_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "input,target,input\na,b,c\n")
    with pytest.raises(DataError, match=r"s\.csv:1: two columns are called 'input', and one would be lost; rename one"):
        suite(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are_are_read_silently(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "input,target\nGrüße?,schön\n", encoding)
    assert [row.data["target"] for row in read_rows(path)] == ["schön"]


@pytest.mark.parametrize(
    ("encoding", "answer"), [("cp1252", "schön wär’s"), ("cp1251", "хорошо, спасибо"), ("shift_jis", "東京です")]
)
def test_other_encodings_are_told_from_the_bytes_and_named(encoding: str, answer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", f"input;target\n{answer} {answer} {answer}?;{answer}\n", encoding)
    with pytest.warns(UserWarning, match=r"s\.csv is not UTF-8 and was read as cp\d+; encoding= names another"):
        assert [row.data["target"] for row in read_rows(path)] == [answer]


def test_encoding_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "input,target\nmüller,ja\n", "latin-1")
    assert suite(path, encoding="latin-1").samples()[0].input == "müller"
    with pytest.raises(DataError, match="no encoding is called 'latin1x'; for example"):
        suite(path, encoding="latin1x")
    with pytest.raises(DataError, match=r"s\.csv: not utf-8 .* at byte 14\); name the encoding with encoding="):
        suite(path, encoding="utf-8")


def test_one_odd_letter_in_the_last_of_many_rows_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    rows = "".join(f"row {i},ja\n" for i in range(60_000))
    path.write_bytes(f"input,target\n{rows}Käse,nein\n".encode("cp1252"))
    with pytest.warns(UserWarning, match="read as cp1252"):
        assert list(read_rows(path))[-1].data == {"input": "Käse", "target": "nein"}


# -- large files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_rows_are_read_one_at_a_time(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"s.{kind}"
    filler = "x" * 1000
    with path.open("w") as file:
        file.write("input,target\n" if kind == "csv" else "")
        for i in range(10_000):
            file.write(f"{i} {filler},{i}\n" if kind == "csv" else json.dumps({"input": f"{i} {filler}"}) + "\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path)) == 10_000
        assert tracemalloc.get_traced_memory()[1] < 3e6, "the file has 10 MB"
    finally:
        tracemalloc.stop()


def test_a_suite_takes_no_more_memory_than_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    filler = "x" * 10_000
    path.write_text("".join(json.dumps({"input": f"{i} {filler}"}) + "\n" for i in range(1000)))
    suite(path)  # loads what is imported where it is used
    tracemalloc.start()
    try:
        kept = suite(path)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept.samples()) == 1000
    assert 10e6 < peak < 1.1 * held


# -- settings above the samples -----------------------------------------------------------------------------------

SHEET = """
name: capitals
system: Answer truthfully.
max_tokens: 20
repeats: 5
pass_rate: 0.8
require: {rate: 0.9, max_seconds: 2}
assert: [{not: "contains:sorry"}]
samples:
- {id: japan, input: "What is the capital of Japan?", target: Tokyo, assert: ["contains:Tokyo"], tags: facts}
- {id: peru, input: "What is the capital of Peru?", target: Lima}
"""


def test_settings_above_the_samples_are_those_of_the_suite(tmp_path: Path) -> None:
    made = suite(write(tmp_path / "c.suite.yaml", SHEET))
    assert (made.name, made.system, made.repeats, made.pass_rate) == ("capitals", "Answer truthfully.", 5, 0.8)
    assert made.options("generate").set() == {"max_tokens": 20}
    assert made.requirements == {"rate": 0.9, "max_seconds": 2}
    assert made.where_is["peru"].endswith("c.suite.yaml:11")
    assert suite(tmp_path / "c.suite.yaml", repeats=2, name="mine").repeats == 2


def test_name_of_a_suite_file_has_no_suffix(tmp_path: Path) -> None:
    assert suite(write(tmp_path / "c.suite.jsonl", '{"input": "a"}')).name == "c"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("repeat: 5", r"s\.yaml: No option of a suite 'repeat'. Did you mean 'repeats'"),
        ("repeats: 0", "repeats is a whole number, 1 or more; got 0"),
        ("pass_rate: 80", r"pass_rate is a share of the repeats, in \(0, 1\]; got 80"),
        ("require: 0.9", "require is a mapping such as"),
        ("require: {rat: 0.9}", "No requirement of a suite 'rat'. Did you mean 'rate'"),
        ("system: [a]", "setting 'system' should be text"),
        ("assert: contain:x", "No scorer 'contain'. Did you mean 'contains'"),
        ("assert: []", "an empty list of assertions asserts nothing"),
    ],
)
def test_wrong_settings_are_named(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=message):
        suite(write(tmp_path / "s.yaml", f"{setting}\nsamples:\n- input: a\n"))


@pytest.mark.parametrize(
    ("asserted", "message"),
    [
        ('["contain:x"]', r"s\.yaml:1: field 'assert': No scorer 'contain'. Did you mean 'contains'"),
        ("[{rouge: rougeL}]", "rouge gives a grade from 0 to 1; say from which value it passes"),
        ("[{rouge: rougeL, threshold: 2}]", r"a threshold is a number in \(0, 1\]"),
        ("[{max_cost: -1}]", "max_cost is a positive number of US dollars; got -1"),
        ("[{max_secs: 1}]", "No scorer 'max_secs'"),
        ("[3]", "an assertion is a scorer, words such as 'contains:refund', or a mapping; got 3"),
    ],
)
def test_wrong_assertions_are_named_with_their_line(asserted: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        suite(write(tmp_path / "s.yaml", f"- {{input: a, assert: {asserted}}}\n"))


def test_assertions_of_the_suite_are_added_to_those_of_the_sample(tmp_path: Path) -> None:
    from tests.unit_benchmarks.replies import said

    made = suite(write(tmp_path / "c.yaml", SHEET))
    japan, peru = made.samples()

    def value(sample: Any, text: str) -> float:
        return made.score(sample, said(text)).value

    assert [value(japan, t) for t in ("Tokyo.", "Kyoto.", "Sorry, Tokyo.")] == [1, 0, 0]
    # an item without assertions of its own has only those of the suite
    assert [value(peru, t) for t in ("Lima.", "Sorry, Lima.")] == [1, 0]


def test_limits_of_the_suite_leave_the_usual_scorer_in_place() -> None:
    from llmlab.benchmarks.base import Reply
    from llmlab.types import Response

    made = suite([{"input": "Capital?", "target": "Paris"}], checks=[{"max_seconds": 2}])
    sample = made.samples()[0]

    def value(text: str, seconds: float) -> float:
        return made.score(sample, Reply(Response(text, seconds=seconds))).value

    assert [value("Paris", 1), value("Paris", 3), value("Rome", 1)] == [1, 0, 0]


def test_version_follows_the_assertions() -> None:
    rows = [{"input": "a", "target": "b"}]
    versions = {suite(rows, checks=c).version for c in (None, "contains:x", "contains:y", {"max_cost": 1})}
    assert len(versions) == 4
