"""Arrays in, `Estimate` out: intervals, paired comparisons, planning, and tests that may be looked at any time.

Everything follows Miller (2024), "Adding Error Bars to Evals", https://arxiv.org/abs/2411.00640, where it has a
formula, and a named method where it has none. What draws random numbers takes `rng`. scipy.stats and statsmodels
take a second or two to import, so they serve as references in the tests, and the few lines stand here.
"""

from llmlab.stats.anytime import Sequential, confidence_sequence, sequential
from llmlab.stats.betting import bounds, evidence
from llmlab.stats.components import components, jackknife
from llmlab.stats.estimate import Clusters, Estimate, Floats
from llmlab.stats.means import mean, wilson
from llmlab.stats.pairs import Difference, benjamini_hochberg, holm, mcnemar, paired
from llmlab.stats.planning import detectable_with, sample_size, smallest_detectable
from llmlab.stats.ratios import median, predicted_sum, ratio
from llmlab.stats.resampling import bootstrap

__all__ = [
    "Clusters",
    "Difference",
    "Estimate",
    "Floats",
    "Sequential",
    "benjamini_hochberg",
    "bootstrap",
    "bounds",
    "components",
    "confidence_sequence",
    "detectable_with",
    "evidence",
    "holm",
    "jackknife",
    "mcnemar",
    "mean",
    "median",
    "paired",
    "predicted_sum",
    "ratio",
    "sample_size",
    "sequential",
    "smallest_detectable",
    "wilson",
]
