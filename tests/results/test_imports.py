"""Results of other tools become runs of ours: what they say is kept, what they do not say is unknown."""

from __future__ import annotations

import json
import math
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import llmlab as lab
from llmlab.errors import DataError, UnknownName
from llmlab.results import Results
from llmlab.results.imports import import_results, read
from llmlab.store import Store

DATE = "2026-03-04T05-06-07.890123"


def sample(doc: int, **changes: Any) -> dict[str, Any]:
    """A line of a samples file as lm-eval writes it, about questions of our own."""
    made = {
        "doc_id": doc,
        "doc": {"question": f"Which is the colour of stone {doc}?"},
        "target": "grey",
        "arguments": {"gen_args_0": {"arg_0": f"Q: colour of stone {doc}?\nA:", "arg_1": {"until": ["\n"]}}},
        "resps": [[" grey."]],
        "filtered_resps": ["grey"],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": "d" * 64,
        "prompt_hash": f"{doc:x}" * 64,
        "target_hash": "t" * 64,
        "exact_match": float(doc % 2 == 0),
    }
    return made | changes


def write_lm_eval(folder: Path, samples: list[dict[str, Any]], task: str = "stones", **said: Any) -> tuple[Path, Path]:
    """(samples file, results file)"""
    results = {
        "results": {task: {"alias": task, "exact_match,strict-match": 0.5}},
        "configs": {task: {"task": task}},
        "versions": {task: 2.0},
        "n-shot": {task: 5},
        "config": {"model": "hf", "model_args": "pretrained=org/tiny"},
        "git_hash": "abc1234",
        "date": 1772600767.0,
        "transformers_version": "4.57.0",
        "model_name": "org/tiny",
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"samples_{task}_{DATE}.jsonl", folder / f"results_{DATE}.json"
    paths[0].write_text("".join(json.dumps(s) + "\n" for s in samples))
    paths[1].write_text(json.dumps(results | said))
    return paths


def inspect_log(**changes: Any) -> dict[str, Any]:
    """A log as Inspect writes it, about questions of our own."""

    def one(number: int, epoch: int, value: Any, **more: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": [{"type": "text", "text": f"ANSWER: {number}"}]}
        return {
            "id": number,
            "epoch": epoch,
            "input": [{"role": "system", "content": "Count."}, {"role": "user", "content": f"{number} apples?"}],
            "target": [str(number)],
            "output": {
                "model": "tiny-2026-01-01",
                "choices": [{"message": message, "stop_reason": "max_tokens" if number == 2 else "stop"}],
                "time": 0.5,
            },
            "scores": {
                "match": {"value": value, "answer": str(number), "explanation": "counted"},
                "length": {"value": 9},
            },
            "model_usage": {"org/tiny": {"input_tokens": 12, "output_tokens": 3, "input_tokens_cache_read": 4}},
        } | more

    made = {
        "version": 2,
        "status": "success",
        "eval": {
            "task": "apples",
            "task_version": 3,
            "model": "org/tiny",
            "created": "2026-03-04T07:06:07+02:00",
            "run_id": "r1",
            "packages": {"inspect_ai": "0.3.285"},
            "config": {"epochs": 2},
        },
        "samples": [
            one(1, 1, "C"),
            one(1, 2, "I"),
            one(2, 1, "P"),
            one(2, 2, True),
            one(3, 1, None, error={"message": "connection lost", "traceback": "..."}, scores={}),
        ],
    }
    return made | changes


@pytest.fixture
def store():
    with Store("sqlite://") as opened:
        yield opened


def test_lm_eval_samples_become_rows_that_say_where_they_are_from(tmp_path: Path, store: Store):
    path, _ = write_lm_eval(tmp_path, [sample(i) for i in range(4)])
    (run,) = import_results(path, store)
    rows = store.results(run)
    first = rows[0]
    assert [r["score"] for r in rows] == [1.0, 0.0, 1.0, 0.0]
    said = {"model": "org/tiny", "benchmark": "stones", "benchmark_version": "2.0", "protocol": "lm-eval/strict-match"}
    said |= {"metric": "exact_match", "sample": "0", "text": " grey.", "answer": "grey", "target": "grey"}
    assert said.items() <= first.items()
    assert first["prompt"] == "Q: colour of stone 0?\nA:"
    assert first["provenance"] == {"imported": "lm-eval", "file": path.name, "git": "abc1234"}
    assert math.isnan(first["cost"])
    assert math.isnan(first["seconds"])
    assert first["input_tokens"] is None
    line = store.runs().loc[run]
    assert line["created"] == datetime.fromtimestamp(1772600767, UTC)
    assert (line["name"], line["status"], line["rows"]) == ("lm-eval stones", "complete", 4)
    assert line["config"]["n-shot"] == 5
    assert store.spending.history() == []


def test_results_file_brings_all_samples_beside_it(tmp_path: Path, store: Store):
    write_lm_eval(tmp_path, [sample(0)], "other")
    _, results = write_lm_eval(tmp_path, [sample(i) for i in range(2)])
    made = import_results(results, store)
    assert sorted(store.runs().loc[made, "benchmarks"].map(tuple)) == [("other",), ("stones",)]


def test_filters_and_log_likelihoods_are_kept_apart(tmp_path: Path):
    choice = {
        "resps": [[["-1.5", "False"]], [["-0.2", "True"]]],
        "filtered_resps": [["-1.5", "False"], ["-0.2", "True"]],
    }
    logs = sample(0, filter="none", metrics=["acc", "acc_norm"], acc=1.0, acc_norm=0.0, target=1, **choice)
    del logs["exact_match"]
    (found,) = read(write_lm_eval(tmp_path / "a", [logs])[0])
    (row,) = found.rows
    assert (row["protocol"], row["metric"], row["score"]) == ("lm-eval", "acc", 1.0)
    assert row["metrics"] == {"acc": 1.0, "acc_norm": 0.0}
    assert (row["target"], row["answer"]) == ("1", None)
    both = [sample(0), sample(0, filter="flexible-extract", exact_match=1.0)]
    (found,) = read(write_lm_eval(tmp_path / "b", both)[0])
    assert [r["protocol"] for r in found.rows] == ["lm-eval/strict-match", "lm-eval/flexible-extract"]
    assert [r["repeat"] for r in found.rows] == [0, 0]


def test_metric_can_be_chosen_and_must_be_a_score(tmp_path: Path):
    two = [sample(i, metrics=["bits", "exact_match"], bits=3.5) for i in range(2)]
    path, _ = write_lm_eval(tmp_path, two)
    assert read(path)[0].rows[0]["metric"] == "exact_match"
    with pytest.raises(UnknownName, match=r"No metric in .*'exact'.* Did you mean 'exact_match'"):
        read(path, metric="exact")
    with pytest.raises(DataError, match=r"bits is not in \[0, 1\]"):
        read(path, metric="bits")
    path, _ = write_lm_eval(tmp_path / "b", [sample(0, metrics=["bits"], bits=3.5)])
    with pytest.raises(DataError, match=r"none of its metrics \(bits\) is a number in \[0, 1\]"):
        read(path)


def test_inspect_log_becomes_rows_with_epochs_as_repeats(tmp_path: Path, store: Store):
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log()))
    (run,) = import_results(path, store)
    rows = store.results(run)
    assert [(r["sample"], r["repeat"]) for r in rows] == [("1", 0), ("1", 1), ("2", 0), ("2", 1), ("3", 0)]
    assert [r["score"] for r in rows[:4]] == [1.0, 0.0, 0.5, 1.0]
    failed = rows[4]
    assert math.isnan(failed["score"])
    assert failed["error"] == "connection lost"
    first = rows[0]
    said = {"model": "org/tiny", "benchmark": "apples", "benchmark_version": "3", "protocol": "inspect"}
    said |= {"metric": "match", "text": "ANSWER: 1", "answer": "1", "explanation": "counted", "target": '["1"]'}
    said |= {"input_tokens": 12, "output_tokens": 3, "cached_tokens": 4, "seconds": 0.5, "finish_reason": "stop"}
    assert said.items() <= first.items()
    assert first["prompt"] == "system: Count.\n\nuser: 1 apples?"
    assert rows[2]["truncated"]
    assert first["metrics"] == {"match": 1.0, "length": 9.0}
    assert store.runs().loc[run]["created"].isoformat() == "2026-03-04T05:06:07+00:00"
    summary = Results(rows).summary()
    assert summary["n"].tolist() == [2]
    assert summary["failed"].tolist() == [1]


