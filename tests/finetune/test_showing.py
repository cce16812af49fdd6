"""What a user sees while a model trains: a widget in a notebook, curves in TensorBoard and its kin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmlab.errors import MissingPackage, UnknownName
from llmlab.finetune import train
from llmlab.finetune.config import recipe
from llmlab.finetune.live import drawing, in_notebook
from llmlab.finetune.methods import Diverged
from llmlab.finetune.train import finetune
from llmlab.finetune.tuned import FineTune

from .conftest import QUICK, TICKETS

LOG: list[dict[str, float]] = [
    {"step": 0, "eval_loss": 5.0},
    {"step": 1, "loss": 4.0, "tokens_per_second": 900.0},
    {"step": 2, "loss": 2.0, "tokens_per_second": 800.0},
    {"step": 2, "eval_loss": 3.0},
]


def test_drawing_has_a_panel_per_curve_and_the_held_out_points() -> None:
    shown = drawing(LOG)
    assert shown.count("<svg") == 2 and shown.count("<circle") == 2
    assert "loss (nats per token): 2" in shown and "held out 3" in shown and "steps 0 to 2, 2 to 5" in shown
    # the held-out loss of 5 is at the top, the last training loss at the bottom right
    assert "cx='0.0' cy='18.0'" in shown and "300.0,102.0'" in shown
    assert drawing(LOG[:2]) == ""


def test_terminal_is_no_notebook() -> None:
    assert not in_notebook()


@pytest.mark.parametrize(
    ("notebook", "live", "progress", "shown"),
    [
        (True, None, True, ["Live"]),
        (True, None, False, []),
        (True, False, True, ["Bar"]),
        (False, None, True, ["Bar"]),
        (False, True, False, ["Live"]),
    ],
)
def test_curves_are_shown_in_a_notebook_unless_told_otherwise(
    notebook: bool, live: bool | None, progress: bool, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "in_notebook", lambda: notebook)
    assert [type(one).__name__ for one in train._shown(progress, live)] == shown


@pytest.mark.slow
def test_widget_follows_a_training_in_a_real_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = ", ".join(f"{k}={v!r}" for k, v in (QUICK | {"progress": True, "evaluate_every": 2}).items())
    call = f"lab.finetune('micro/small', {str(TICKETS)!r}, folder={str(tmp_path / 'run')!r}, {settings})"
    cell = f"import llmlab as lab\ntuned = {call}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    states = [
        one["state"]
        for one in notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    ]
    (bar,) = [one for one in states if one.get("_model_name") == "IntProgressModel"]
    assert (bar["value"], bar["max"], bar["bar_style"]) == (4, 4, "success")
    texts = [one["value"] for one in states if one.get("_model_name") == "HTMLModel"]
    assert any("step 4 of 4" in text and "held-out loss" in text for text in texts)
    assert any(text.count("<svg") == 2 and text.count("<circle") == 3 for text in texts)
    assert not any("FloatProgress" in str(one.get("_model_name")) for one in states)  # no second bar


# -- reporters ------------------------------------------------------------------------------------------------


def test_tensorboard_gets_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="an extra of the user's")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tuned = finetune("micro/small", TICKETS, folder=tmp_path / "run", report_to=["tensorboard"], **QUICK)
    events = EventAccumulator(str(tuned.folder / "tensorboard"))
    events.Reload()
    written = {event.step: event.value for event in events.Scalars("train/loss")}
    logged = tuned.curves.query("loss.notna()")
    assert written == pytest.approx(dict(zip(logged["step"], logged["loss"], strict=True)), rel=1e-5)
    held = [event.value for event in events.Scalars("eval/loss")]
    # before the first step, and after the last
    assert held == pytest.approx([tuned.metrics[f"held_out_loss_{when}"] for when in ("before", "after")], rel=1e-5)


def twice(folder: Path, reporter: str) -> list[FineTune]:
    """Two trainings in one process, and one that fails."""
    settings: dict[str, Any] = QUICK | {"steps": 2, "report_to": reporter}
    done = [finetune("micro/small", TICKETS, folder=folder / f"run{i}", seed=i, **settings) for i in range(2)]
    with pytest.raises(Diverged):
        changes: dict[str, Any] = {"method": "full", "learning_rate": 1e18, "clip": 1e18, "warmup": 0.0, "steps": 6}
        finetune("micro/small", TICKETS, folder=folder / "bad", **settings | changes)
    return done


@pytest.mark.slow
def test_wandb_gets_a_run_per_training_and_hears_of_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="an extra of the user's: pip install 'llmlab[reporters]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    finished: list[int | None] = []
    finish = wandb.Run.finish
    monkeypatch.setattr(
        wandb.Run, "finish", lambda self, exit_code=None: finished.append(exit_code) or finish(self, exit_code)
    )
    twice(tmp_path, "wandb")
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 3 and finished == [0, 0, 1] and wandb.run is None
    assert all(b"train/loss" in file.read_bytes() and b"micro/small" in file.read_bytes() for file in files)
    # a run that the user began takes the curves and stays open
    with wandb.init(project="mine", dir=str(tmp_path)) as own:
        finetune("micro/small", TICKETS, folder=tmp_path / "theirs", report_to="wandb", **QUICK | {"steps": 1})
        assert wandb.run is own and own.summary["eval/loss"] > 0
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of mlflow's own code
def test_mlflow_gets_a_run_per_training_that_continues_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an extra of the user's: pip install 'llmlab[reporters]'")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    done = twice(tmp_path, "mlflow")
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("llmlab").experiment_id
    runs = {run.info.run_id: run for run in client.search_runs(place)}
    assert sorted(run.info.status for run in runs.values()) == ["FAILED", "FINISHED", "FINISHED"]
    assert mlflow.active_run() is None
    for tuned in done:
        run = runs[tuned.record["mlflow_run"]]
        assert run.data.params["recipe.rank"] == "4" and run.data.params["data.hash"] == tuned.record["data"]["hash"]
        held = [point.value for point in client.get_metric_history(run.info.run_id, "eval/loss")]
        assert held == pytest.approx([tuned.metrics[f"held_out_loss_{when}"] for when in ("before", "after")])
    # the one that failed goes on in its own run
    with pytest.raises(Diverged):
        changes: dict[str, Any] = {"method": "full", "learning_rate": 1e18, "clip": 1e18, "warmup": 0.0, "steps": 6}
        finetune("micro/small", TICKETS, folder=tmp_path / "bad", **QUICK | {"report_to": "mlflow"} | changes)
    assert len(client.search_runs(place)) == 3


@pytest.mark.slow
def test_trackio_gets_a_run_per_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="an extra of the user's: pip install trackio")
    import sqlite3

    twice(tmp_path, "trackio")
    rows = sqlite3.connect(tmp_path / "trackio" / "llmlab.db").execute("select run_name, step, metrics from metrics")
    found = [(name, step, json.loads(metrics)) for name, step, metrics in rows]
    losses = {(name.partition("-")[0], step) for name, step, metrics in found if "train/loss" in metrics}
    assert losses >= {("run0", 1), ("run0", 2), ("run1", 1), ("run1", 2), ("bad", 1)}
    assert sum("eval/loss" in metrics for name, _, metrics in found if name.startswith("run0-")) == 2


def test_reporters_do_not_change_what_a_training_is(tmp_path: Path) -> None:
    settings: dict[str, Any] = QUICK | {"steps": 1}
    first = finetune("micro/small", TICKETS, folder=tmp_path / "run", **settings)
    pytest.importorskip("tensorboard", reason="an extra of the user's")
    again = finetune("micro/small", TICKETS, folder=tmp_path / "run", report_to="tensorboard", **settings)
    assert again.record["ended"] == first.record["ended"]


def test_unknown_reporter_is_refused_with_the_list() -> None:
    with pytest.raises(UnknownName, match=r"No reporter 'tensorbord'. Did you mean 'tensorboard'\? Known: mlflow, "):
        recipe(report_to=["tensorbord"])
    assert recipe(config={"report_to": "wandb"}).report_to == ("wandb",)


def test_missing_package_of_a_reporter_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "trackio" else find(name, *rest)
    )
    with pytest.raises(MissingPackage, match=r"report_to: 'trackio' needs the package 'trackio': pip install trackio"):
        finetune("micro/small", TICKETS, folder=tmp_path / "run", report_to=["trackio"], **QUICK)
    assert not (tmp_path / "run").exists()


def test_folder_that_has_a_reporters_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    # wandb leaves a folder of its name where it ran, and Python can import any folder
    (tmp_path / "trackio").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    find = importlib.util.find_spec
    if (spec := find("trackio")) is not None and spec.origin is not None:
        pytest.skip("trackio is installed")
    with pytest.raises(MissingPackage, match="pip install trackio"):
        finetune("micro/small", TICKETS, folder=tmp_path / "run", report_to=["trackio"], **QUICK)
