"""What a round says against earlier ones: paired, corrected, and honest about what it could have seen."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmlab.errors import DataError
from llmlab.monitor.config import Settings
from llmlab.monitor.detect import Check
from llmlab.monitor.readings import Reference, corrected, readings
from tests.monitor.world import named, rounds_of


def noisy(rng, rounds=15, items=300, drop=0.0):
    """Answers of items with abilities of their own; the last round drops."""
    ability = rng.beta(1.4, 0.6, items)
    level = np.ones((rounds, 1))
    level[-1] = 1 - drop / ability.mean()
    return (rng.random((rounds, items)) < ability * level).astype(float)


def read(scores, reference=None, items=None, settings=None, **more):
    rounds, by_hash = rounds_of(scores, items, **more)
    return readings(rounds, reference or Reference(), by_hash, settings or Settings())


def scores_of(found):
    return [r for r in found if r.what == "score"]


def test_first_round_has_nothing_to_compare_with():
    assert read(np.ones((1, 20))) == []


def test_second_round_is_compared_with_the_first_by_mcnemar():
    scores = np.ones((2, 40))
    scores[1, :8] = 0
    history = scores_of(read(scores, settings=Settings(rounds=1)))[0]
    assert history.p == pytest.approx(0.5**8)
    assert history.difference == pytest.approx(-0.2) and history.rounds == (1, 1)


def test_large_drop_is_shown_at_once_and_its_interval_covers_it():
    found = scores_of(read(noisy(np.random.default_rng(0), drop=0.15)))
    night = next(r for r in found if r.against == "history" and r.rounds[0] == 1)
    assert night.shown and night.low < -0.15 < night.high
    assert night.n == 300


def test_rise_is_no_drop():
    scores = noisy(np.random.default_rng(0), drop=0.15)[::-1]
    assert not any(r.shown for r in read(scores))


def test_model_that_was_changed_for_neither_better_nor_worse_is_no_regression():
    # never any noise, then 13 items turn one way and 9 the other: the noise of each item alone would call that a drop
    scores = np.tile((np.arange(400) % 2).astype(float), (15, 1))
    scores[-1, 1:27:2] = 0
    scores[-1, 100:118:2] = 1
    night = next(r for r in scores_of(read(scores)) if r.rounds == (1, 14))
    assert night.difference == pytest.approx(-4 / 400) and night.p > 0.1


def test_two_flips_of_a_steady_model_are_not_shown():
    scores = np.ones((15, 100))
    scores[-1, :2] = 0
    assert not any(r.shown for r in read(scores))


def test_small_lasting_drop_is_shown_by_the_longer_windows_first():
    rng = np.random.default_rng(3)
    ability = rng.beta(1.4, 0.6, 500)
    level = np.r_[np.ones(14), np.full(7, 0.93)][:, None]
    found = scores_of(read((rng.random((21, 500)) < ability * level).astype(float)))
    shown = {r.rounds[0] for r in found if r.shown and r.against == "history"}
    assert 7 in shown and 1 not in shown


def test_every_reading_counts_in_the_correction():
    scores = np.ones((2, 40))
    scores[1, :8] = 0
    one, many = (scores_of(read(scores, settings=Settings(rounds=r)))[0] for r in (1, 30))
    assert many.p_adjusted == pytest.approx(30 * one.p_adjusted)
    assert one.p_adjusted == pytest.approx(2 * one.p)  # history and baseline


def test_benjamini_hochberg_shows_more_of_many_falls_and_the_same_of_one():
    reading = scores_of(read(noisy(np.random.default_rng(0))))[0]
    several = [replace(reading, p=p) for p in (0.0001, 0.0004, 0.0007, 0.001, 0.5, 0.6)]
    by_holm, by_bh = (corrected(several, Settings(correction=name)) for name in ("holm", "bh"))
    assert [r.shown for r in by_holm] == [True] + 5 * [False]
    assert [r.shown for r in by_bh] == 4 * [True] + 2 * [False]
    assert by_bh[0].p_adjusted == by_holm[0].p_adjusted
    assert by_bh[0].detectable == by_holm[0].detectable


def test_smallest_drop_falls_with_items_and_rounds():
    rng = np.random.default_rng(0)
    few, many = (scores_of(read(noisy(rng, items=n))) for n in (100, 1000))
    assert few[0].detectable > 2 * many[0].detectable
    by_window = [r.detectable for r in many if r.against == "history"]
    assert by_window == sorted(by_window, reverse=True)


def test_drop_of_the_smallest_size_is_found_about_as_often_as_promised():
    rng = np.random.default_rng(5)
    promised = next(r for r in scores_of(read(noisy(rng))) if r.rounds == (1, 14)).detectable
    found = [
        next(r for r in scores_of(read(noisy(rng, drop=promised))) if r.rounds == (1, 14)).shown for _ in range(30)
    ]
    assert np.mean(found) >= 0.7


def test_steady_model_still_needs_some_items_to_turn():
    night = next(r for r in scores_of(read(np.ones((15, 100)))) if r.rounds == (1, 14))
    assert 0.1 < night.detectable < 0.2  # eleven items of a hundred must turn before an exact test speaks


def test_rounds_of_an_open_alert_do_not_count_as_history():
    rng = np.random.default_rng(0)
    scores = np.concatenate([noisy(rng, 14), noisy(rng, 10, drop=0.0) * 0])
    contaminated = next(r for r in scores_of(read(scores)) if r.against == "history" and r.rounds[0] == 1)
    clean = next(
        r
        for r in scores_of(read(scores, Reference(since={("m", "facts"): 14})))
        if r.against == "history" and r.rounds[0] == 1
    )
    assert clean.before > contaminated.before + 0.2
    assert clean.rounds[1] == 14


def test_items_that_failed_are_left_out_of_the_pairs():
    scores = np.ones((3, 30))
    scores[2, :10] = math.nan
    assert all(r.n == 20 for r in scores_of(read(scores)))


def test_baseline_with_other_items_is_refused_and_says_how_they_differ():
    scores, sets = np.ones((3, 30)), [named(30), named(30, changed=[0, 1]), named(30, changed=[0, 1])]
    with pytest.raises(DataError, match=r"items of the baseline.*2 say something else.*changed_items='pair'"):
        read(scores, items=sets)


def test_baseline_with_other_items_is_paired_on_the_same_ones_when_asked():
    scores = np.ones((3, 30))
    scores[2, 2:12] = 0
    sets = [named(30), named(30, changed=[0, 1]), named(30, changed=[0, 1])]
    found = scores_of(read(scores, items=sets, settings=Settings(changed_items="pair", rounds=1)))
    assert {r.n for r in found} == {28}
    assert all(r.difference == pytest.approx(-10 / 28) for r in found)


def test_clusters_widen_the_interval():
    scores = noisy(np.random.default_rng(0), items=60)
    plain = scores_of(read(scores))[0]
    clustered = scores_of(read(scores, items=[named(60, clusters=[f"c{i % 6}" for i in range(60)])] * 15))[0]
    assert clustered.high - clustered.low != pytest.approx(plain.high - plain.low)


def test_graded_scores_are_read_by_the_paired_t_test():
    rng = np.random.default_rng(0)
    scores = np.clip(rng.normal(0.6, 0.1, (10, 80)), 0, 1)
    scores[-1] -= 0.2
    night = next(r for r in scores_of(read(scores)) if r.rounds == (1, 9))
    assert night.shown and night.difference == pytest.approx(-0.2, abs=0.03)


# -- rates, cost, seconds --------------------------------------------------------------------------------------


def test_rise_of_refusals_is_shown_and_their_absence_is_not_tested():
    scores, refused = np.ones((10, 200)), np.zeros((10, 200))
    assert not [r for r in read(scores, refused=refused) if r.what == "refused"]
    refused[-1, :20] = 1
    found = next(r for r in read(scores, refused=refused) if r.what == "refused")
    assert found.shown and found.difference == pytest.approx(0.1)


def test_slow_hour_within_the_usual_spread_is_not_shown_and_a_slow_night_beyond_it_is():
    rng = np.random.default_rng(0)
    seconds = np.exp(rng.normal(0, 0.2, (15, 1))) * [1.0, 2.0]
    scores = np.ones((15, 50))
    assert not any(r.shown for r in read(scores, seconds=seconds))
    seconds[-1] = [4.0, 8.0]
    found = {r.what: r for r in read(scores, seconds=seconds)}
    assert found["median seconds"].shown and found["p95 seconds"].shown
    assert found["median seconds"].difference > 2


def test_seconds_need_five_rounds_before_anything_is_said():
    seconds = np.array([[1.0, 2.0]] * 4 + [[9.0, 18.0]])
    found = next(r for r in read(np.ones((5, 50)), seconds=seconds) if r.what == "median seconds")
    assert math.isnan(found.p) and not found.shown and math.isinf(found.detectable)


def test_new_price_is_shown_although_costs_never_varied_before():
    cost = np.full((10, 50), 0.001)
    cost[-1] *= 1.3
    found = next(r for r in read(np.ones((10, 50)), cost=cost) if r.what == "cost")
    assert found.shown and found.difference == pytest.approx(0.3)


def test_unpriced_model_has_no_reading_of_cost():
    assert not [r for r in read(np.ones((10, 50))) if r.what == "cost"]


def test_check_prints_the_smallest_drop_also_when_nothing_is_found():
    rounds, by_hash = rounds_of(noisy(np.random.default_rng(0)))
    found = readings(rounds, Reference(), by_hash, Settings())
    text = repr(Check(rounds[-1], tuple(found), ()))
    assert "nothing to report" in text
    assert "smallest drop to be seen: m on facts:" in text and "points in one round" in text and "over 7" in text


# -- the simulation, small -------------------------------------------------------------------------------------


def _simulation():
    path = Path(__file__).parents[1] / "benchmarks" / "monitor.py"
    spec = importlib.util.spec_from_file_location("monitor_simulation", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_watch_is_quiet_when_nothing_happens_and_finds_eight_points_quickly():
    simulation = _simulation()
    rng = np.random.default_rng(0)
    quiet = [simulation.ours(simulation.answers(rng, 0.0, 1), Settings())[0] for _ in range(5)]
    loud = [simulation.ours(simulation.answers(rng, 0.08, 1), Settings())[0] for _ in range(5)]
    assert sum(night > 0 for night in quiet) <= 1  # two of five by chance: 1 in 200 at the rate of the whole simulation
    assert all(loud) and np.median(loud) <= 2
