"""What the library itself costs per item: `evaluate` with a scripted model, with the store on.

usage: python tests/benchmarks/overhead.py [--n 5000] [--runs 5]
"""

import argparse
import functools
import statistics
import tempfile
import time

import llmlab as lab
from llmlab.models.scripted import Scripted
from llmlab.scorers import contains

EMPTY_LOOP = "bare loop (call and score, no store)"


def suite(n: int):
    samples = [lab.Sample(f"Question {i}: say yes.", target="yes", id=str(i)) for i in range(n)]
    return lab.suite(samples, scorer=contains("yes"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    model = Scripted("yes", "scripted/yes")
    benchmark = suite(args.n)
    scorer = contains("yes")
    times: dict[str, list[tuple[float, float]]] = {"asked and stored": [], "all from the store": [], EMPTY_LOOP: []}
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            store = f"sqlite:///{folder}/runs.db"
            evaluate = functools.partial(lab.evaluate, model, benchmark, store=store, progress=False)
            for name in ("asked and stored", "all from the store"):
                times[name].append(timed(evaluate))
        times[EMPTY_LOOP].append(timed(lambda: [scorer(model.generate(s.input).text, s) for s in benchmark.samples()]))
    print(f"{args.n} items, median of {args.runs}; milliseconds per item")
    for name, values in times.items():
        wall, cpu = (statistics.median(v) / args.n * 1e3 for v in zip(*values, strict=True))
        print(f"{name:40} wall {wall:6.3f}   cpu {cpu:6.3f}")


def timed(f) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    f()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
