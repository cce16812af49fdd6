"""Methods and objectives: how a base is loaded for training, what is trained, and TRL's trainer for it."""

from __future__ import annotations

import importlib.util
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError, LabError, MissingPackage, UnknownName
from llmlab.finetune import heap
from llmlab.finetune.config import Recipe
from llmlab.finetune.rows import Rows
from llmlab.finetune.watch import Watch
from llmlab.models.local.loading import best_device
from llmlab.models.local.source import Source

if TYPE_CHECKING:
    import torch

# modules by the ends of their names, as PEFT takes them
_HEAD = "lm_head"


class Diverged(LabError):
    """The loss is no longer a number; the message says where, and which checkpoint is still good."""


class OutOfMemory(LabError):
    """The training does not fit into memory; the message says which setting gives how much."""


def require() -> None:
    """Make sure that the packages for training are there; imports none.

    Raises:
        MissingPackage: with the command that installs them.
    """
    for package in ("torch", "transformers", "trl", "peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(f"fine-tuning needs the package {package!r}: pip install 'llmlab[train]'")


# -- weights --------------------------------------------------------------------------------------------------


def device_of(source: Source) -> str:
    """Where a base is trained."""
    return source.device or best_device()


def precision_of(recipe: Recipe, device: str) -> str:
    """The number format of the matrix products: bfloat16 where the hardware has it, unless one is asked for."""
    import torch

    if recipe.precision != "auto":
        return recipe.precision
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # without such instructions bfloat16 is emulated, and slower than float32
    return "bfloat16" if device == "cpu" and _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def load(source: Source, recipe: Recipe) -> Any:
    """Read a base's weights for training: in 4 bits for qlora, else float32 (bfloat16 for adapters on a GPU)."""
    import torch
    from transformers import AutoModelForCausalLM

    device = device_of(source)
    if device == "cpu":
        heap.give_back()
    settings: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": source.trust_remote_code}
    if recipe.method == "qlora":
        settings |= {
            "quantization_config": _four_bits(recipe, device),
            "device_map": {"": device},
            "dtype": torch.float32,
        }
        if device != "cpu":
            settings["dtype"] = torch.bfloat16
    else:
        small = recipe.adapts and precision_of(recipe, device) == "bfloat16" and device != "cpu"
        settings["dtype"] = torch.bfloat16 if small else torch.float32
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(source.folder, **settings)
    if recipe.method == "qlora":
        _keep_gradients(model)
    else:
        model.to(device)
    model.config.use_cache = False
    return model


def _four_bits(recipe: Recipe, device: str) -> Any:
    import torch

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackage("method 'qlora' needs the package 'bitsandbytes': pip install 'llmlab[train]'")
    if not device.startswith(("cpu", "cuda", "xpu")):
        raise DataError(
            f"method 'qlora' has no 4-bit kernels for {device!r}; use device='cpu' or 'cuda', or method='lora'"
        )
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if precision_of(recipe, device) == "bfloat16" and device != "cpu" else torch.float32
    make: Any = BitsAndBytesConfig
    return make(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )


def _keep_gradients(model: Any) -> None:
    """Keep bitsandbytes 0.50 from repacking 4-bit weights on CPUs with bfloat16 instructions.

    A forward pass in evaluation mode repacks them in place, and from then on no gradient passes through them: a
    training that is evaluated in between would silently stop learning.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.modules.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def adapter(model: Any, recipe: Recipe) -> Any:
    """PEFT's configuration of the adapter; None when every weight is trained.

    Raises:
        UnknownName: for a target that the model has no module of.
    """
    if not recipe.adapts:
        return None
    from peft import LoraConfig

    targets: Any = recipe.targets
    if targets != "all-linear":
        targets = [targets] if isinstance(targets, str) else list(targets)
        known = linear_names(model)
        for target in targets:
            if target not in known:
                raise UnknownName.among("linear module of this model", target, known, "Or 'all-linear'")
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.scale,
        lora_dropout=recipe.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of a model's linear modules, without the head."""
    import torch

    found = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return sorted(found - {_HEAD})


# -- trainers -------------------------------------------------------------------------------------------------


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
        "bf16": precision_of(recipe, device) == "bfloat16",
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device != "cpu",
        "activation_checkpointing": recipe.checkpointing,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "disable_tqdm": True,
        "report_to": list(recipe.reporters) or "none",
    }


def steps(recipe: Recipe, examples: int) -> int:
    """Optimiser steps of a training on so many examples."""
    return recipe.steps or math.ceil(recipe.epochs * math.ceil(examples / (recipe.batch * recipe.accumulate)))


def _sft(recipe: Recipe) -> dict[str, Any]:
    # rows come as tokens and labels, already cut
    sampling = "group_by_length" if recipe.sort_lengths else "random"
    return {"max_length": None, "train_sampling_strategy": sampling}


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
    name = objective.upper()
    base: Any = getattr(trl, f"{name}Trainer")
    ours = (_Lean, _Watched) if objective == "sft" else (_Watched,)
    return getattr(trl, f"{name}Config"), type(f"Watched{name}", (*ours, base), {})


class _Watched:
    """What our trainings add to TRL's trainers: an end when the loss is no number, and further curves."""

    watch: Watch

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]  # of the trainer beside it
        if not bool(loss.isfinite().all()):
            raise Diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")  # type: ignore[attr-defined]
        self.watch.count(args[1] if len(args) > 1 else kwargs["inputs"])
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.watch.measured()
        logs |= self.watch.accuracy(training="eval_loss" not in logs)
        super().log(logs, start_time)  # type: ignore[misc]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None per checkpoint: the run has one card, with its results."""


class _Lean:
    """The loss of `llmlab.finetune.loss` where it applies: one process, on a CPU, a plain head."""

    def compute_loss(
        self: Any, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        from llmlab.finetune.loss import fits, head_loss

        whole = model.get_base_model() if hasattr(model, "get_base_model") else model
        if return_outputs or model is not self.model or not fits(whole):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        body = getattr(whole, whole.base_model_prefix)
        with self.accelerator.autocast():
            out = body(inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
            found = head_loss(out.last_hidden_state, whole.get_output_embeddings().weight, inputs["labels"])
        self.watch.judge(model.training, found.n, found.right)
        return found.total / max(1, int(found.n if num_items_in_batch is None else num_items_in_batch))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the libraries say at import and loading and a user can do nothing about."""
    import datasets
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("bitsandbytes", "trl", "accelerate")]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    tables = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not tables:
            datasets.enable_progress_bars()
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
