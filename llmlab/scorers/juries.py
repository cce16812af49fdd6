"""Several judges, and how far they agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, ClassVar, Literal

from llmlab.agreement import alpha
from llmlab.errors import DataError, ProviderError
from llmlab.models.base import Model
from llmlab.scorers.base import Rule, shorten
from llmlab.scorers.judges import judge
from llmlab.stats import Estimate
from llmlab.types import NAN, Sample, Score, Scorer


@dataclass(frozen=True)
class Jury(Rule):
    """The verdict of several judges."""

    name: ClassVar[str] = "jury"
    judges: tuple[Scorer, ...]
    how: Literal["mean", "majority"] = "mean"

    def __call__(self, text: str, sample: Sample) -> Score:
        scores, faults = [], []
        for member in self.judges:
            try:
                scores.append(member(text, sample))
            except ProviderError as error:
                faults.append(error)
                scores.append(Score(NAN, explanation=f"the call failed: {error}"))
        if len(faults) == len(self.judges):
            raise faults[0]
        given = [score.value for score in scores if not math.isnan(score.value)]
        metrics = dict(zip(self.labels(), (score.value for score in scores), strict=True))
        if len(given) > 1:
            metrics["agreement"] = fmean(a == b for a, b in combinations(given, 2))
        said = "; ".join(f"{label}: {s.explanation}" for label, s in zip(self.labels(), scores, strict=True))
        if not given:
            return Score(NAN, None, shorten(said, 600), metrics, parsed=any(score.parsed for score in scores))
        value = fmean(given) if self.how == "mean" else _majority(given)
        # the mean of equal numbers may leave [0, 1] by rounding
        return Score(min(1.0, max(0.0, value)), f"{value:.3g}", shorten(said, 600), metrics)

    def labels(self) -> list[str]:
        """Names of the judges, under which their values stand in `Score.metrics`."""
        names = [f"judge:{getattr(getattr(m, 'model', None), 'name', None) or m}" for m in self.judges]
        return [n if names.count(n) == 1 else f"{n} ({names[: i + 1].count(n)})" for i, n in enumerate(names)]

    def agreement(self, metrics: Iterable[Mapping[str, float]], seed: int = 0) -> Estimate:
        """Krippendorff's alpha of the judges over many answers, with a bootstrap interval.

        Args:
            metrics: what each verdict of this jury has as `metrics`: `jury.agreement(results.samples["metrics"])`.
            seed: of the bootstrap.

        Values count as different or not with how="majority", else by their squared distance. NaN where the judges
        never differ from one verdict: nothing says that they could.
        """
        import numpy as np

        table = [[float(row.get(label, NAN)) for label in self.labels()] for row in metrics]
        measure: Literal["nominal", "interval"] = "nominal" if self.how == "majority" else "interval"
        ratings = np.array(table).reshape(len(table), len(self.judges))
        return alpha(ratings, measure, rng=np.random.default_rng(seed))

    def __str__(self) -> str:
        return f"jury({', '.join(map(str, self.judges))})"


def jury(
    judges: Sequence[str | Model | Scorer],
    rubric: str = "correctness",
    scale: Any = None,
    how: Literal["mean", "majority"] = "mean",
) -> Jury:
    """Several judges give one verdict: the mean of their values, or the value that most of them gave.

    Args:
        judges: models, each to judge by `rubric` and `scale` as `judge` takes them; or scorers of any kind.
        rubric: see `judge`.
        scale: see `judge`.
        how: "mean" or "majority"; values that equally many judges gave are averaged.

    A judge whose reply cannot be read or whose call fails has no vote on that answer; all votes stand in the
    metrics, with `agreement`, the share of pairs of judges that say the same. `Jury.agreement` sums it up beyond
    chance. Judges of one family share tastes: take different ones.

    Source: Verga et al. (2024), https://arxiv.org/abs/2404.18796
    """
    if how not in ("mean", "majority"):
        raise DataError(f"a jury decides by 'mean' or 'majority', got {how!r}")
    if len(judges) < 2:
        raise DataError(f"a jury needs at least two judges, got {len(judges)}; `judge` makes a single one")
    members = (judge(j, rubric, scale) if isinstance(j, str | Model) else j for j in judges)
    return Jury(tuple(members), how)


def _majority(values: Sequence[float]) -> float:
    counts = Counter(values)
    most = max(counts.values())
    return fmean(sorted(value for value, count in counts.items() if count == most))
