"""Objectives: TRL's trainer for a recipe, with what our trainings add to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmlab.errors import DataError
from llmlab.finetune import ranks
from llmlab.finetune.config import Recipe
from llmlab.finetune.methods import adapter, device_of, precision_of, quiet
from llmlab.finetune.rows import Rows
from llmlab.finetune.watch import Watch
from llmlab.models.local.source import Source


def trainer(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    recipe: Recipe,
    folder: Path,
    watch: Watch,
    source: Source,
    rewards: Sequence[Any] = (),
) -> Any:
    """TRL's trainer for a recipe."""
    config_class, trainer_class = _classes(recipe.objective)
    settings = common(recipe, folder, device_of(source), len(rows.train), rows.held is not None)
    settings |= _SPECIAL[recipe.objective](recipe)
    more: dict[str, Any] = {"eval_dataset": rows.held} if rows.held is not None else {}
    if recipe.objective == "grpo":
        more = {"reward_funcs": list(rewards)}
    with quiet():
        made = trainer_class(
            model=model,
            args=config_class(**settings),
            train_dataset=rows.train,
            processing_class=tokenizer,
            peft_config=adapter(model, recipe),
            **more,
        )
    made.watch = watch
    if recipe.objective == "sft":
        made.prepare(recipe, per_step(recipe))
    from transformers import EarlyStoppingCallback, PrinterCallback

    made.remove_callback(PrinterCallback)
    if recipe.patience:
        made.add_callback(EarlyStoppingCallback(recipe.patience))
    return made


def common(recipe: Recipe, folder: Path, device: str, examples: int, held: bool) -> dict[str, Any]:
    """What all objectives share, as `transformers.TrainingArguments` takes it."""
    total = steps(recipe, examples)
    evaluated = held and recipe.evaluate_every > 0
    save = recipe.save_every or (recipe.evaluate_every if evaluated else 0)
    if evaluated and save % recipe.evaluate_every:
        raise DataError(
            f"save_every ({save}) must be a multiple of evaluate_every ({recipe.evaluate_every}), so that the best "
            "checkpoint is one that was saved"
        )
    return {
        "output_dir": str(folder / "checkpoints"),
        "per_device_train_batch_size": recipe.batch,
        "per_device_eval_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "max_steps": total,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule if recipe.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": math.ceil(recipe.warmup * total),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip,
        "optim": "adamw_torch",
        "logging_steps": max(1, total // 200),
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if save else "no",
        "save_steps": save or 500,
        "save_total_limit": 2,
        "eval_strategy": "steps" if evaluated else "no",
        "eval_steps": recipe.evaluate_every or None,
        "load_best_model_at_end": evaluated,
        "metric_for_best_model": recipe.best,
        "greater_is_better": recipe.best != "loss",
        "bf16": precision_of(recipe, device) == "bfloat16",
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device != "cpu",
        "activation_checkpointing": recipe.checkpointing,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "report_to": "none",  # ours: `llmlab.finetune.reporters`
    }


def steps(recipe: Recipe, examples: int) -> int:
    """Optimiser steps of a training on so many examples."""
    return recipe.steps or math.ceil(recipe.epochs * math.ceil(examples / per_step(recipe)))


def per_step(recipe: Recipe) -> int:
    """Examples per optimiser step, over all processes."""
    return recipe.batch * recipe.accumulate * ranks.world()


def _sft(recipe: Recipe) -> dict[str, Any]:
    return {"max_length": None}  # rows come as tokens and labels, already cut


def _dpo(recipe: Recipe) -> dict[str, Any]:
    losses: dict[str, Any] = {"loss_type": ["sigmoid"]}
    if recipe.sft_weight:
        losses = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, recipe.sft_weight]}
    return {"max_length": recipe.length, "beta": recipe.beta, **losses}


def _kto(recipe: Recipe) -> dict[str, Any]:
    return {"max_length": recipe.length, "beta": recipe.beta}


def _grpo(recipe: Recipe) -> dict[str, Any]:
    return {
        "num_generations": recipe.group,
        "max_completion_length": recipe.answer_length,
        "temperature": recipe.temperature,
        "beta": 0.0,
    }


_SPECIAL: dict[str, Callable[[Recipe], dict[str, Any]]] = {"sft": _sft, "dpo": _dpo, "kto": _kto, "grpo": _grpo}


def _classes(objective: str) -> tuple[Any, Any]:
    with quiet():
        import trl
    from llmlab.finetune.steps import Lean, Watched

    name = objective.upper()
    base: Any = getattr(trl, f"{name}Trainer")
    ours = (Lean, Watched) if objective == "sft" else (Watched,)
    return getattr(trl, f"{name}Config"), type(f"Watched{name}", (*ours, base), {})