def test_eval_file_is_the_same_log_in_a_zip(tmp_path: Path):
    log = inspect_log()
    samples = log.pop("samples")
    with zipfile.ZipFile(tmp_path / "log.eval", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("header.json", json.dumps(log))
        for one in samples:
            file.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
    (tmp_path / "log.json").write_text(json.dumps(inspect_log()))
    (zipped,), (plain,) = read(tmp_path / "log.eval"), read(tmp_path / "log.json")
    names = ("sample", "repeat", "text", "error", "target")
    assert [[r[n] for n in names] for r in zipped.rows] == [[r[n] for n in names] for r in plain.rows]


def test_same_file_is_imported_once_and_the_latest_run_stays_the_latest(tmp_path: Path, store: Store):
    ours = lab.evaluate(["scripted/echo"], lab.suite([lab.Sample("a", target="a")]), store=store, progress=False)
    path, _ = write_lm_eval(tmp_path, [sample(0)])
    (run,) = import_results(path, store)
    assert store.results()[0]["run"] == ours.samples["run"].iloc[0]
    with pytest.raises(DataError, match=f"is in this store already, as run {run}"):
        import_results(path, store)
    assert len(store.runs()) == 2


def test_imported_models_are_compared_paired_with_each_other(tmp_path: Path, store: Store):
    rows = []
    for name, wrong in (("a", 3), ("b", 9)):
        samples = [sample(i, exact_match=float(i >= wrong)) for i in range(20)]
        path, _ = write_lm_eval(tmp_path / name, samples, model_name=name)
        rows += store.results(import_results(path, store)[0])
    (line,) = Results(rows).compare("a").table.to_dict("records")
    assert (line["n"], round(line["difference"], 2)) == (20, -0.3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "hello", "is no file of a known tool; known are lm-eval"),
        ("a.json", '{"some": "thing"}', "is no file of a known tool"),
        ("a.json", '{"results": ', "not JSON .*was it cut short"),
        ("a.json", "[1]", "expected a JSON object, found list"),
        ("samples_t.jsonl", "", "does not say which model answered"),
        ("samples_t.jsonl", '{"doc_id": 1}', "does not say which model"),
        ("results_x.json", '{"results": {}, "n-shot": {}}', "holds means only, .*--log_samples"),
        ("log.json", '{"eval": {"model": "m"}, "status": "started"}', r"holds no samples \(status 'started'\)"),
        ("missing.json", None, "cannot be read: No such file"),
        ("a.eval", b"PK\x03\x04 and then nothing", "is damaged|known tool|not JSON|no log of Inspect"),
    ],
)
def test_what_cannot_be_imported_says_why(tmp_path: Path, name: str, content: str | bytes | None, message: str):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no samples"),
        ('{"doc_id": 1}', "sample 1: no metrics, target; this is no samples file"),
        (f'{json.dumps(sample(0))}\n{{"doc_id', "line 2: not JSON .*was it cut short"),
    ],
)
def test_half_written_samples_say_where(tmp_path: Path, line: str, message: str):
    (tmp_path / "samples_t.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "samples_t.jsonl", model="m")


def test_command_imports_several_files(tmp_path: Path):
    from llmlab.cli.app import app

    path, _ = write_lm_eval(tmp_path, [sample(0)])
    (tmp_path / "log.json").write_text(json.dumps(inspect_log()))
    where = ["--store", f"sqlite:///{tmp_path / 'runs.db'}"]
    done = CliRunner().invoke(app, ["import", str(path), str(tmp_path / "log.json"), "--project", "old", *where])
    assert done.exit_code == 0, done.output
    assert done.output.count("`llmlab show ") == 2
    with Store(where[1]) as store:
        assert list(store.runs()["project"]) == ["old", "old"]


def test_imported_runs_join_the_history_of_a_watch(tmp_path: Path, store: Store):
    watch = lab.monitor(name="nightly", store=store)
    for night in range(3):
        right = [float(doc % 4 > 0 and not (night == 2 and doc % 2)) for doc in range(60)]
        lines = [sample(doc, exact_match=right[doc]) for doc in range(60)]
        lines += [sample(doc, filter="flexible", exact_match=1.0) for doc in range(60)]
        (samples, _) = write_lm_eval(tmp_path / f"{night}", lines, date=1772600767.0 + 86400 * night)
        named = samples.rename(samples.with_name(f"samples_stones_2026-03-{4 + night:02}T05-06-07.890123.jsonl"))
        (run,) = import_results(named, store, model="tiny")
        check = watch.adopt(run)
    fallen = [f for f in check.findings if f.kind == "score"]
    assert [(f.model, f.benchmark) for f in fallen] == [("tiny", "stones (lm-eval/strict-match)")]
    assert [f"{at:%d}" for at in watch.history().frame["at"].unique()] == ["04", "05", "06"]
    assert lab.monitor(name="nightly", store=store).report(tmp_path / "r.md").read_text().count("stones")
    with pytest.raises(DataError, match=r"has a round of 2026-03-06.*Adopt runs in the order of their dates"):
        watch.adopt(watch.rounds()[0].run)
