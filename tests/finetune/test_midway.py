"""Benchmarks that are scored while a model trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import llmlab as lab
from llmlab.errors import DataError, UnknownName
from llmlab.finetune.curves import scored
from llmlab.finetune.live import drawing
from llmlab.finetune.train import finetune
from llmlab.finetune.tuned import FineTune

from .conftest import QUICK, TICKETS

NAME = "eval_micro/hellaswag"


def tune(folder: Path, **changes: Any) -> FineTune:
    store = f"sqlite:///{folder}.db"
    settings: dict[str, Any] = QUICK | {"evaluate_on": ["micro/hellaswag", "target"], "evaluate_n": 8, "store": store}
    return finetune("micro/small", TICKETS, folder=folder, **settings | changes)


@pytest.mark.parametrize("method", ["lora", pytest.param("qlora", marks=pytest.mark.slow)])
def test_scores_are_those_of_the_finished_model_and_change_nothing(tmp_path: Path, method: Any) -> None:
    tuned = tune(tmp_path / "run", method=method, evaluate_every=2)
    rows = tuned.curves.dropna(subset=NAME)
    assert list(rows["step"]) == [0, 2, 4] and set(scored(tuned.curves.columns)) == {"micro/hellaswag", "target"}
    assert (rows[f"{NAME}_low"] <= rows[NAME]).all() and (rows[NAME] <= rows[f"{NAME}_high"]).all()
    models = {"base": tuned.base} | ({"tuned": tuned.model} if method == "lora" else {})
    after = lab.evaluate(models, "micro/hellaswag", n=8, store="sqlite://", progress=False).summary()
    expected = dict(zip(after["model"], after["score"], strict=True))
    if method == "lora":  # in training, qlora answers from four bits
        assert rows[NAME].iloc[-1] == expected["tuned"]
        assert rows[NAME].iloc[0] == expected["base"]
    plain = tune(tmp_path / "plain", method=method, evaluate_every=2, evaluate_on=())
    ours, theirs = (load_file(run.folder / "adapter" / "adapter_model.safetensors") for run in (tuned, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert tuned.metrics["held_out_loss_after"] == plain.metrics["held_out_loss_after"]


def test_best_checkpoint_can_go_by_a_score(tmp_path: Path) -> None:
    tuned = tune(tmp_path / "run", evaluate_every=1, best="micro/hellaswag", method="full", learning_rate=0.05)
    rows = tuned.curves.dropna(subset=NAME).query("step > 0")
    best = rows.loc[rows[NAME].idxmax(), "step"]
    assert tuned.record["best"] == best
    assert lab.evaluate(tuned.model, "micro/hellaswag", n=8, store="sqlite://", progress=False).summary()["score"].iloc[
        0
    ] == pytest.approx(rows[NAME].max())


def test_scores_are_drawn(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    from llmlab.finetune.curves import plot

    log = [
        {
            "step": step,
            "loss": 3.0 - step,
            "eval_a/b": 0.25 * step,
            "eval_a/b_low": 0.1 * step,
            "eval_a/b_high": 0.5 * step,
        }
        for step in range(3)
    ]
    import pandas as pd

    axes = plot(pd.DataFrame(log), {})
    assert axes[-1].get_title(loc="left") == "a/b 0 to 50 %"
    assert "a/b, share right: 0.5" in drawing(log)
    plt.close("all")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"best": "micro/arc", "evaluate_every": 1}, UnknownName, "No curve to choose the best by 'micro/arc'"),
        ({"best": "target"}, DataError, "set evaluate_every as well"),
        ({"evaluate_on": ["micro/hellswag"]}, UnknownName, "Did you mean 'micro/hellaswag'"),
        ({"validation": 0.0}, DataError, "evaluate_on: evaluations need held-out examples"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, changes: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        tune(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
