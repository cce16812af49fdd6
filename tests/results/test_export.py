"""The CSV file: every row, in full, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import json

import pytest

from llmlab.results import COLUMNS, Results


def read(path):
    csv.field_size_limit(10_000_000)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_and_column_is_written(row, failed, tmp_path):
    path = Results([row(), failed(sample="2")]).to_csv(tmp_path / "results.csv")
    written = read(path)
    assert len(written) == 2
    assert set(COLUMNS) - {"metrics"} == set(written[0])
    assert written[1]["score"] == ""
    assert written[1]["error"] == "429 Too Many Requests"


def test_metrics_become_columns(row, tmp_path):
    written = read(Results([row(metrics={"mc2": 0.25}), row(sample="2")]).to_csv(tmp_path / "r.csv"))
    assert [line["metric.mc2"] for line in written] == ["0.25", ""]


def test_long_and_awkward_text_is_kept_whole(row, tmp_path):
    text = 'a "quoted", \n line; 漢字 ' + "x" * 200_000
    assert read(Results([row(text=text)]).to_csv(tmp_path / "r.csv"))[0]["text"] == text


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_formulas_are_defused(row, tmp_path, text):
    written = read(Results([row(text=text)]).to_csv(tmp_path / "r.csv"))[0]["text"]
    assert written == f"'{text}"


@pytest.mark.parametrize("text", ["-5", "+3.5", "-1e3"])
def test_plain_numbers_stay_numbers(row, tmp_path, text):
    assert read(Results([row(answer=text)]).to_csv(tmp_path / "r.csv"))[0]["answer"] == text


def test_a_metric_with_a_formula_for_a_name_is_defused(row, tmp_path):
    assert "'=x" not in COLUMNS
    written = read(Results([row(metrics={"=x": 1.0})]).to_csv(tmp_path / "r.csv"))[0]
    assert written["metric.=x"] == "1.0"
    assert not any(name.startswith("=") for name in written)


def test_settings_are_json(row, tmp_path):
    written = read(Results([row(applied={"temperature": 0}, dropped=["top_k"])]).to_csv(tmp_path / "r.csv"))[0]
    assert json.loads(written["applied"]) == {"temperature": 0}
    assert json.loads(written["dropped"]) == ["top_k"]


def test_unknown_counts_are_empty_cells(row, tmp_path):
    written = read(Results([row(input_tokens=None, output_tokens=7)]).to_csv(tmp_path / "r.csv"))[0]
    assert (written["input_tokens"], written["output_tokens"]) == ("", "7")


def test_no_rows_write_the_header(tmp_path):
    path = Results([]).to_csv(tmp_path / "deep" / "r.csv")
    assert path.read_text(encoding="utf-8").startswith("run,model,benchmark,")
