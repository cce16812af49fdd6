"""What is measured while a model trains: useful tokens per second and memory, beside the trainer's own curves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from llmlab.finetune.render import IGNORED


class Watch:
    """Counts tokens between two log lines.

    Padding is no work done, so it is not counted. Seconds are of the wall clock.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Count from here."""
        self._tokens = self._trained = self._fed = 0
        self._judged = {True: [0, 0], False: [0, 0]}
        self._since = time.perf_counter()

    def judge(self, training: bool, n: int, right: int) -> None:
        """Add predictions of tokens with labels, made in training or evaluation, and how many of them were right."""
        self._judged[training][0] += n
        self._judged[training][1] += right

    def accuracy(self, training: bool) -> dict[str, float]:
        """Share of right predictions since the last call, by its name in the log; empty without any."""
        (n, right), self._judged[training] = self._judged[training], [0, 0]
        name = "mean_token_accuracy" if training else "eval_mean_token_accuracy"
        return {name: right / n} if n else {}

    def count(self, inputs: Any) -> None:
        """Add a batch that went through the model. Prompts of which answers are sampled (a list) have no tokens yet."""
        if not isinstance(inputs, Mapping):
            return
        mask, labels = inputs.get("attention_mask"), inputs.get("labels")
        if mask is not None:
            self._tokens += int(mask.sum())
            self._fed += mask.numel()
        if labels is not None:
            self._trained += int((labels != IGNORED).sum())

    def measured(self) -> dict[str, float]:
        """Tokens per second since the last call, the padded share of them, and memory now."""
        seconds = time.perf_counter() - self._since
        found = {"seconds": seconds, "memory_gb": memory() / 1e9}
        if self._fed:
            found |= {"tokens": float(self._tokens), "tokens_per_second": self._tokens / seconds}
            found |= {"padding": 1 - self._tokens / self._fed, "trained_tokens": float(self._trained)}
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
