"""False alarms, detections and delay of the monitor beside the rules that people use, by simulation.

    .venv/bin/python tests/benchmarks/monitor.py --trials 1000
    .venv/bin/python tests/benchmarks/monitor.py --trials 60 --series 8 --fallen 4 --drops 0.02 0.04

A watch has `--series` series of 500 items; an item is answered rightly with a probability of its own, Beta(1.4, 0.6)
over items (mean 0.7), anew every night. After 14 nights of history the first series loses 0, 2, 4 or 8 points; 14 more
nights follow. Every rule sees the same answers. "first night": it speaks on the first night after the drop. "ever": it
speaks in the 14 nights (with a drop of 0: a false alarm of the watch). "delay": nights until it speaks, the median of
those that do, 1 for the first night.

Measured, 1 series, 300 trials: ever in 14 nights (95 %), and the delay in nights.

| drop, points | 0 | 2 | 4 | 8 |
|---|---|---|---|---|
| 2 points below last night | 99 % [97, 100] | 99 %, 2 | 99 %, 1 | 100 %, 1 |
| 5 points below last night | 25 % [20, 30] | 28 %, 5 | 49 %, 1 | 92 %, 1 |
| mean - 3 sigma | 5.0 % [3.1, 8.1] | 29 %, 3 | 57 %, 2 | 98 %, 1 |
| McNemar against last night | 44 % [38, 49] | 51 %, 4 | 68 %, 1 | 97 %, 1 |
| llmlab, Holm or BH | 2.3 % [1.1, 4.7] | 46 % [41, 52], 6 | 99 % [98, 100], 3 | 100 % [99, 100], 1 |
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from llmlab.monitor.config import Settings
from llmlab.monitor.items import Items
from llmlab.monitor.readings import Reference, corrected, readings
from llmlab.monitor.rounds import FLAGS, Round, Series, slot_of
from llmlab.stats import wilson

HISTORY, FOLLOW, ITEMS = 14, 14, 500
START = datetime(2026, 1, 1, 6, tzinfo=UTC)
NAMES = Items("facts", (ITEMS, 0), {f"i{i}": "" for i in range(ITEMS)})
ZERO = np.zeros(ITEMS)


def answers(rng: np.random.Generator, drop: float, series: int, fallen: int = 1) -> np.ndarray:
    """(series, nights, items) zeros and ones; the first `fallen` series drop."""
    ability = rng.beta(1.4, 0.6, size=(series, 1, ITEMS))
    level = np.ones((series, HISTORY + FOLLOW, 1))
    level[:fallen, HISTORY:] = 1 - drop / ability[:fallen].mean(axis=(1, 2), keepdims=True)
    return (rng.random((series, HISTORY + FOLLOW, ITEMS)) < ability * level).astype(float)


def rounds_of(made: np.ndarray) -> list[Round]:
    """The answers as rounds of a watch."""
    rounds = []
    for night in range(made.shape[1]):
        at = START + timedelta(days=night)
        numbers = [
            {"score": made[s, night], "cost": ZERO + math.nan, "asked": ZERO + 1, **dict.fromkeys(FLAGS, ZERO)}
            for s in range(len(made))
        ]
        series = (Series(f"m{s}", "facts", "generate", "score", NAMES.hash, n) for s, n in enumerate(numbers))
        rounds.append(Round(slot_of(at), at, series=tuple(series)))
    return rounds


def ours(made: np.ndarray, *settings: Settings) -> list[int]:
    """Night of the first shown drop, counted from 1, under each of the settings; 0 for none."""
    rounds, first = rounds_of(made), [0] * len(settings)
    for night in range(FOLLOW):
        if all(first):
            break
        read = readings(rounds[: HISTORY + night + 1], Reference(), {NAMES.hash: NAMES}, settings[0])
        for i, one in enumerate(settings):
            if not first[i] and any(r.shown for r in corrected(read, one)):
                first[i] = night + 1
    return first


def nightly(rule: Callable[[np.ndarray, np.ndarray], bool]) -> Callable[[np.ndarray], int]:
    """A rule on one series and night, asked of all: history (nights, items) and tonight (items)."""

    def first(made: np.ndarray) -> int:
        for night in range(FOLLOW):
            if any(rule(s[: HISTORY + night], s[HISTORY + night]) for s in made):
                return night + 1
        return 0

    return first


def two_points(history: np.ndarray, now: np.ndarray) -> bool:
    """Tonight's score is 2 points below last night's."""
    return now.mean() < history[-1].mean() - 0.02


def five_points(history: np.ndarray, now: np.ndarray) -> bool:
    """Tonight's score is 5 points below last night's."""
    return now.mean() < history[-1].mean() - 0.05


def three_sigma(history: np.ndarray, now: np.ndarray) -> bool:
    """Tonight's score is 3 standard deviations below the mean of the history."""
    scores = history.mean(axis=1)
    return now.mean() < scores.mean() - 3 * scores.std(ddof=1)


