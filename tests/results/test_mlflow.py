"""Results in MLflow: with the real package where it is installed, and a clear word where it is not."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

import llmlab as lab
from llmlab.errors import LabError, MissingPackage
from llmlab.results import Results
from llmlab.results.mlflow import metrics, to_mlflow


@pytest.fixture(scope="module")
def results() -> Results:
    suite = lab.suite([lab.Sample("a", target="a"), lab.Sample("b", target="c")], scorer="exact", name="two & more")
    return lab.evaluate({"echo": "scripted/echo", "other": "scripted/echo"}, suite, store="sqlite://", progress=False)


def test_metrics_are_those_of_the_summary_and_unknown_ones_are_left_out(results: Results):
    found = metrics(results.filter(model="echo"))
    (line,) = results.filter(model="echo").summary().to_dict("records")
    for name in ("score", "low", "high", "n", "failed"):
        assert found[f"two _ more/{name}"] == line[name]
    assert all(value == value for value in found.values())


def test_missing_package_says_what_to_install(results: Results, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingPackage, match="pip install mlflow"):
        to_mlflow(results)


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_runs_metrics_and_rows_arrive_in_a_local_store(results: Results, tmp_path: Path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (pip install mlflow)")
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking)
    client.create_experiment("nightly", artifact_location=(tmp_path / "artefacts").as_uri())
    made = to_mlflow(results, tracking=tracking, experiment="nightly")
    assert len(made) == 2
    run = client.get_run(made[0])
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "echo"
    assert run.data.metrics["two _ more/score"] == 0.5
    assert run.data.params["run"] == results.samples["run"].iloc[0]
    began = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    assert run.data.params["run"].startswith(f"{began:%Y%m%d-%H%M%S}")
    (artefact,) = client.list_artifacts(made[0])
    assert artefact.path == "rows.csv"
    rows = pd.read_csv(client.download_artifacts(made[0], "rows.csv", str(tmp_path)))
    assert list(rows["score"]) == [1.0, 0.0]
    assert len(to_mlflow(results, tracking=tracking, experiment="nightly")) == 2  # the experiment is there already
    with pytest.raises(LabError, match="MLflow at nonsense://x did not take the results"):
        to_mlflow(results, tracking="nonsense://x")
