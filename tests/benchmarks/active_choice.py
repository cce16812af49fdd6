"""Choosing the next pair to vote on against drawing it: held-out accuracy after the same number of votes.

    python tests/benchmarks/active_choice.py [--runs 200] [--votes 24]

The shipped pairs on manners and on refusals as 64 hashed words, and drawn features of several shapes. One vote in ten
is a slip on real texts; drawn verdicts follow the model. Both learners see the same pool and begin with the same pair.
Gains are paired by run, in points, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from llmlab import stats
from llmlab.alignment.features import NGrams
from llmlab.alignment.preference import PreferenceModel

DATA = Path(__file__).parents[2] / "data" / "preferences"
POOL, HELD_OUT = 90, 150
# of hashed words; with 256, the default of the library, a run takes more than ten times as long
SIZE = 64
STAGES = ((1, 8), (8, 16), (16, 24))


class Vectors:
    """Features that were drawn: an answer is the number of its row."""

    name = "drawn"

    def __init__(self, rows) -> None:
        self.rows = rows

    def __call__(self, prompts, answers):
        return self.rows[[int(answer) for answer in answers]]


def shipped(name):
    """Pairs of texts, of which the annotator prefers the chosen one."""
    rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    pairs = [tuple(row[k][0]["content"] for k in ("prompt", "chosen", "rejected")) for row in rows]
    words = NGrams(SIZE)  # it remembers the vectors that it made

    def task(rng):
        mixed = [pairs[i] for i in rng.permutation(len(pairs))]
        return words, mixed[:POOL], rng.random(POOL) < 0.1, mixed[POOL : POOL + HELD_OUT]

    return task


def drawn(size, alike=0.0):
    """Answers as normal vectors, and verdicts from hidden weights; a share of the pairs is nearly the same twice."""

    def task(rng):
        n = POOL + HELD_OUT
        weights = rng.normal(size=size)
        weights *= 3 / np.linalg.norm(weights)
        a, b = rng.normal(size=(2, n, size))
        near = rng.random(n) < alike
        b[near] = a[near] + 0.1 * b[near]
        gaps = (a - b) @ weights
        pairs = [("", str(i), str(n + i)) if gaps[i] > 0 else ("", str(n + i), str(i)) for i in range(n)]
        wrong = rng.random(n) > 1 / (1 + np.exp(-np.abs(gaps)))
        return Vectors(np.concatenate([a, b])), pairs[:POOL], wrong[:POOL], pairs[POOL:]

    return task


def curve(task, chosen: bool, seed: int, votes: int):
    """Accuracy after each vote."""
    rng = np.random.default_rng(seed)
    features, pool, wrong, held_out = task(rng)
    learner, left, found = PreferenceModel(features), list(range(len(pool))), []
    tests = [{"prompt": p, "chosen": a, "rejected": b} for p, a, b in held_out]
    for vote in range(votes):
        at = left.pop(learner.choose([pool[i] for i in left]) if chosen and vote else 0)
        prompt, good, bad = pool[at]
        if wrong[at]:
            good, bad = bad, good
        learner.learn({"prompt": prompt, "chosen": good, "rejected": bad})
        found.append(learner.accuracy(tests).value)
    return found


TASKS = {
    "manners, shipped pairs": shipped("politeness"),
    "refusals, shipped pairs": shipped("refusal"),
    "8 drawn features": drawn(8),
    "30 drawn features": drawn(30),
    "8 drawn features, 7 of 10 pairs nearly alike": drawn(8, 0.7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--votes", type=int, default=24)
    args = parser.parse_args()
    print(f"gain in held-out accuracy, points, {args.runs} runs; votes {', '.join(f'{a + 1}-{b}' for a, b in STAGES)}")
    for name, task in TASKS.items():
        began = time.time()
        chosen, random = (
            np.array([curve(task, how, seed, args.votes) for seed in range(args.runs)]) for how in (True, False)
        )
        gains = [stats.paired(chosen[:, a:b].mean(1), random[:, a:b].mean(1)) for a, b in STAGES]
        said = "   ".join(f"{100 * g.value:+5.1f} [{100 * g.low:+.1f}, {100 * g.high:+.1f}]" for g in gains)
        at = ", ".join(f"{random[:, b - 1].mean():.2f}" for _, b in STAGES)
        print(f"  {name:46} {said}   (random then {at}; {time.time() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
