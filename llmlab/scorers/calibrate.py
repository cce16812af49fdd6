"""How far a scorer agrees with people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from llmlab import agreement, stats
from llmlab.errors import DataError
from llmlab.stats import Difference, Estimate
from llmlab.types import Sample, Scorer

if TYPE_CHECKING:
    import pandas as pd


class Labelled(NamedTuple):
    """An answer that a person judged; label in [0, 1], on the scale of the scorer's values."""

    text: str
    sample: Sample
    label: float


@dataclass(frozen=True)
class Calibration:
    """A scorer against human labels.

    Attributes:
        n: answers that both judged.
        unjudged: answers that the scorer gave no value.
        accuracy: share of answers on which both say the same level.
        kappa: Cohen's kappa, agreement beyond chance; quadratically weighted for more than two levels.
        bias: mean of scorer minus human, paired; above 0 the scorer is lenient.
        confusion: counts; rows are the human levels, columns the scorer's.
    """

    n: int
    unjudged: int
    accuracy: Estimate
    kappa: Estimate
    bias: Difference
    confusion: pd.DataFrame

    def __repr__(self) -> str:
        unjudged = f", {self.unjudged} not judged" if self.unjudged else ""
        return (
            f"Calibration(n={self.n}{unjudged}: accuracy {_shown(self.accuracy)}, kappa {_shown(self.kappa)}, "
            f"bias {_shown(self.bias)})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.confusion.to_html()}"


def calibration(scorer: Scorer, labelled: Iterable[Labelled | tuple[str, Sample, float]]) -> Calibration:
    """Run a scorer over answers that people have judged, and say how far the two agree.

    Args:
        scorer: a judge, a jury, or any other scorer.
        labelled: (text, sample, label) with labels in [0, 1]. The levels are those that occur as labels; each
            value of the scorer is taken to the nearest level, the upper one of two.

    Answers of samples with the same cluster count as dependent in accuracy and bias.

    Raises:
        DataError: for a label that is not in [0, 1].
    """
    import pandas as pd

    items = [Labelled(*item) for item in labelled]
    for item in items:
        if not 0 <= item.label <= 1:
            raise DataError(f"sample {item.sample.id}: a human label is a number from 0 to 1, got {item.label!r}")
    values = [scorer(item.text, item.sample).value for item in items]
    judged = [(item, value) for item, value in zip(items, values, strict=True) if not math.isnan(value)]
    levels = sorted({float(item.label) for item in items})
    human = [float(item.label) for item, _ in judged]
    taken = [_nearest(value, levels) for _, value in judged]
    clusters = [item.sample.cluster for item, _ in judged]
    counts = agreement.confusion(human, taken, levels)
    return Calibration(
        n=len(judged),
        unjudged=len(items) - len(judged),
        accuracy=stats.mean([float(h == t) for h, t in zip(human, taken, strict=True)], clusters),
        kappa=agreement.kappa(human, taken, levels, "quadratic" if len(levels) > 2 else None),
        bias=stats.paired([value for _, value in judged], human, clusters),
        confusion=pd.DataFrame(
            counts.astype(int), pd.Index(levels, name="human"), pd.Index(levels, name="scorer"), copy=False
        ),
    )


def _nearest(value: float, levels: list[float]) -> float:
    return min(reversed(levels), key=lambda level: abs(level - value))


def _shown(estimate: Estimate) -> str:
    return repr(estimate).partition("(")[2].rpartition(", n=")[0]
