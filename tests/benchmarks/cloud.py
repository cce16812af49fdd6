"""1000 chat calls of 200 ms at concurrency 100: this library in threads beside the bare openai SDK, in one run.

    python tests/benchmarks/cloud.py [--n 1000] [--threads 100] [--latency 0.2] [--rounds 3]

The server is a process of its own on the loopback. Prints wall clock over the ideal, and CPU of the client per call.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

WORDS = "A farmer counts his hens in the morning and again at night, when two of them have run away to the pond. " * 4


@contextmanager
def serving(latency: float) -> Iterator[str]:
    """The address of a stand-in server in another process."""
    command = [sys.executable, "-m", "llmlab.testing", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def bare(url: str) -> Callable[[str], None]:
    """The SDK as its documentation shows it."""
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")

    def call(prompt: str) -> None:
        messages = [{"role": "user", "content": prompt}]
        reply = client.chat.completions.create(model="gpt-4o-mini", messages=messages, max_tokens=16)
        assert reply.usage.total_tokens > 0

    return call


def ours(url: str) -> Callable[[str], None]:
    """A model of this library: retry layer, limiter, ledger, usage and cost included."""
    import llmlab as lab

    model = lab.model("openai/gpt-4o-mini", base_url=f"{url}/v1", max_tokens=16)

    def call(prompt: str) -> None:
        assert model.generate(prompt).cost > 0

    return call


def in_threads(call: Callable[[str], None], prompts: list[str], threads: int) -> None:
    """Every prompt once, from a pool of threads."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, prompts))


def evaluated(url: str, prompts: list[str], threads: int) -> None:
    """The same calls through `evaluate`: planned, looked up, asked, stored, scored, and a row stored for each."""
    import llmlab as lab

    model = lab.model("openai/gpt-4o-mini", base_url=f"{url}/v1", max_tokens=16)
    suite = lab.suite([lab.Sample(p, target="42") for p in prompts], scorer=lab.scorers.contains(), name="calls")
    with tempfile.TemporaryDirectory() as folder:
        results = lab.evaluate(model, suite, threads=threads, store=f"sqlite:///{folder}/runs.db", progress=False)
    assert len(results) == len(prompts) and not results.samples.error.any()


def measure(work: Callable[[list[str]], None], n: int, threads: int, latency: float) -> tuple[float, float]:
    """Wall clock over the ideal, and CPU milliseconds per call."""
    prompts = [f"{WORDS} #{i}" for i in range(n)]
    wall, cpu = time.perf_counter(), time.process_time()
    work(prompts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / (n / threads * latency), cpu / n * 1000


def main() -> None:
    """Measure both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["OPENAI_API_KEY"] = "none"
    print(f"{given.n} calls of {given.latency:g} s at concurrency {given.threads}: x ideal wall, CPU ms per call")
    with serving(given.latency) as url:
        calls = {"openai SDK": bare(url), "llmlab": ours(url)}
        work = {name: functools.partial(in_threads, call, threads=given.threads) for name, call in calls.items()}
        work["evaluate + store"] = functools.partial(evaluated, url, threads=given.threads)
        for warm in work.values():
            warm(["warm up"])
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
        for _ in range(given.rounds):
            for name, do in work.items():
                found[name].append(measure(do, given.n, given.threads, given.latency))
        for name, figures in found.items():
            over, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
            print(f"  {name:18}  {over:5.2f}  {cpu:5.2f}   median of {given.rounds}")


if __name__ == "__main__":
    main()