def mcnemar_last(history: np.ndarray, now: np.ndarray) -> bool:
    """Exact McNemar test against last night, 5 % every night and series."""
    from scipy.special import bdtr

    worse, better = int((now < history[-1]).sum()), int((now > history[-1]).sum())
    return worse > better and float(bdtr(better, worse + better, 0.5)) < 0.05


RULES: dict[str, Callable[[np.ndarray], int]] = {
    "fixed: 2 points below last night": nightly(two_points),
    "fixed: 5 points below last night": nightly(five_points),
    "mean - 3 sigma of the history": nightly(three_sigma),
    "McNemar against last night, p < 0.05": nightly(mcnemar_last),
}
OURS = {
    "llmlab, alpha = 0.05 a night": Settings(rounds=1),
    "llmlab (alpha = 0.05 in 30 nights)": Settings(),
    "llmlab, Benjamini-Hochberg": Settings(correction="bh"),
}


def simulate(trials: int, drop: float, series: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rule -> (trials,) night of the first alarm, 0 for none."""
    rng = np.random.default_rng([seed, round(1000 * drop), series])
    found: dict[str, list[int]] = {name: [] for name in [*RULES, *OURS]}
    for _ in range(trials):
        made = answers(rng, drop, series)
        for name, rule in RULES.items():
            found[name].append(rule(made))
        for name, night in zip(OURS, ours(made, *OURS.values()), strict=True):
            found[name].append(night)
    return {name: np.array(nights) for name, nights in found.items()}


def corrections(trials: int, drop: float, series: int, fallen: int, seed: int = 0) -> dict[str, list[float]]:
    """Shares of the fallen series shown on night 1 and on night 7, and of the steady ones shown on any of them."""
    rng = np.random.default_rng([seed, round(1000 * drop), series, fallen])
    settings = {"Holm": Settings(), "Benjamini-Hochberg": Settings(correction="bh")}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in settings}
    for _ in range(trials):
        rounds, names = rounds_of(answers(rng, drop, series, fallen)), {NAMES.hash: NAMES}
        read = [readings(rounds[: HISTORY + night + 1], Reference(), names, Settings()) for night in range(7)]
        for name, one in settings.items():
            shown = [{int(r.model[1:]) for r in corrected(night, one) if r.shown} for night in read]
            right = [sum(s < fallen for s in night) / fallen for night in shown]
            wrong = {s for night in shown for s in night if s >= fallen}
            found[name].append((right[0], right[-1], len(wrong) / (series - fallen)))
    return {name: np.mean(rates, axis=0).tolist() for name, rates in found.items()}


def line(nights: np.ndarray) -> str:
    """First-night rate, rate within all nights with its interval, and the median delay."""
    ever = wilson(int((nights > 0).sum()), len(nights))
    delay = f"{np.median(nights[nights > 0]):.0f}" if (nights > 0).any() else "-"
    first = f"{100 * (nights == 1).mean():.1f} %"
    return f"{first} | {100 * ever.value:.1f} % [{100 * ever.low:.1f}, {100 * ever.high:.1f}] | {delay}"


def main() -> None:
    """Print a table for every drop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--series", type=int, default=1)
    parser.add_argument("--fallen", type=int, default=1, help="of the series; with several, Holm beside BH")
    parser.add_argument("--drops", type=float, nargs="*", default=[0, 0.02, 0.04, 0.08])
    given = parser.parse_args()
    if given.fallen > 1:
        print(f"{given.fallen} of {given.series} series fall, {given.trials} trials")
        print("| drop | correction | shown on night 1 | on night 7 | steady series shown in 7 nights |")
        print("|---|---|---|---|---|")
        for drop in given.drops:
            for name, rates in corrections(given.trials, drop, given.series, given.fallen).items():
                said = " | ".join(f"{100 * rate:.1f} %" for rate in rates)
                print(f"| {100 * drop:g} | {name} | {said} |", flush=True)
        return
    for drop in given.drops:
        began = time.process_time()
        found = simulate(given.trials, drop, given.series)
        seconds = time.process_time() - began
        print(f"\ndrop {100 * drop:g} points, {given.series} series, {given.trials} trials ({seconds:.0f} s of CPU)")
        print("| rule | first night | ever in 14 nights, 95 % | delay |\n|---|---|---|---|")
        for name, nights in found.items():
            print(f"| {name} | {line(nights)} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
