"""What is measured while a model trains: useful tokens per second and memory, beside the trainer's own curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from llmlab.finetune.render import IGNORED

Summed: TypeAlias = Callable[[Sequence[float]], list[float]]


class Watch:
    """Counts tokens between two log lines.

    Padding is no work done, so it is not counted. Seconds are of the wall clock.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Count from here."""
        self._tokens = self._trained = self._fed = 0
        self._judged: dict[bool, list[float]] = {True: [0.0, 0.0, 0.0], False: [0.0, 0.0, 0.0]}
        self._since = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Do not count the last seconds, in which nothing was trained."""
        self._since += seconds

    def judge(self, training: bool, n: int, right: int, total: float) -> None:
        """Add predictions of n tokens with labels: how many were right, and their summed loss in nats."""
        for i, value in enumerate((n, right, total)):
            self._judged[training][i] += value

    def judged(self, training: bool, summed: Summed = list) -> dict[str, float]:
        """Share of right predictions and, of an evaluation, loss per token since the last call; empty without any."""
        (n, right, total), self._judged[training] = summed(self._judged[training]), [0.0, 0.0, 0.0]
        if not n:
            return {}
        if training:
            return {"mean_token_accuracy": right / n}
        # trainers give the mean over batches, in which a token counts more the fewer its batch has
        return {"eval_mean_token_accuracy": right / n, "eval_loss": total / n}

    def count(self, inputs: Any) -> None:
        """Add a batch that went through the model. Prompts of which answers are sampled (a list) have no tokens yet."""
        if not isinstance(inputs, Mapping):
            return
        mask, labels = inputs.get("attention_mask"), inputs.get("labels")
        if mask is not None:
            self._tokens += int(mask.sum())
            self._fed += mask.numel()
        elif "segments" in inputs:
            self._tokens += inputs["segments"][-1]
            self._fed += inputs["input_ids"].numel()
        if labels is not None:
            self._trained += int((labels != IGNORED).sum())

    def measured(self, summed: Summed = list) -> dict[str, float]:
        """Tokens per second since the last call, the padded share of them, and memory now.

        `summed` adds up what all processes counted; memory is of this one.
        """
        seconds = time.perf_counter() - self._since
        tokens, fed, trained = summed([self._tokens, self._fed, self._trained])
        found = {"seconds": seconds, "memory_gb": memory() / 1e9}
        if fed:
            found |= {"tokens": float(tokens), "tokens_per_second": tokens / seconds}
            found |= {"padding": 1 - tokens / fed, "trained_tokens": float(trained)}
        self._tokens = self._trained = self._fed = 0
        self._since = time.perf_counter()
        return found


def memory() -> int:
    """Bytes in use: of the GPU the most since the start, of this process what it holds now."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)
