"""`lab.tune`: search for a better recipe, and show on items that the search never saw that it is one."""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.benchmarks.base import Benchmark
from llmlab.benchmarks.registry import benchmark as known
from llmlab.benchmarks.subset import split
from llmlab.benchmarks.suite import suite
from llmlab.errors import DataError, MissingPackage
from llmlab.finetune import archive
from llmlab.finetune.comparison import TARGET
from llmlab.finetune.config import Method, Recipe
from llmlab.finetune.data import Source, TrainingData, dataset
from llmlab.finetune.methods import Diverged
from llmlab.finetune.runs import Run
from llmlab.finetune.space import space as read_space
from llmlab.finetune.space import suggest
from llmlab.finetune.train import finetune
from llmlab.finetune.tuned import FineTune
from llmlab.models.base import Model
from llmlab.settings import home
from llmlab.types import Sample, digest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.results.comparison import Comparison

_STUDY = "search"
DEFAULT, BEST = "default", "best"
# seconds between signs of life of a trial, and without one until another process takes the trial over
_BEAT, _GRACE = 10, 60
_DIVERGED = "diverged"


def tune(
    model: str | Model,
    data: Source,
    space: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    objective: str | Benchmark = TARGET,
    trials: int = 20,
    *,
    method: Method | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    share: float = 0.5,
    n: int | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    store: str | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Tuning:
    """Search a recipe's fields for the best score, by Optuna's tree-structured Parzen estimator.

    The items of the objective are split once: trials are scored on one part; the winner and the default recipe are
    compared on the other, locked one, by `Tuning.confirm`. The same call again continues the search, and the same
    call in several processes at once shares it: each gives the whole search back when all trials have ended. A trial
    whose process was killed is continued, a minute after it gave the last sign of life. With `evaluate_every` set,
    trials that do worse than the median of the others at the same step end early.

    Args:
        model: as for `lab.finetune`.
        data: as for `lab.finetune`; a tenth of its prompts is held out for "target".
        space: a YAML file or dict of fields; None is `configs/finetune/space.yaml`, without what `overrides` fixes.
        objective: "target" (held-out prompts answered as in the data), or a benchmark, suite or path of one.
        trials: how many there should be in the end, counting those that ended early or diverged.
        method: as for `lab.finetune`.
        config: as for `lab.finetune`: the recipe from which the search departs, and the default it is compared with.
        share: of the objective's items that trials are scored on; the others are locked.
        n: items per trial, None for all of that share.
        seed: of the search, the split and every training.
        folder: where study and trainings live; None is a folder under `llmlab.settings.home()`.
        store: of the answers and of the trainings, as for `lab.evaluate`.
        progress: show bars.
        overrides: fields of the recipe that are fixed.

    Raises:
        UnknownName, DataError: for a space that names no field, a range that is none, or a folder with another search.
        MissingPackage: without optuna.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingPackage("lab.tune needs the package 'optuna': pip install 'llmlab[train]'") from error
    ranges = read_space(space, overrides)
    training, held, bench = _sides(dataset(data), objective, seed)
    chosen, locked = split(bench, share, seed)
    items = [s.id for s in chosen.samples()]
    key = digest(str(model), training.hash, ranges, bench.name, items, method, _said(config), overrides, n, seed)
    place = Path(folder) if folder else home() / "tunings" / key
    place.mkdir(parents=True, exist_ok=True)
    common: dict[str, Any] = {"method": method, "config": config, "seed": seed, "held_out": held}
    common |= {"progress": progress, "live": False, "store": store, **overrides}
    train = functools.partial(finetune, model, training)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _joined(place, key, seed, trials)
    found = Tuning(place, study, train, common, chosen, locked, n, store, progress)
    while found.finished < trials:
        if found.claimed < trials:
            study.optimize(lambda trial: found.try_out(trial, ranges), n_trials=1, catch=(Diverged,))
        else:
            time.sleep(1)  # the last trials are with other processes, or were when these were killed
            _take_over(study)
    return found


def _joined(place: Path, key: str, seed: int, trials: int) -> Any:
    """The study in a folder, for this process; its draws are its own.

    Raises:
        DataError: when the folder has another search.
    """
    import optuna
    from filelock import FileLock

    # tables are made, and processes counted, one at a time
    with FileLock(place / "study.lock"), _experimental():
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{place / 'study.db'}",
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=_BEAT,
            grace_period=_GRACE,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
        study = optuna.create_study(
            storage=storage,
            study_name=_STUDY,
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        )
        there = study.user_attrs
        if there.get("key", key) != key:
            raise DataError(
                f"{place} holds another search (other data, model, space, objective, recipe, n or seed); take another "
                "folder"
            )
        worker = there.get("processes", 0)
        study.set_user_attr("key", key)
        study.set_user_attr("processes", worker + 1)
        study.sampler = optuna.samplers.TPESampler(
            seed=seed + 10_007 * worker, n_startup_trials=min(10, max(2, trials // 3))
        )
    return study


def _take_over(study: Any) -> None:
    """Queue the trials of processes that are no longer there."""
    import optuna

    with _experimental():
        optuna.storages.fail_stale_trials(study)


@contextmanager
def _experimental() -> Iterator[None]:
    """Silence that Optuna's signs of life may still change; they have been there since 2021."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _said(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> Any:
    """What a configuration says, so that another one is another search."""
    if isinstance(config, Mapping) or config is None:
        return config
    path = Path(config)
    return path.read_text(encoding="utf-8") if path.is_file() else os.fspath(config)


class Tuning:
    """A search: its trials, the best recipe, and whether it is better than the default. Made by `tune`."""

    def __init__(
        self,
        folder: Path,
        study: Any,
        train: Callable[..., FineTune],
        common: dict[str, Any],
        chosen: Benchmark,
        locked: Benchmark,
        n: int | None,
        store: str | None,
        progress: bool,
    ) -> None:
        self.folder = folder
        self.study = study
        """Optuna's study."""
        self.chosen = chosen
        """The items that trials are scored on."""
        self.locked = locked
        """The items that no trial saw."""
        self._train = train
        self._common = common
        self._n = n
        self._store = store
        self._progress = progress

    @property
    def finished(self) -> int:
        """Trials that have a score, were ended early, or diverged; not those whose process was killed."""
        return len(
            [t for t in self.study.trials if t.state.name in ("COMPLETE", "PRUNED") or _DIVERGED in t.user_attrs]
        )

    @property
    def claimed(self) -> int:
        """Trials that are finished, or with a process."""
        return self.finished + len([t for t in self.study.trials if t.state.name == "RUNNING"])

    def __len__(self) -> int:
        return len(self.study.trials)

    @property
    def table(self) -> pd.DataFrame:
        """A line per trial: state (COMPLETE, PRUNED, FAIL), score in [0, 1], seconds, and the fields tried."""
        import pandas as pd

        rows = [
            {
                "trial": t.number,
                "state": t.state.name,
                "score": t.value,
                "seconds": t.duration.total_seconds() if t.duration else None,
                **t.params,
            }
            for t in self.study.trials
        ]
        return pd.DataFrame(rows).sort_values("score", ascending=False, ignore_index=True)

    @property
    def params(self) -> dict[str, Any]:
        """The best trial's fields."""
        return dict(self.study.best_trial.params)

    @functools.cached_property
    def best(self) -> FineTune:
        """The best trial's training."""
        return FineTune(self.study.best_trial.user_attrs["folder"])

    @functools.cached_property
    def default(self) -> FineTune:
        """The training by the recipe from which the search departed."""
        from filelock import FileLock

        with FileLock(self.folder / f"{DEFAULT}.lock"):  # every process of the search may ask for it
            return self._train(folder=self.folder / DEFAULT, **self._common)

    @property
    def recipe(self) -> Recipe:
        """The best recipe."""
        return self.best.recipe

    def confirm(self) -> Comparison:
        """The winner against the default recipe on the locked items, paired."""
        from llmlab.evaluation.evaluate import evaluate

        models = {DEFAULT: self.default.model, BEST: self.best.model}
        return evaluate(models, self.locked, store=self._store, progress=self._progress).compare(DEFAULT)

    def history(self, ax: Axes | None = None) -> Axes:
        """The score of every trial, and the best so far."""
        from llmlab.plots import theme

        rows = self.table.dropna(subset="score").sort_values("trial")
        ax = ax or theme.new_axes(6.4, 3.2)
        with theme.applied():
            ax.plot(rows["trial"], rows["score"], "o", color=theme.PALETTE[0], markersize=5)
            ax.step(rows["trial"], rows["score"].cummax(), where="post", color=theme.PALETTE[1], linewidth=1.5)
            ax.set_xlabel("trial")
            ax.set_ylabel(f"score on {len(self.chosen.samples())} items")
            return theme.dress(ax, f"Best of {len(rows)} trials: {rows['score'].max():.3f}")

    def importance(self, ax: Axes | None = None) -> Axes:
        """Which fields decided the score, by fANOVA (Hutter et al. 2014); needs several finished trials."""
        import optuna

        from llmlab.plots import theme

        shares = optuna.importance.get_param_importances(self.study)
        ax = ax or theme.new_axes(6.4, 0.5 * len(shares) + 1.4)
        with theme.applied():
            ax.barh(list(shares)[::-1], list(shares.values())[::-1], color=theme.PALETTE[0])
            ax.set_xlabel("share of the variance of the score")
            return theme.dress(ax, f"{next(iter(shares))} decides most of the score")

    def try_out(self, trial: Any, ranges: Mapping[str, Any]) -> float:
        """Train by the fields that the study suggests, and score the result; used by `tune`."""
        import optuna

        from llmlab.evaluation.evaluate import evaluate

        fields = {name: suggest(trial, name, given) for name, given in ranges.items()}
        # a trial that is taken over continues in its folder
        place = Path(trial.user_attrs.get("folder", self.folder / f"trial-{trial.number}"))
        trial.set_user_attr("folder", str(place))
        try:
            tuned = self._train(folder=place, callbacks=[_pruner(trial)], **self._common | fields)
        except Diverged as error:
            trial.set_user_attr(_DIVERGED, str(error))
            raise
        except optuna.TrialPruned:
            Run(place).update(status="ended early")
            archive.keep(Run(place), self._store)
            raise
        results = evaluate({BEST: tuned.model}, self.chosen, self._n, store=self._store, progress=self._progress)
        return float(results.summary()["score"].iloc[0])

    def __repr__(self) -> str:
        if not any(t.value is not None for t in self.study.trials):
            return f"Tuning: no trial has a score yet; {self.folder}"
        best = self.study.best_trial
        fields = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in best.params.items())
        return (
            f"Tuning: {self.finished} trials on {self.chosen.name}; best {best.value:.3f} with {fields}; {self.folder}"
        )


