"""How long examples are in tokens, and what a limit cuts off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.finetune.base import tokenizer_of
from llmlab.finetune.render import Rendered, Renderer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.finetune.data import TrainingData
    from llmlab.models.base import Model


@dataclass(frozen=True, repr=False)
class Lengths:
    """Lengths of examples in tokens.

    Attributes:
        table: a line per example: tokens, trained (tokens in the loss), kept and kept_trained (of these within the
            limit), where.
        limit: tokens at which they are cut off, None for none.
    """

    table: pd.DataFrame
    limit: int | None

    @property
    def truncated(self) -> int:
        """Examples that lose something at the limit."""
        return int((self.table["kept"] < self.table["tokens"]).sum())

    @property
    def cut_answers(self) -> int:
        """Examples that lose the end of an answer: from them a model learns not to stop."""
        return int((self.table["kept_trained"] < self.table["trained"]).sum())

    @property
    def lost(self) -> int:
        """Examples of which nothing is left to train on."""
        return int((self.table["kept_trained"] == 0).sum())

    def summary(self) -> pd.Series[float]:
        """Tokens in numbers: mean, median, 95th percentile, longest, total, and how many are trained on."""
        tokens = self.table["tokens"]
        import pandas as pd

        return pd.Series(
            {
                "examples": len(tokens),
                "mean": tokens.mean(),
                "median": tokens.median(),
                "p95": tokens.quantile(0.95),
                "longest": tokens.max(),
                "total": tokens.sum(),
                "trained": self.table["trained"].sum(),
                "truncated": self.truncated,
                "cut_answers": self.cut_answers,
                "lost": self.lost,
            }
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The distribution of lengths, with the limit."""
        from llmlab.plots import theme

        ax = ax or theme.new_axes(6.4, 3.2)
        with theme.applied():
            ax.hist(self.table["tokens"], bins=40, color=theme.PALETTE[0])
            if self.limit:
                ax.axvline(self.limit, color=theme.PALETTE[1], linewidth=1.5)
                ax.text(self.limit, ax.get_ylim()[1], f" limit {self.limit}", va="top", color=theme.PALETTE[1])
            ax.set_xlabel("tokens per example")
            ax.set_ylabel("examples")
            cut = f"{self.truncated:,} of {len(self.table):,} examples are cut off" if self.limit else ""
            return theme.dress(
                ax, cut or f"Half of the examples have at most {self.table['tokens'].median():,.0f} tokens"
            )

    def __repr__(self) -> str:
        s = self.summary()
        said = (
            f"Lengths: {s['examples']:,.0f} examples, median {s['median']:.0f} tokens (95 % at most {s['p95']:.0f}, "
            f"longest {s['longest']:.0f}); {100 * s['trained'] / s['total']:.0f} % of {s['total']:,.0f} trained on"
        )
        if self.limit is None:
            return said
        lost = f"{self.truncated} are cut off, {self.cut_answers} in the answer, {self.lost} lose all of it"
        return f"{said}; at {self.limit} tokens {lost}"


def lengths(data: TrainingData, model: str | Model, limit: int | None = None) -> Lengths:
    """What `TrainingData.lengths` gives. Of a pair of answers the longer one counts."""
    render = Renderer(tokenizer_of(model))
    return measured([longest(render, e) for e in data], [e.where for e in data], limit)


def longest(render: Renderer, example: Any) -> Rendered:
    """The longest sequence that an example makes."""
    if not example.answer and not example.text:
        ids = render.prompt(example.context, example.where)
        return Rendered(ids, (False,) * len(ids))
    made = render(example)
    if example.rejected:
        other = render.turns(example.context, example.rejected, example.where)
        return max(made, other, key=lambda r: len(r.ids))
    return made


def measured(rendered: list[Rendered], where: list[str], limit: int | None) -> Lengths:
    """Lengths of what was rendered."""
    import pandas as pd

    rows = []
    for one, place in zip(rendered, where, strict=True):
        kept = one if limit is None else one.cut(limit)
        rows.append(
            {
                "tokens": len(one.ids),
                "trained": sum(one.trained),
                "kept": len(kept.ids),
                "kept_trained": sum(kept.trained),
                "where": place,
            }
        )
    return Lengths(pd.DataFrame(rows), limit)
