"""What our trainings add to the steps of TRL's trainers: less memory, no padding, an end when the loss diverges."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llmlab.errors import DataError
from llmlab.finetune import adapters, loss, methods, segments
from llmlab.finetune.config import Recipe
from llmlab.finetune.order import ByLength
from llmlab.finetune.render import IGNORED
from llmlab.finetune.watch import Watch

# oneDNN, which multiplies in bfloat16, keeps a program for every length that it has seen: a training of the embedded
# models whose rows had another length in each step grew by 9 MB a step, and took a quarter longer
_ROUND = 64


class Watched:
    """Beside any of TRL's trainers: an end when the loss is no number, and further curves."""

    watch: Watch

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]  # of the trainer beside it
        finite = loss.isfinite().all()
        # all processes end together, or the others would wait for the one that did
        if not bool(self.accelerator.gather(finite).all() if self.accelerator.num_processes > 1 else finite):
            raise methods.Diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        self.watch.count(args[1] if len(args) > 1 else kwargs["inputs"])
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        since = time.perf_counter()
        found = super().evaluate(*args, **kwargs)  # type: ignore[misc]
        self.watch.leave_out(time.perf_counter() - since)
        return found

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.watch.measured(self.summed)
        # in place: what an evaluation gives is this dict
        logs |= self.watch.judged("eval_loss" not in logs, self.summed)
        super().log(logs, start_time)  # type: ignore[misc]

    def summed(self: Any, values: Sequence[float]) -> list[float]:
        """Sums over all processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float32, device=self.accelerator.device)
        return [float(v) for v in self.accelerator.reduce(mine, "sum")]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None per checkpoint: the run has one card, with its results."""


class Lean:
    """Beside TRL's trainer for supervised training: batches without padding, and the loss of `llmlab.finetune.loss`.

    That loss is for a plain head on a CPU, in one process or in several with copies of the model; elsewhere TRL's is
    taken.
    """

    def prepare(self: Any, recipe: Recipe, step: int) -> None:
        """Set up batches, their order and the loss; `step` examples make an optimiser step, over all processes.

        Raises:
            DataError: when packing is asked for and the model's attention does not support it.
        """
        whole = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        copies = str(self.accelerator.distributed_type) in ("DistributedType.NO", "DistributedType.MULTI_CPU")
        self.lean = copies and loss.fits(whole)
        self.packs = recipe.packing is True or (recipe.packing == "auto" and self.lean)
        if self.packs:
            self.packs = _attends_by_segments(whole, recipe)
        half = self.lean and methods.precision_of(recipe, "cpu") == "bfloat16"
        if self.packs:
            self.data_collator = functools.partial(packed, multiple=_ROUND if half else 1)
        fused = adapters.fuse(self.model, torch.bfloat16 if half else torch.float32) if self.lean else 0
        if fused and half:
            methods.leave_file(whole)
        self.order = (step, recipe.seed) if recipe.sort_lengths and not self.packs else None
        if self.lean:
            whole.forward = functools.partial(_forward, whole, whole.forward)

    def _get_train_sampler(self: Any, train_dataset: Any = None) -> Any:
        if self.order is None:
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        step, seed = self.order
        return ByLength([len(ids) for ids in self.train_dataset["input_ids"]], step, seed)

    def compute_loss(
        self: Any, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if return_outputs or not self.lean:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        given = {name: value for name, value in inputs.items() if name != "labels"}
        labels = inputs["labels"] if self.model.training else self._once(inputs)
        found = model(**given, labels=labels, use_cache=False, summed_loss=True)
        self.watch.judge(self.model.training, found.n, found.right, float(found.total.detach()))
        if num_items_in_batch is None:
            return found.total / max(1, found.n)
        # the count is over all processes, whose gradients are averaged
        return found.total * self.accelerator.num_processes / max(1, int(num_items_in_batch))

    def _once(self: Any, inputs: Mapping[str, Any]) -> Tensor:
        """Labels of an evaluated batch without those examples that fill up the last batch of several processes."""
        labels: Tensor = inputs["labels"]
        state = self.accelerator.gradient_state
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return labels
        batch = self.args.per_device_eval_batch_size
        own = min(max(0, state.remainder - self.accelerator.process_index * batch), batch)
        labels = labels.clone()
        if "segments" in inputs:
            labels[:, inputs["segments"][min(own, len(inputs["segments"]) - 1)] :] = IGNORED
        else:
            labels[own:] = IGNORED
        return labels


def _attends_by_segments(model: Any, recipe: Recipe) -> bool:
    try:
        segments.use(model)
    except segments.Unsupported as error:
        if recipe.packing is True:
            raise DataError(
                f"packing: the attention of {type(model).__name__} cannot keep examples apart ({error}); "
                "set packing=False"
            ) from error
        return False
    return True


def packed(examples: Sequence[Mapping[str, Any]], multiple: int = 1) -> dict[str, Any]:
    """A batch as one row: what `segments.laid_out` gives, and labels (1, total)."""
    labels = [torch.tensor(example["labels"]) for example in examples]
    for one in labels:
        one[0] = IGNORED  # nothing stands before it, least of all the end of another example
    row = segments.laid_out([torch.tensor(example["input_ids"]) for example in examples], multiple)
    filler = torch.full((row["input_ids"].shape[1] - row["segments"][-1],), IGNORED)
    return row | {"labels": torch.cat([*labels, filler])[None]}


def _forward(model: Any, before: Any, *args: Any, summed_loss: bool = False, labels: Any = None, **given: Any) -> Any:
    """The forward pass of a causal language model that can also give `loss.head_loss`, and no logits.

    It is called through the model, so that what wraps the model sees every pass.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if not summed_loss:
        return before(*args, **given, **({} if labels is None else {"labels": labels}))
    body = getattr(model, model.base_model_prefix)
    out = body(*args, **given)
    return loss.head_loss(out.last_hidden_state, model.get_output_embeddings().weight, labels)
