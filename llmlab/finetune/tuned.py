"""`FineTune`: what a training gave: a model, its curves, a card, and the comparison with the base."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError
from llmlab.finetune.comparison import TARGET
from llmlab.finetune.config import Recipe
from llmlab.finetune.runs import Run
from llmlab.models.base import Model
from llmlab.models.registry import model as known

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.finetune.comparison import BeforeAfter


class FineTune:
    """A finished training.

    Args:
        folder: where it lives; what `lab.finetune` made there can be opened again with `FineTune(folder)`.
        base: the model it began from; None takes it from the record.

    Raises:
        DataError: when the folder holds no finished training.
    """

    def __init__(self, folder: str | Path, base: Model | None = None) -> None:
        self.folder = Path(folder)
        self._run = Run(self.folder)
        self._base = base
        if not self._run.done:
            status = self._run.record.get("status", "absent")
            raise DataError(
                f"{self.folder} holds no finished training (run.json: {status}); call lab.finetune again to finish it"
            )

    @functools.cached_property
    def model(self) -> Model:
        """The tuned model."""
        options = self.base.options.set()
        if (self.folder / "adapter").is_dir():
            name = f"adapter/{self.folder / 'adapter'}"
            return (
                known(name, **options, **self._device())
                if self._base is None
                else known(name, **options, base=self.base.name, **self._device())
            )
        return known(f"hf/{self.folder / 'model'}", **options, **self._device())

    def _device(self) -> dict[str, Any]:
        source = getattr(self.base, "source", None)
        return {} if source is None else {"device": source.device, "dtype": source.dtype}

    @functools.cached_property
    def base(self) -> Model:
        """The model that the training began from."""
        return self._base or known(self.record["base"])

    @property
    def record(self) -> dict[str, Any]:
        """All that is known of the training: recipe, base, data with its hash, versions, time, losses."""
        return self._run.record

    @property
    def recipe(self) -> Recipe:
        """How it was trained."""
        return Recipe(**self.record["recipe"])

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers: steps, trainable weights, seconds, losses on the held-out data before and after."""
        record = self.record
        found = {name: record.get(name) for name in ("steps", "parameters", "trainable", "loss")}
        found |= record.get("spent", {})
        for when in ("before", "after"):
            found |= {f"held_out_{name}_{when}": value for name, value in record.get(when, {}).items()}
        return found

    @property
    def curves(self) -> pd.DataFrame:
        """What was logged: step, loss, learning_rate, grad_norm, tokens_per_second, memory_gb, eval_loss, ..."""
        import pandas as pd

        return pd.DataFrame(self._run.curves)

    def plot(self) -> Sequence[Axes]:
        """Loss, learning rate, gradient norm, tokens per second and memory over the steps."""
        from llmlab.finetune.curves import plot

        return plot(self.curves, self.record)

    def card(self) -> str:
        """The model card, in Markdown with the hub's metadata."""
        from llmlab.finetune.card import card

        return card(self.record, self._run.record.get("comparison"))

    def compare(
        self, benchmarks: Sequence[Any] | str = (TARGET,), n: int | None = None, **settings: Any
    ) -> BeforeAfter:
        """Base and tuned model on the same items: what was learnt, and what was forgotten.

        Args:
            benchmarks: what `lab.evaluate` takes; "target" is the held-out share of the training's own data, each
                answer right when it equals the example's.
            n: items per benchmark.
            settings: further ones of `lab.evaluate` (seed, store, progress, ...).
        """
        from llmlab.finetune.comparison import compare

        return compare(self, benchmarks, n, **settings)

    def export(self, folder: str | Path, kind: str = "merged", dtype: str | None = None) -> Path:
        """Write the result for others: "adapter" (PEFT), "merged" (safetensors) or "gguf"; gives the path.

        `dtype` of the weights: see `llmlab.finetune.export.export`.
        """
        from llmlab.finetune.export import export

        return export(self, Path(folder), kind, dtype)

    def __repr__(self) -> str:
        r, made = self.record, self.recipe
        told = [f"FineTune: {r['base']} by {made.method}, {made.objective}"]
        told += [f"{r['steps']:,} steps on {r['data']['examples']:,} examples in {r['spent']['seconds']:.0f} s"]
        told += [
            f"{r['trainable']:,} of {r['parameters']:,} weights" if made.adapts else f"{r['parameters']:,} weights"
        ]
        if "after" in r:
            told += [f"held-out loss {r['before']['loss']:.3f} to {r['after']['loss']:.3f}"]
        return "; ".join([*told, *r.get("notes", []), str(self.folder)])
