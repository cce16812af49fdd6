"""`lab.finetune`: from a model and data to a better model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llmlab.finetune import archive, methods, midway, presets, ranks, reporters
from llmlab.finetune.base import local, size
from llmlab.finetune.config import Method, Objective, Recipe
from llmlab.finetune.data import Source, TrainingData, dataset
from llmlab.finetune.live import in_notebook
from llmlab.finetune.loop import train
from llmlab.finetune.rewards import Reward, judged
from llmlab.finetune.runs import Run, versions
from llmlab.finetune.tuned import FineTune
from llmlab.models.base import Model, describe
from llmlab.settings import home
from llmlab.types import Scorer, digest

if TYPE_CHECKING:
    from llmlab.benchmarks.base import Benchmark
    from llmlab.models.local.transformers import TransformersModel
    from llmlab.store import Store

Rewards: TypeAlias = Reward | Scorer | Sequence[Reward | Scorer] | None


def finetune(
    model: str | Model,
    data: Source,
    method: Method | None = None,
    objective: Objective | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    held_out: Source | None = None,
    unseen: Sequence[str | Benchmark] = (),
    evaluate_on: Sequence[str | Benchmark] = (),
    evaluate_n: int | None = 100,
    reward: Rewards = None,
    folder: str | os.PathLike[str] | None = None,
    cache: bool = True,
    threads: int | None = None,
    store: str | Store | None = None,
    progress: bool = True,
    live: bool | None = None,
    callbacks: Sequence[Any] = (),
    **overrides: Any,
) -> FineTune:
    """Train a local model on examples.

    The same call again continues a training that was killed, and gives a finished one back. On a CPU with the same
    number of threads, equal calls give equal weights. Under `accelerate launch` or `torchrun` the same call trains in
    several processes, of which the first writes.

    Args:
        model: a name or Model of "hf/…" or "micro/…".
        data: what `lab.dataset` takes: a path, an id of the hub, a DataFrame, a list of rows, or its result.
        method: "lora" (an adapter), "qlora" (an adapter on a base in 4 bits) or "full" (every weight).
        objective: "sft" (imitate answers), "dpo" (prefer the chosen of two), "kto" (good and bad answers without
            pairs) or "grpo" (answers of its own, judged by `reward`).
        config: a YAML file or dict of fields of `llmlab.finetune.config.Recipe`; what it leaves out comes from the
            method's and objective's own file for a model of this size, and from the preset of a known model
            (`lab.finetune.presets()`).
        seed: of the adapter's first weights and the order of examples.
        held_out: data to measure the loss on; None holds out the recipe's share of `data`.
        unseen: benchmarks whose items must not be in the data.
        evaluate_on: benchmarks that are scored whenever the held-out loss is measured (before, every `evaluate_every`
            steps, after); "target" are the held-out prompts. With `best="micro/gsm8k"` the best checkpoint and
            `patience` go by that score instead of the loss.
        evaluate_n: items of each of them, None for all.
        reward: for "grpo": functions of answer and example that give a number, or scorers of `lab.scorers`.
        folder: where the training lives; None is a folder of its own under `llmlab.settings.home()`.
        cache: False trains again even what is finished.
        threads: CPU threads, None for torch's choice.
        store: where `lab.experiments()` finds it: a Store or its SQLAlchemy URL; None is the default store.
        progress: show a bar, or what `live` says.
        live: show curves while it trains; None does so in a notebook, where `progress` is on.
        callbacks: `transformers.TrainerCallback`s that look on.
        overrides: fields of the recipe (epochs=1, learning_rate=1e-4, rank=8, ...).

    Raises:
        NeedsLocalModel: when the model's weights do not run here.
        UnknownName, DataError: for a recipe or data that is not what it should be, before anything is loaded.
        MissingPackage: for a method or reporter whose package is not installed.
        Diverged: when the loss is no longer a number; the last good checkpoint is kept.
        StoreError: when a checkpoint or the result cannot be written.
    """
    methods.require()
    base = local(model)
    training = dataset(data)
    made = presets.recipe_for(base.source.folder, method, objective, config, seed=seed, **overrides)
    reporters.require(made)
    methods.check_device(made, base.source)
    for benchmark in unseen:
        training.leakage(benchmark).require()
    training, held = _sides(training, held_out, made)
    judges = judged(reward, training, made)
    asked = midway.Asked(tuple(evaluate_on), evaluate_n, store)
    asked.require(made, held is not None)
    about = _about(base, training, held, made)
    # where curves are shown does not change what is trained
    fields = made.model_dump(exclude={"report_to"})
    parts = [about["weights"], fields, training.hash, held.hash if held else None, [describe(j) for j in judges]]
    key = digest(*parts, *([asked.names, evaluate_n] if asked.benchmarks else []))
    run = Run(Path(folder) if folder else home() / "finetunes" / f"{base.name.replace('/', '-')}-{made.method}-{key}")
    ranks.join(methods.device_of(base.source))
    try:
        if not ranks.by_first(lambda: _begin(run, key, about, cache)):
            train(run, base, training, held, made, judges, threads, [*callbacks, *_shown(progress, live)], asked)
    finally:
        if ranks.first() and run.record.get("key") == key:
            archive.keep(run, store)
    ranks.by_first(lambda: None)  # the others wait until the first has written
    return FineTune(run.folder, base=base)


def _begin(run: Run, key: str, about: Mapping[str, Any], cache: bool) -> bool:
    """Take the folder for this training; says whether it is finished already."""
    if not cache and run.record.get("key") == key:
        shutil.rmtree(run.folder)
    if run.done and run.record.get("key") == key:
        return True
    run.claim(key, about)
    return False


def _shown(progress: bool, live: bool | None) -> list[Any]:
    """What the user sees while it trains."""
    if not ranks.first():
        return []
    if live or (live is None and progress and in_notebook()):
        from llmlab.finetune.live import live as shown

        return [shown()]
    if progress:
        from llmlab.finetune.progress import bar

        return [bar()]
    return []


def _sides(data: TrainingData, held_out: Source | None, made: Recipe) -> tuple[TrainingData, TrainingData | None]:
    if held_out is not None:
        return data, dataset(held_out)
    if not made.validation or made.objective == "grpo":
        return data, None
    return data.split(made.validation, made.seed)


def _about(base: TransformersModel, data: TrainingData, held: TrainingData | None, made: Recipe) -> dict[str, Any]:
    """What a training is, for its record."""
    return {
        "base": base.name,
        "weights": base.source.fingerprint,
        "parameters": size(base.source.folder),
        "preset": preset.name if (preset := presets.of(base.source.folder)) else None,
        "recipe": made.model_dump(mode="json"),
        "data": {
            "name": data.name,
            "form": data.form,
            "examples": len(data),
            "hash": data.hash,
            "held_out": len(held) if held else 0,
            "held_out_hash": held.hash if held else None,
            "notes": list(data.notes),
        },
        "versions": versions(),
    }
