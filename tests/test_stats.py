"""Every number against a published value, scipy, statsmodels, or a simulation of what it promises."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.stats import (
    Estimate,
    benjamini_hochberg,
    bootstrap,
    confidence_sequence,
    detectable_with,
    holm,
    mcnemar,
    mean,
    paired,
    sample_size,
    sequential,
    smallest_detectable,
    wilson,
)

binary = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)
scores = st.lists(st.floats(0, 1), min_size=2, max_size=40)


@pytest.mark.parametrize("part", ["anytime", "estimate", "means", "pairs", "planning", "resampling"])
def test_examples_in_the_docstrings_hold(part):
    assert doctest.testmod(importlib.import_module(f"llmlab.stats.{part}")).failed == 0


# -- proportions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (812, 1319)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_equals_statsmodels(successes, n, level):
    from statsmodels.stats.proportion import proportion_confint

    estimate = wilson(successes, n, level)
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-12)
    assert estimate.value == successes / n


def test_wilson_of_nothing_is_nan():
    estimate = wilson(0, 0)
    assert estimate.n == 0
    assert all(map(math.isnan, (estimate.value, estimate.low, estimate.high)))


@pytest.mark.parametrize(("successes", "n"), [(-1, 10), (11, 10)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(successes, n)


@pytest.mark.parametrize("level", [0, 1, 95, -0.1])
def test_a_level_outside_0_1_is_refused(level):
    with pytest.raises(ValueError, match=r"coverage in \(0, 1\)"):
        wilson(1, 2, level)


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_stays_inside_0_1_and_around_its_value(n, share):
    estimate = wilson(round(share * n), n)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high


def test_repr_shows_value_interval_and_n():
    assert repr(wilson(8, 10)) == "Estimate(0.80 [0.49, 0.94], n=10)"
    assert repr(wilson(0, 0)) == "Estimate(nan [nan, nan], n=0)"
    assert repr(paired([1, 0], [0, 1])).startswith("Difference(0.00 [-0.")


# -- means ----------------------------------------------------------------------------------------------------


def test_mean_of_scores_is_students_interval():
    from scipy import stats as reference

    x = np.random.default_rng(0).random(25)
    estimate = mean(x)
    expected = reference.t.interval(0.95, 24, loc=x.mean(), scale=reference.sem(x))
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    assert estimate.se == pytest.approx(reference.sem(x))


def test_mean_of_right_and_wrong_is_wilson():
    assert mean([1, 1, 0, 1]) == wilson(3, 4)
    assert mean([True, True, False, True]) == wilson(3, 4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_clustered_standard_error_equals_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    clusters = rng.integers(0, 12, size=90)
    x = rng.random(90) + 0.3 * rng.random(12)[clusters]
    fit = sm.OLS(x, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    estimate = mean(x, clusters.tolist())
    assert estimate.se == pytest.approx(fit.bse[0])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(fit.conf_int()[0]))
    assert estimate.method == "clustered t"


def test_clustered_standard_error_equals_the_double_sum_of_the_paper():
    x = np.array([0.1, 0.9, 0.4, 0.8, 0.7, 0.2])
    clusters = [0, 0, 1, 1, 1, 2]
    n, d = 6, x - x.mean()
    within = sum(d[i] * d[j] for i in range(n) for j in range(n) if i != j and clusters[i] == clusters[j])
    paper = math.sqrt((d @ d + within) / n**2)  # SE^2 with 1/n^2, as the paper's cross term has it
    assert mean(x, clusters).se == pytest.approx(paper * math.sqrt(3 / 2))


def test_items_without_a_label_are_clusters_of_their_own():
    x = [0.1, 0.5, 0.9, 0.2]
    assert mean(x, ["", "", "", ""]) == mean(x)
    assert mean(x, ["a", "b", "c", "d"]) == mean(x)
    assert mean(x, ["a", "a", "", ""]).se == mean(x, ["a", "a", "b", "c"]).se
    assert mean(x, [float("nan"), None, "", "a"]) == mean(x)


def test_a_single_cluster_is_read_as_no_clusters():
    assert mean([0.1, 0.5, 0.9], ["anatomy"] * 3) == mean([0.1, 0.5, 0.9])


def test_answers_that_agree_within_clusters_count_as_one():
    alone = wilson(5, 10)
    copied = mean([1, 0] * 5 + [1, 0] * 5, list(range(10)) * 2)
    assert copied.n == 20
    assert copied.high - copied.low > alone.high - alone.low


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_or_all_wrong_in_clusters_still_has_a_width(value):
    estimate = mean([value] * 40, [i // 10 for i in range(40)])
    assert estimate.value == value
    assert 0 <= estimate.low < estimate.high <= 1
    assert estimate.high - estimate.low > wilson(40, 40).high - wilson(40, 40).low


def test_mean_of_one_score_has_no_interval():
    estimate = mean([0.3], bounds=(0, 1))
    assert estimate.value == 0.3
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_mean_of_nothing_is_nan():
    assert math.isnan(mean([]).value)
    assert mean([]).n == 0
    assert mean([], []).n == 0


def test_measured_values_that_happen_to_be_0_are_no_proportion():
    free = mean([0.0, 0.0, 0.0], proportion=False)
    assert (free.low, free.value, free.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="0 or 1"):
        mean([0.5, 1.0], proportion=True)


def test_bounds_cut_the_interval():
    assert mean([0.0, 0.9, 1.0], bounds=(0, 1)).high == 1
    assert mean([0.0, 0.9, 1.0]).high > 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_numbers_are_refused_and_counted(bad):
    with pytest.raises(ValueError, match="1 of 3 scores are NaN or infinite"):
        mean([1, bad, 0])
    with pytest.raises(ValueError, match="1 of 3 scores"):
        paired([1, 0, 0], [1, bad, 0])


def test_clusters_must_match_the_values():
    with pytest.raises(ValueError, match="3 values and 2 clusters"):
        mean([1, 0, 1], ["a", "b"])


def test_a_table_of_scores_is_refused():
    with pytest.raises(ValueError, match="one number per item"):
        mean([[1, 0], [0, 1]])


@given(x=scores, labels=st.integers(1, 5))
def test_interval_holds_its_value_and_order_does_not_matter(x, labels):
    clusters = [str(i % labels) for i in range(len(x))]
    one, other = mean(x, clusters), mean(x[::-1], clusters[::-1])
    assert one.low <= one.value + 1e-12
    assert one.value <= one.high + 1e-12
    assert (one.value, one.se) == pytest.approx((other.value, other.se), abs=1e-9)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.97])
def test_clustered_interval_of_a_proportion_covers_near_its_level(rate):
    rng, hits, trials = np.random.default_rng(2), 0, 600
    for _ in range(trials):
        # beta-distributed cluster rates: intra-cluster correlation 1 / (1 + 9) = 0.1
        rates = rng.beta(rate * 9, (1 - rate) * 9, size=20)
        x = (rng.random((20, 10)) < rates[:, None]).astype(float).ravel()
        estimate = mean(x, [i // 10 for i in range(200)])
        hits += estimate.low <= rate <= estimate.high
    assert 0.92 <= hits / trials <= 0.985


def test_ignoring_clusters_covers_too_little():
    rng, hits, trials = np.random.default_rng(3), 0, 400
    for _ in range(trials):
        rates = rng.beta(2, 2, size=20)
        x = (rng.random((20, 10)) < rates[:, None]).astype(float).ravel()
        estimate = mean(x)
        hits += estimate.low <= 0.5 <= estimate.high
    assert hits / trials < 0.85


# -- paired ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 7), (5, 5), (0, 6), (100, 130)])
def test_mcnemar_equals_statsmodels(b, c):
    from statsmodels.stats.contingency_tables import mcnemar as reference

    expected = reference([[10, b], [c, 10]], exact=True).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(min(1.0, expected))


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


def test_paired_right_or_wrong_uses_the_exact_test_and_bonett_price():
    # airway hyper-responsiveness before and after transplantation: Bentur et al. (2009), as analysed by
    # Fagerland, Lydersen and Laake (2014): 1 and 7 discordant pairs of 21
    a, b = [1] + [0] * 7 + [1] + [0] * 12, [0] + [1] * 7 + [1] + [0] * 12
    difference = paired(a, b)
    assert difference.value == pytest.approx(-6 / 21)
    assert difference.p == pytest.approx(0.0703125)
    assert (difference.low, difference.high) == pytest.approx((-0.508, -0.0134), abs=1e-3)
    assert (difference.wins, difference.losses) == (1, 7)


def test_paired_scores_equal_scipys_paired_t_test():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(4)
    a, b = rng.random(30), rng.random(30)
    difference, reference = paired(a, b), ttest_rel(a, b)
    assert difference.p == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_paired_clustered_test_equals_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(10), 6)
    a, b = (rng.random(60) < 0.7).astype(float), (rng.random(60) < 0.5).astype(float)
    fit = sm.OLS(a - b, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    difference = paired(a, b, clusters.tolist())
    assert difference.p == pytest.approx(fit.pvalues[0])
    assert difference.se == pytest.approx(fit.bse[0])


def test_models_that_never_differ_are_equal_up_to_a_width():
    same = paired([1, 0, 1, 1], [1, 0, 1, 1])
    assert (same.value, same.p) == (0, 1)
    assert same.low < 0 < same.high
    clustered = paired([1, 0, 1, 1], [1, 0, 1, 1], ["a", "a", "b", "b"])
    assert clustered.p == 1
    assert clustered.low < 0 < clustered.high
    assert paired([0.5, 0.25], [0.5, 0.25]).p == 1


def test_a_constant_difference_is_tested_by_its_sign():
    assert paired([0.5] * 8, [0.25] * 8).p == pytest.approx(2 / 2**8)


def test_paired_with_nothing_or_one_item():
    assert math.isnan(paired([], []).value)
    assert math.isnan(paired([], []).p)
    assert paired([1], [0]).p == 1
    assert math.isnan(paired([0.7], [0.2]).low)


def test_a_pair_needs_two_scores():
    with pytest.raises(ValueError, match="got 3 and 2"):
        paired([1, 0, 1], [1, 0])


@given(pairs=st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])), min_size=1, max_size=60))
def test_swapping_the_models_turns_the_sign(pairs):
    a, b = zip(*pairs, strict=True)
    one, other = paired(a, b), paired(b, a)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p == pytest.approx(other.p)
    assert -1 <= one.low <= one.value <= one.high <= 1


@pytest.mark.parametrize(("better", "worse"), [(0.1, 0.1), (0.3, 0.05), (0.02, 0.01)])
def test_interval_of_a_paired_difference_covers_at_its_level(better, worse):
    rng, hits, trials = np.random.default_rng(6), 0, 1500
    for _ in range(trials):
        b, c, _ = rng.multinomial(60, [better, worse, 1 - better - worse])
        a = [1] * b + [0] * c + [1] * (60 - b - c)
        difference = paired(a, [0] * b + [1] * c + [1] * (60 - b - c))
        hits += difference.low <= better - worse <= difference.high
    assert hits / trials >= 0.94


# -- several comparisons, planning ----------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)  # statsmodels takes 50 ms per call
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@settings(max_examples=20, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_equals_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_benjamini_hochberg_leaves_out_tests_that_were_not_made():
    adjusted = benjamini_hochberg([math.nan, 0.02, 0.03, 0.001])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.03, 0.03, 0.003])
    assert benjamini_hochberg([]).size == 0


def test_holm_leaves_out_tests_that_were_not_made():
    adjusted = holm([0.02, math.nan, 0.03])
    assert adjusted[[0, 2]] == pytest.approx([0.04, 0.04])
    assert math.isnan(adjusted[1])
    assert holm([]).size == 0


@pytest.mark.parametrize(
    ("n", "points"), [(164, 9.8), (198, 8.9), (541, 5.4), (817, 4.4), (1172, 3.7), (1319, 3.4), (10042, 1.2)]
)
def test_smallest_visible_gap_of_the_known_benchmarks(n, points):
    assert round(100 * smallest_detectable(n), 1) == pytest.approx(points, abs=0.101)


def test_too_few_items_see_nothing():
    assert smallest_detectable(0) == math.inf
    assert smallest_detectable(1) == math.inf
    assert sample_size(1.0) == 2


@given(delta=st.floats(0.005, 0.5), disagreement=st.floats(0.01, 1))
def test_sample_size_and_smallest_detectable_are_inverse(delta, disagreement):
    n = sample_size(delta, disagreement)
    assert smallest_detectable(n, disagreement) <= delta * (1 + 1e-9)
    assert n == 1 or smallest_detectable(n - 1, disagreement) > delta * (1 - 1e-9)


def test_planned_difference_is_found_as_often_as_promised():
    rng, n = np.random.default_rng(7), 400
    delta = smallest_detectable(n, disagreement=0.2)
    found = 0
    for _ in range(1500):
        wins = rng.binomial(n, 0.1 + delta / 2)
        losses = rng.binomial(n - wins, (0.1 - delta / 2) / (0.9 - delta / 2))
        found += mcnemar(wins, losses) < 0.05
    assert 0.74 <= found / 1500 <= 0.86  # the exact test is a little weaker than the formula's


def test_planning_refuses_what_cannot_be():
    for delta in (0, -0.1, 1.5):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            sample_size(delta)
    with pytest.raises(ValueError, match="not be negative"):
        smallest_detectable(-1)


def test_power_formula_equals_statsmodels():
    from statsmodels.stats.power import NormalIndPower

    # one sample of paired differences with standard deviation 1
    effect = NormalIndPower(ddof=0).solve_power(nobs1=100, alpha=0.05, power=0.8, ratio=0)
    assert detectable_with(1 / math.sqrt(100)) == pytest.approx(effect, rel=1e-4)


# -- bootstrap ------------------------------------------------------------------------------------------------


def test_bootstrap_interval_of_a_mean_is_near_students():
    x = np.random.default_rng(8).normal(size=200)
    drawn, exact = bootstrap(x, np.mean, rng=np.random.default_rng(0)), mean(x)
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.02)


def test_bootstrap_repeats_itself_with_the_same_seed():
    x = [1.0, 2.0, 4.0, 8.0]
    draws = [bootstrap(x, np.median, rng=np.random.default_rng(3)) for _ in range(2)]
    assert draws[0] == draws[1]


def test_bootstrap_draws_whole_clusters():
    x, clusters = [0.0] * 10 + [1.0] * 10, [0] * 10 + [1] * 10
    wide = bootstrap(x, np.mean, rng=np.random.default_rng(0), clusters=clusters)
    assert (wide.low, wide.high) == (0, 1)


def test_bootstrap_of_a_ratio_leaves_out_empty_resamples():
    rows = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])  # dollars, right answers

    def per_right(r):
        return r[:, 0].sum() / r[:, 1].sum() if r[:, 1].sum() else math.nan

    estimate = bootstrap(rows, per_right, rng=np.random.default_rng(0))
    assert estimate.value == 6
    assert estimate.low < 6 < estimate.high


def test_bootstrap_of_nothing_or_one_item_has_no_interval():
    rng = np.random.default_rng(0)
    assert math.isnan(bootstrap([], np.mean, rng=rng).value)
    one = bootstrap([3.0], np.mean, rng=rng)
    assert one.value == 3
    assert math.isnan(one.low)


# -- sequential -----------------------------------------------------------------------------------------------


def test_evidence_equals_the_beta_binomial_formula():
    from scipy.special import betaln

    expected = math.exp(betaln(1 + 14, 1 + 2) - betaln(1, 1) + 16 * math.log(2))
    assert sequential(14, 2).e_value == pytest.approx(expected)
    assert sequential(14, 2).p == pytest.approx(1 / expected)
    assert sequential(2, 14).e_value == pytest.approx(expected)


def test_no_pair_is_no_evidence():
    nothing = sequential(0, 0)
    assert (nothing.e_value, nothing.p, nothing.decided) == (1, 1, False)
    assert math.isnan(nothing.win_share.value)


def test_overwhelming_evidence_stays_a_number():
    assert math.isfinite(sequential(100_000, 0).e_value)
    assert sequential(100_000, 0).decided


def test_interval_of_the_win_share_leaves_out_one_half_exactly_when_decided():
    for wins in range(30):
        for losses in range(30):
            verdict = sequential(wins, losses)
            share = verdict.win_share
            if wins + losses:
                assert share.low <= share.value <= share.high
                assert verdict.decided == (not share.low < 0.5 < share.high)


def test_looking_after_every_pair_keeps_the_error_rate():
    from scipy.special import betaln

    rng = np.random.default_rng(9)
    wins = (rng.random((4000, 400)) < 0.5).cumsum(axis=1)
    n = np.arange(1, 401)
    log_e = betaln(1 + wins, 1 + n - wins) + n * math.log(2)
    assert (log_e >= math.log(20)).any(axis=1).mean() <= 0.05
    # the same rule as the function's
    i, t = 17, 250
    assert sequential(int(wins[i, t - 1]), int(t - wins[i, t - 1])).e_value == pytest.approx(math.exp(log_e[i, t - 1]))


def test_sequential_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        sequential(3, -1)


def test_confidence_sequence_holds_at_all_times():
    rng, misses = np.random.default_rng(10), 0
    for _ in range(300):
        x = rng.beta(2, 6, size=300)
        low, high = confidence_sequence(x)
        misses += bool(((low > 0.25) | (high < 0.25)).any())
    assert misses / 300 <= 0.05
    assert high[-1] - low[-1] < 0.15


def test_confidence_sequence_uses_only_the_past():
    x = np.random.default_rng(11).random(50)
    low, high = confidence_sequence(x)
    low_part, high_part = confidence_sequence(x[:20])
    assert low[:20] == pytest.approx(low_part)
    assert high[:20] == pytest.approx(high_part)
    assert confidence_sequence([])[0].size == 0


def test_confidence_sequence_never_widens():
    low, high = confidence_sequence(np.random.default_rng(12).random(100))
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) <= 0).all()


def test_confidence_sequence_needs_scores_in_0_1():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        confidence_sequence([0.5, 1.5])


@settings(max_examples=30)
@given(x=binary)
def test_an_estimate_is_a_value(x):
    assert mean(x) == mean(list(x))
    assert isinstance(mean(x), Estimate)
