"""Where else curves go while a model trains: TensorBoard, Weights & Biases, MLflow or trackio, by name.

Each is told what was logged, step by step, and the losses after the training too. A training that continues after a
kill continues its run there; one that fails is marked as failed. What a user has set up (the environment variables of
each package, a run of W&B that is open) holds.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeAlias

from llmlab.errors import MissingKey, MissingPackage
from llmlab.finetune import ranks
from llmlab.finetune.config import Recipe
from llmlab.finetune.runs import Run
from llmlab.types import digest

FOLDER = "tensorboard"
"""In a training's folder: `tensorboard --logdir FOLDER` shows it."""

PROJECT = "llmlab"
_MLFLOW = "mlflow_run"
# one line at the end that repeats what the curves say
_SUMMARY = ("train_", "total_flos")

Log: TypeAlias = Callable[[int, Mapping[str, float]], None]


def require(recipe: Recipe) -> None:
    """Make sure that the packages are there, before anything is loaded.

    Raises:
        MissingPackage: with the command that installs them.
    """
    for name in recipe.report_to:
        spec = importlib.util.find_spec(name)
        # a folder `wandb`, which that package makes where it runs, can be imported as well, and has no origin
        if spec is None or spec.origin is None:
            raise MissingPackage(f"report_to: {name!r} needs the package {name!r}: pip install {name}")


@contextmanager
def reporting(run: Run, recipe: Recipe) -> Iterator[list[Any]]:
    """Callbacks for transformers' trainer, one for each reporter; what they opened is closed at the end.

    Of several processes only the first reports.

    Raises:
        MissingKey: when a reporter wants to be logged in.
    """
    names = recipe.report_to if ranks.first() else ()
    with ExitStack() as stack:
        yield [_callback(stack.enter_context(_REPORTERS[name](run))) for name in names]


def _callback(log: Log) -> Any:
    from transformers import TrainerCallback

    class Report(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
            told = {_named(k): float(v) for k, v in numbers.items() if not k.startswith(_SUMMARY)}
            if told:
                log(state.global_step, told)

    return Report()


def _named(name: str) -> str:
    """Names of curves in groups, as others have them: "train/loss", "eval/loss"."""
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"


def _name(run: Run) -> str:
    return f"{run.folder.name}-{_id(run)[:4]}"


def _id(run: Run) -> str:
    """The same after a kill, another one when the training begins anew."""
    return digest(run.record["key"], run.record["started"])


def _about(run: Run) -> dict[str, Any]:
    return {name: run.record[name] for name in ("base", "weights", "parameters", "recipe", "data", "versions")}


@contextmanager
def _tensorboard(run: Run) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    make: Any = SummaryWriter
    writer = make(log_dir=str(run.folder / FOLDER))

    def log(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    try:
        yield log
    finally:
        writer.close()


@contextmanager
def _wandb(run: Run) -> Iterator[Log]:
    import wandb

    theirs = wandb.run
    try:
        told = theirs or wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=_name(run), id=_id(run), resume="allow"
        )
    except wandb.errors.UsageError as error:
        raise MissingKey(
            f"report_to: 'wandb' is not logged in ({error}); set WANDB_API_KEY, or WANDB_MODE=offline to write files"
        ) from error
    told.config.update(_about(run), allow_val_change=True)
    told.define_metric("step")
    told.define_metric("*", step_metric="step")
    failed = True
    try:
        yield lambda step, values: told.log({**values, "step": step})
        failed = False
    finally:
        if theirs is None:
            told.finish(exit_code=int(failed))


@contextmanager
def _mlflow(run: Run) -> Iterator[Log]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client: Any = MlflowClient()
    began = run.record.get(_MLFLOW)
    if began is None:
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = client.get_experiment_by_name(project)
        place = there.experiment_id if there else client.create_experiment(project)
        began = client.create_run(place, run_name=_name(run)).info.run_id
        params = [Param(name, str(value)) for name, value in _flat(_about(run))]
        client.log_batch(began, params=params)
        run.update(**{_MLFLOW: began})

    def log(step: int, values: Mapping[str, float]) -> None:
        now = round(1000 * time.time())
        client.log_batch(began, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    status = "FAILED"
    try:
        yield log
        status = "FINISHED"
    finally:
        client.set_terminated(began, status)


@contextmanager
def _trackio(run: Run) -> Iterator[Log]:
    import trackio

    told = trackio.init(PROJECT, name=_name(run), resume="allow", config=_about(run), embed=False)
    try:
        yield lambda step, values: told.log(dict(values), step=step)
    finally:
        trackio.finish()


_REPORTERS: dict[str, Callable[[Run], AbstractContextManager[Log]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
