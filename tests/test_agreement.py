"""Kappa and alpha against statsmodels and published examples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmlab.agreement import alpha, confusion, kappa

# Krippendorff (2011), the example with 4 observers, 12 units and missing data
NAN = math.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def test_alpha_equals_the_published_example() -> None:
    assert alpha(KRIPPENDORFF, "nominal").value == pytest.approx(0.743, abs=5e-4)
    assert alpha(KRIPPENDORFF, "interval").value == pytest.approx(0.849, abs=5e-4)
    assert alpha(KRIPPENDORFF).n == 11  # the unit with one rating is left out


def test_alpha_is_one_for_agreement_and_near_zero_for_chance() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat(rng.integers(0, 2, (50, 1)), 3, axis=1)
    assert alpha(same, "nominal").value == 1.0
    chance = alpha(rng.integers(0, 2, (2000, 3)), "nominal", rng=rng)
    assert abs(chance.value) < 0.05 and chance.low < 0 < chance.high


def test_alpha_without_spread_or_pairs_is_unknown() -> None:
    assert math.isnan(alpha(np.ones((5, 2))).value)
    assert math.isnan(alpha([[1.0, NAN], [NAN, 2.0]]).value)
    assert math.isnan(alpha(np.empty((0, 3))).value)
    with pytest.raises(ValueError, match=r"\(items, raters\)"):
        alpha([1.0, 2.0])


def test_alpha_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    # two raters who copy a fair coin and err independently with probability e: alpha -> (1 - 2e)²
    covered = 0
    for _ in range(25):
        truth = rng.integers(0, 2, (80, 1))
        ratings = truth ^ (rng.random((80, 2)) < 0.1)
        found = alpha(ratings.astype(float), "nominal", rng=np.random.default_rng(2))
        covered += found.low <= 0.64 <= found.high
    assert covered >= 20


@pytest.mark.parametrize("weights", [None, "quadratic"])
def test_kappa_equals_statsmodels(weights: str | None) -> None:
    from statsmodels.stats.inter_rater import cohens_kappa

    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, 120)
    b = np.where(rng.random(120) < 0.6, a, rng.integers(0, 4, 120))
    found = kappa(a.tolist(), b.tolist(), weights=weights)  # type: ignore[arg-type]
    expected = cohens_kappa(confusion(a.tolist(), b.tolist()), wt=weights)
    assert found.value == pytest.approx(expected.kappa, abs=1e-12)
    assert found.se == pytest.approx(expected.std_kappa, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.kappa_low, expected.kappa_upp))


def test_kappa_edge_cases() -> None:
    assert math.isnan(kappa([], []).value)
    assert math.isnan(kappa("aaaa", "aaaa").value)  # one label only: chance explains all agreement
    assert kappa("abab", "abab").value == 1.0
    assert kappa("aabb", "bbaa").value == -1.0
    with pytest.raises(ValueError, match="got 2 and 1"):
        kappa("ab", "a")
    with pytest.raises(ValueError, match="'c' is not one of"):
        kappa("abc", "abc", levels="ab")
