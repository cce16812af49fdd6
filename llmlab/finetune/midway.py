"""Benchmarks while a model trains: the weights as they stand answer the items, beside the loss on the held-out data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmlab.benchmarks.registry import benchmark as known
from llmlab.errors import DataError, UnknownName
from llmlab.finetune import comparison, ranks, segments
from llmlab.finetune.base import tokenizer_of
from llmlab.finetune.config import Recipe
from llmlab.finetune.runs import Run
from llmlab.models.local.engine import Engine
from llmlab.models.local.loading import Loaded, in_memory
from llmlab.models.local.source import Source
from llmlab.models.local.transformers import TransformersModel

if TYPE_CHECKING:
    from llmlab.store import Store

_SHARDED = ("FSDP", "DEEPSPEED")


@dataclass(frozen=True)
class Asked:
    """What is asked while a model trains: benchmarks, n items of each (None: all), and the store of the answers."""

    benchmarks: tuple[Any, ...] = ()
    n: int | None = None
    store: str | Store | None = None

    @property
    def names(self) -> list[str]:
        """Of the benchmarks, as the curves have them."""
        return [one if one == comparison.TARGET else known(one).name for one in self.benchmarks]

    def require(self, recipe: Recipe, held: bool) -> None:
        """Make sure that the recipe can go by what is asked.

        Raises:
            UnknownName: for a benchmark that does not exist, or a `best` that is not asked.
            DataError: when nothing is held out, so that nothing is ever evaluated.
        """
        if recipe.best not in ("loss", *self.names):
            raise UnknownName.among(
                "curve to choose the best by", recipe.best, ["loss", *self.names], "See evaluate_on"
            )
        if self.benchmarks and not held:
            raise DataError(
                "evaluate_on: evaluations need held-out examples, too: set validation above 0, or held_out="
            )


def scores(trainer: Any, base: TransformersModel, asked: Asked, recipe: Recipe, run: Run) -> Any:
    """A callback that scores benchmarks whenever the trainer evaluates.

    The scores join the evaluation's numbers, so that the best checkpoint and an early end can go by them, and are
    logged with the bounds of their 95 % interval.

    Raises:
        DataError: when no process has the whole model, or nothing was held out for "target".
    """
    from transformers import Trainer, TrainerCallback

    kind = str(trainer.accelerator.distributed_type)
    if any(name in kind for name in _SHARDED):
        raise DataError(f"evaluate_on needs the whole model in each process, {kind.rpartition('.')[2]} splits it")

    items = [comparison.target(run.folder) if one == comparison.TARGET else known(one) for one in asked.benchmarks]
    asked = replace(asked, benchmarks=tuple(items))

    class Scores(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            found = ranks.by_first(lambda: _asked(trainer, base, asked, recipe.seed))
            if metrics is not None:
                metrics.update(found)
            # past the trainer's own log, which adds what was counted since the last line
            Trainer.log(trainer, dict(found))

    return Scores()


def _asked(trainer: Any, base: TransformersModel, asked: Asked, seed: int) -> dict[str, float]:
    from llmlab.evaluation.evaluate import evaluate

    found: dict[str, float] = {}
    with _answering(trainer, base) as model:
        results = evaluate(
            {base.name: model}, list(asked.benchmarks), asked.n, seed=seed, store=asked.store, progress=False
        )
    for line in results.summary().to_dict("records"):
        name = f"eval_{line['benchmark']}"
        found |= {name: line["score"], f"{name}_low": line["low"], f"{name}_high": line["high"]}
    return found


@contextmanager
def _answering(trainer: Any, base: TransformersModel) -> Iterator[TransformersModel]:
    """The model in training as one that answers; it is left as it was."""
    import torch

    whole = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    training, cached = trainer.model.training, whole.config.use_cache
    weight = whole.get_input_embeddings().weight
    quantize = "nf4" if getattr(whole, "is_loaded_in_4bit", False) else None
    loaded = in_memory(whole, tokenizer_of(base), weight.device, weight.dtype, quantize)
    states = torch.get_rng_state()
    trainer.model.eval()
    whole.config.use_cache = True
    ours = whole.__dict__.pop("forward", None)  # with the loss of `llmlab.finetune.loss`: it hides what a model takes
    attention = whole.config._attn_implementation
    if attention == segments.NAME:  # which is for batches of a training alone
        whole.set_attn_implementation("sdpa")
    try:
        yield _Unfinished(base, loaded, _content(trainer.model, base.source.fingerprint))
    finally:
        if attention == segments.NAME:
            whole.set_attn_implementation(attention)
        if ours is not None:
            whole.forward = ours
        whole.config.use_cache = cached
        trainer.model.train(training)
        torch.set_rng_state(states)


def _content(model: Any, base: str) -> str:
    """16 hex digits of the base and all that has been trained: equal weights have equal answers in the store."""
    import torch

    found = hashlib.blake2b(base.encode(), digest_size=8)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.update(name.encode())
            found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class _Now(Source):
    """Weights that are in memory already."""

    read: Callable[[], Loaded] | None = None
    content: str = ""

    @property
    def fingerprint(self) -> str:
        """What the weights hold."""
        return self.content

    def load(self) -> Loaded:
        """The weights as they are."""
        assert self.read is not None
        return self.read()


class _Unfinished(TransformersModel):
    """A model in training."""

    def __init__(self, base: TransformersModel, loaded: Loaded, content: str) -> None:
        super().__init__(base.name, base.options)
        source = base.source
        now = _Now(source.name, source.source, source.device, source.dtype, read=lambda: loaded, content=content)
        self._engine = Engine(now, base.engine.threads, base.engine.batch_tokens)
