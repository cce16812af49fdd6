"""Before and after: base and tuned model on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError
from llmlab.finetune.archive import keep
from llmlab.results import Results
from llmlab.results.comparison import Comparison
from llmlab.results.frame import records

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.finetune.tuned import FineTune

BEFORE, AFTER = "base", "tuned"
TARGET = "target"
"""Held-out prompts of the training data, answered as there."""


class BeforeAfter:
    """Base against tuned model, paired by item.

    Attributes:
        results: every answer of both.
        comparison: the paired differences with their intervals, corrected over all benchmarks.
        leaks: benchmarks with items in the training data, in words.
    """

    def __init__(self, results: Results, leaks: Sequence[str] = ()) -> None:
        self.results = results
        self.comparison: Comparison = results.compare(BEFORE)
        self.leaks = tuple(leaks)

    @property
    def table(self) -> pd.DataFrame:
        """A line per benchmark; see `llmlab.results.comparison.Comparison`."""
        return self.comparison.table

    @property
    def learnt(self) -> list[str]:
        """Benchmarks on which the tuned model is shown to be better."""
        return list(self.table.loc[self.table["verdict"] == "better", "benchmark"])

    @property
    def forgotten(self) -> list[str]:
        """Benchmarks on which the tuned model is shown to be worse."""
        return list(self.table.loc[self.table["verdict"] == "worse", "benchmark"])

    def flipped(self) -> pd.DataFrame:
        """Items whose score changed: benchmark, sample, change, the prompt, the target and both answers."""
        rows = self.results.samples
        index = ["benchmark", "sample", "repeat"]
        wide = rows.pivot_table(index=index, columns="model", values="score", observed=True)
        change = (wide[AFTER] - wide[BEFORE]).dropna()
        change = change[change != 0]
        texts = rows.pivot_table(index=index, columns="model", values="text", aggfunc="first", observed=True)
        facts = rows[rows["model"] == AFTER].set_index(index)[["prompt", "target"]]
        found = facts.join(change.rename("change"), how="inner").join(texts)
        return found.reset_index().sort_values(["benchmark", "change"], kind="stable", ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The differences with their intervals."""
        return self.comparison.plot(ax)

    def lines(self) -> list[dict[str, Any]]:
        """The table as plain values, for cards."""
        names = [
            "benchmark",
            "metric",
            "n",
            "baseline_score",
            "score",
            "difference",
            "low",
            "high",
            "p_holm",
            "verdict",
        ]
        return records(self.table[names])

    def __repr__(self) -> str:
        said = [repr(self.comparison), *self.comparison.findings(), *self.leaks]
        return "\n".join(said)

    def _repr_html_(self) -> str:
        from html import escape

        notes = "".join(f"<p>{escape(line)}</p>" for line in (*self.comparison.findings(), *self.leaks))
        return self.comparison._repr_html_() + notes


def compare(tuned: FineTune, benchmarks: Sequence[Any] | str, n: int | None, **settings: Any) -> BeforeAfter:
    """What `FineTune.compare` gives; the card of the training keeps the table."""
    from llmlab.evaluation.evaluate import evaluate

    names = [benchmarks] if isinstance(benchmarks, str) else list(benchmarks)
    asked = [target(tuned.folder) if name == TARGET else name for name in names]
    results = evaluate({BEFORE: tuned.base, AFTER: tuned.model}, asked, n, **settings)
    found = BeforeAfter(results)
    tuned._run.update(comparison=found.lines())
    (tuned.folder / "README.md").write_text(tuned.card(), encoding="utf-8")
    keep(tuned._run, settings.get("store"))
    return found


def target(folder: Path) -> Any:
    """The held-out data in a training's folder as a suite: an answer is right when it equals the example's.

    Raises:
        DataError: when nothing was held out.
    """
    from llmlab.benchmarks.suite import suite

    path = folder / "held_out.jsonl"
    if not path.is_file() or not path.stat().st_size:
        raise DataError(
            f"{folder}: no held-out prompts with answers to compare on; train with validation=0.1 or held_out=…, "
            "or name a benchmark or suite file"
        )
    return suite(path, scorer="exact", name="target")
