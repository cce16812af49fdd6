"""One training from its beginning or its latest checkpoint to the result; in several processes the first writes."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from llmlab.errors import StoreError
from llmlab.finetune import faults, methods, midway, ranks, reporters, trainers
from llmlab.finetune.base import fresh_tokenizer
from llmlab.finetune.config import Recipe
from llmlab.finetune.data import TrainingData
from llmlab.finetune.rows import Rows, rows
from llmlab.finetune.runs import Run, write
from llmlab.finetune.tuned import FineTune
from llmlab.finetune.watch import Watch
from llmlab.models.local.adapted import CARD
from llmlab.models.local.engine import threads as with_threads
from llmlab.models.local.loading import is_out_of_memory
from llmlab.models.local.source import Source as Weights

if TYPE_CHECKING:
    from llmlab.models.local.transformers import TransformersModel


def train(
    run: Run,
    base: TransformersModel,
    data: TrainingData,
    held: TrainingData | None,
    made: Recipe,
    judges: Sequence[Any],
    threads: int | None,
    callbacks: Sequence[Any],
    asked: midway.Asked,
) -> None:
    """Train in a folder that is this training's own, and write the result there.

    Raises:
        DataError, UnknownName, MissingPackage: for what does not fit the model.
        Diverged, OutOfMemory, StoreError: with what to do.
    """
    source = base.source
    tokenizer = fresh_tokenizer(source.folder)
    table = rows(data, held, tokenizer, made)
    if ranks.first():
        run.update(lengths=json.loads(table.lengths.summary().to_json()), notes=list(table.notes))
        if held is not None:
            _keep_examples(run, held)
    with with_threads(threads), private_randomness(), methods.quiet(), _explained(run, base, made, table):
        model = methods.load(source, made)
        trainer = trainers.trainer(model, tokenizer, table, made, run.folder, Watch(), source, judges)
        with reporters.reporting(run, made) as told:
            if asked.benchmarks:
                # first of all: what stops early goes by the scores
                trainer.callback_handler.callbacks.insert(0, midway.scores(trainer, base, asked, made, run))
            for callback in [*callbacks, *told]:
                trainer.add_callback(callback)
            _loop(run, trainer, table, made)
        _save(run, trainer, source, made)


@contextmanager
def _explained(run: Run, base: TransformersModel, made: Recipe, table: Rows) -> Iterator[None]:
    """Turn what ends a training into errors that say what to do, and note how it ended."""
    try:
        yield
    except methods.Diverged as error:
        _note(run, status="diverged", error=str(error))
        raise methods.Diverged(f"{error} {faults.advice(run, made)}") from None
    except KeyboardInterrupt:
        _note(run, status="interrupted")
        raise
    except Exception as error:
        if is_out_of_memory(error):
            _note(run, status="out of memory")
            raise methods.OutOfMemory(faults.knobs(base, made, table)) from error
        with suppress(OSError):  # where nothing can be written any more, the folder says "running"
            _note(run, status="failed", error=f"{type(error).__name__}: {error}")
        if faults.is_full(error):
            raise StoreError(
                f"{run.folder}: cannot write ({error}); free some space, the same call continues"
            ) from error
        raise


def _note(run: Run, **fields: Any) -> None:
    if ranks.first():
        run.update(**fields)


def _loop(run: Run, trainer: Any, table: Rows, made: Recipe) -> None:
    """Train from the latest checkpoint, if there is one, and measure before and after."""
    from transformers import set_seed

    # of one process only: another one could see what the first has written meanwhile
    record, last = ranks.by_first(lambda: (run.record, run.checkpoint))
    # by the trainer: a model that was evaluated before it is wrapped for several processes is never wrapped
    trainer.args.eval_on_start = table.held is not None and last is None
    set_seed(made.seed)
    since = time.perf_counter(), time.process_time()
    trainer.watch.restart()
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        history = trainer.state.log_history
        if ranks.first():
            run.keep(history)
    spent = record.get("spent", {})
    spent = {
        "seconds": spent.get("seconds", 0.0) + time.perf_counter() - since[0],
        "cpu_seconds": spent.get("cpu_seconds", 0.0) + time.process_time() - since[1],
    }
    losses = [line["loss"] for line in history if "loss" in line]
    began = [_losses(line) for line in history if line["step"] == 0 and "eval_loss" in line]
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    after = {"after": _losses(trainer.evaluate())} if table.held is not None else {}
    _note(
        run,
        **({"before": began[0]} if began else {}),
        **after,
        spent=spent,
        steps=trainer.state.global_step,
        trainable=trainable,
        loss=losses[-1] if losses else None,
        resumed=bool(last),
        best=trainer.state.best_global_step or None,
        processes=ranks.world(),
        packed=getattr(trainer, "packs", False),
    )


def _losses(found: Mapping[str, float]) -> dict[str, float]:
    """Of what an evaluation gave, what says something about the model."""
    kept = ("loss", "mean_token_accuracy", "rewards/accuracies", "rewards/margins", "kl")
    return {name: found[f"eval_{name}"] for name in kept if f"eval_{name}" in found}


def _save(run: Run, trainer: Any, source: Weights, made: Recipe) -> None:
    """Write the result beside its place, then move it there: what is there is whole."""
    name = "adapter" if made.adapts else "model"
    half, place = run.folder / f"{name}.part", run.folder / name
    if ranks.first():
        for old in (half, place):
            shutil.rmtree(old, ignore_errors=True)
    trainer.save_model(str(half))  # by all: shards are gathered
    if not ranks.first():
        return
    (half / "training_args.bin").unlink(missing_ok=True)
    (half / "README.md").unlink(missing_ok=True)
    if made.adapts:
        write(half / CARD, {"base": source.name, "weights": source.fingerprint})
    for file in half.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    half.rename(place)
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    run.update(status="done", ended=time.time())
    (run.folder / "README.md").write_text(FineTune(run.folder).card(), encoding="utf-8")


def _keep_examples(run: Run, held: TrainingData) -> None:
    """Write the held-out prompts and answers as a suite, so that the result can be compared on them."""
    lines = []
    for one in held:
        last = one.answer[-1] if one.answer else None
        if last is not None and last.role == "assistant":
            before = [{"role": m.role, "content": m.content} for m in one.context + one.answer[:-1]]
            lines.append(json.dumps({"input": before, "target": last.content}, ensure_ascii=False))
    unique = dict.fromkeys(lines)
    (run.folder / "held_out.jsonl").write_text("\n".join(unique) + "\n" if unique else "", encoding="utf-8")


@contextmanager
def private_randomness() -> Iterator[None]:
    """Give the global random generators back as they were: trainers seed them."""
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global one is what trainers seed
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