def _pruner(trial: Any) -> Any:
    """A callback that tells the study the held-out loss, and ends the trial when the study says so."""
    import optuna
    from transformers import TrainerCallback

    class Pruner(TrainerCallback):
        told = 0

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            # the finished training is evaluated once more, at its last step
            if state.global_step <= self.told or "eval_loss" not in (metrics or {}):
                return
            self.told = state.global_step
            trial.report(-metrics["eval_loss"], state.global_step)  # the study maximises
            if trial.should_prune() and state.global_step < state.max_steps:
                raise optuna.TrialPruned

    return Pruner()


def _sides(
    data: TrainingData, objective: str | Benchmark, seed: int
) -> tuple[TrainingData, TrainingData | None, Benchmark]:
    """What is trained on, what the loss is measured on, and the benchmark that decides."""
    if objective != TARGET:
        return data, None, known(objective)
    training, held = data.split(0.1, seed)
    items = [
        Sample(one.context + one.answer[:-1], one.answer[-1].content)
        for one in held
        if one.answer and one.answer[-1].role == "assistant"
    ]
    unique = list({item.id: item for item in items}.values())
    if len(unique) < 2:
        raise DataError(f"{data.name}: {len(unique)} held-out answers are too few to search by; name a benchmark")
    return training, None, suite(unique, scorer="exact", name=TARGET)
