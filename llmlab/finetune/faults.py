"""What went wrong in a training, in words that say what to do."""

from __future__ import annotations

import errno

from llmlab.finetune.config import Recipe
from llmlab.finetune.rows import Rows
from llmlab.finetune.runs import Run
from llmlab.models.base import Model

_SAID = ("No space left", "File too large", "Disk quota exceeded", "file write failed")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def is_full(error: BaseException) -> bool:
    """Whether a disk did not take what was written."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    # safetensors and torch wrap what the system says
    return any(said in str(error) for said in _SAID)


def advice(run: Run, made: Recipe) -> str:
    """What to do when the loss is no longer a number."""
    last = run.checkpoint
    kept = f"The last good checkpoint is {last}." if last else "No checkpoint was written before (save_every=…)."
    return (
        f"{kept} A smaller learning_rate (it is {made.learning_rate:g}), a longer warmup ({made.warmup:g}) or "
        "precision='float32' keeps it finite"
    )


def knobs(base: Model, made: Recipe, table: Rows) -> str:
    """Which settings take less memory, and how much."""
    from llmlab.finetune.memory import alternatives

    longest = int(table.lengths.table["kept"].max())
    used = made.model_copy(update={"length": longest})
    ways = "; ".join(f"{text}: {peak / 1e9:.2f} GB" for text, peak in alternatives(base, used))
    return f"out of memory with batches of {made.batch} × {longest} tokens. What takes less, predicted: {ways}"
