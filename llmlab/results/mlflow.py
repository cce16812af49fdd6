"""Results to MLflow: one MLflow run per model, so that its own pages compare models as ours do."""

from __future__ import annotations

import importlib
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import LabError, MissingPackage

if TYPE_CHECKING:
    from llmlab.results.results import Results

_COUNTS = ("truncated", "empty", "refused", "unparsable", "unjudged", "failed")
# https://mlflow.org/docs/latest/ml/tracking: names of metrics hold these characters only
_FORBIDDEN = re.compile(r"[^\w\-. /]")


def to_mlflow(results: Results, *, tracking: str | None = None, experiment: str = "llmlab") -> list[str]:
    """Log results; gives the ids of the MLflow runs, in the order of the models.

    Each run begins when ours did, and has the parameters model, model_version and run; per benchmark the metrics
    `BENCHMARK/score`, `/low`, `/high` (95 %), `/n`, `/cost` (US dollars), `/seconds` and the counters; and the rows as
    the artefact rows.csv. Unknown numbers are left out: MLflow would draw NaN as a value.

    Args:
        results: to log.
        tracking: URI such as "sqlite:///mlflow.db" or a server's address; None is MLflow's own default.
        experiment: its name; made when it is not there.

    Raises:
        MissingPackage: without mlflow.
        LabError: when MLflow refuses, with its words.
    """
    try:
        # by name: mypy need not know a package that few have
        mlflow: Any = importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise MissingPackage("logging to MLflow needs the package: pip install mlflow") from error
    try:
        client = mlflow.MlflowClient(tracking)
        known = client.get_experiment_by_name(experiment)
        place = known.experiment_id if known is not None else client.create_experiment(experiment)
        return [_log(client, place, results, model) for model in results.models]
    except mlflow.exceptions.MlflowException as error:
        raise LabError(f"MLflow at {tracking or 'its default place'} did not take the results: {error}") from error


def _log(client: Any, place: str, results: Results, model: str) -> str:
    mine = results.filter(model=model)
    ours = sorted(set(mine.samples["run"]) - {""})
    began = _began(ours[0]) if ours else None
    made = client.create_run(place, start_time=began, run_name=model, tags={"mlflow.source.name": "llmlab"})
    run: str = made.info.run_id
    status = "FAILED"
    try:
        said = {"model": [model], "model_version": sorted(set(mine.samples["model_version"]) - {""}), "run": ours}
        for name, values in said.items():
            client.log_param(run, name, ", ".join(values)[:500])
        for name, value in metrics(mine).items():
            client.log_metric(run, name, value, timestamp=began)
        with tempfile.TemporaryDirectory() as folder:
            client.log_artifact(run, str(mine.to_csv(Path(folder, "rows.csv"))))
        status = "FINISHED"
    finally:
        client.set_terminated(run, status)
    return run


def _began(run: str) -> int | None:
    """Milliseconds since 1970 at which a run of ours began; its id begins with the time."""
    try:
        return round(1000 * datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def metrics(results: Results) -> dict[str, float]:
    """The numbers of one model by the names that they get in MLflow; what is unknown is left out."""
    made: dict[str, float] = {}
    for line in results.summary().reset_index().to_dict("records"):
        for name in ("score", "low", "high", "n", "cost", "seconds", *_COUNTS):
            value = line.get(name)
            if isinstance(value, int | float) and value == value:
                made[_FORBIDDEN.sub("_", f"{line['benchmark']}/{name}")] = float(value)
    return made
