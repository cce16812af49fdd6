"""What the pytest plugin adds to each item, beside plain tests and `evaluate` on the same samples.

    python tests/benchmarks/pytest_plugin.py [--items 500] [--rounds 6]

Every part is a process of its own: pytest with N plain tests, with a suite of N samples that are asked (a scripted
model that answers at once), with the same suite again (answers from the store), and `lab.evaluate`. Start-up is taken
off by a run with a single item. Milliseconds per item of CPU and of wall time: the mean of the rounds with its 95 %
interval, and the difference to plain tests of the same round. Other pytest plugins are off.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from llmlab.stats import mean

PLAIN = """
import pytest
@pytest.mark.parametrize("i", range({n}))
def test_plain(i):
    assert str(i) in f"{{i}} ?"
"""
EVALUATE = """
import llmlab as lab
lab.evaluate("scripted/echo", lab.suite("s.suite.jsonl"), progress=False)
"""


def took(folder: Path, *command: str) -> np.ndarray:
    """Seconds of CPU and of wall time that a command and its children take."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {
        **os.environ,
        "LLMLAB_STORE": f"sqlite:///{folder / 'runs.db'}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    wall = time.perf_counter() - began
    assert done.returncode == 0, done.stdout + done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall])


def prepared(n: int) -> Path:
    folder = Path(tempfile.mkdtemp())
    (folder / "test_plain.py").write_text(PLAIN.format(n=n))
    rows = [json.dumps({"id": f"s{i}", "input": f"{i} ?", "target": str(i)}) for i in range(n)]
    (folder / "s.suite.jsonl").write_text("\n".join(rows))
    return folder


def one_round(n: int) -> dict[str, np.ndarray]:
    """Milliseconds per item, CPU and wall, of each part."""
    run = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "llmlab.pytest_plugin"]
    suite = [*run, "--llm-models=scripted/echo", "s.suite.jsonl"]
    parts = {
        "plain tests": [*run, "test_plain.py"],
        "suite, asked": suite,
        "suite, from the store": suite,
        "lab.evaluate, fresh store": ["-c", EVALUATE],
    }
    small, large = prepared(1), prepared(n)
    found = {}
    for name, command in parts.items():
        if "evaluate" in name:
            for folder in (small, large):
                (folder / "runs.db").unlink()
        one, many = took(small, *command), took(large, *command)
        found[name] = 1000 * (many - one) / (n - 1)
    return found


def interval(values: np.ndarray) -> str:
    found = mean(values, proportion=False)
    return f"{found.value:5.2f} [{found.low:5.2f}, {found.high:5.2f}]"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--items", type=int, default=500)
    options.add_argument("--rounds", type=int, default=6)
    given = options.parse_args()
    rounds = [one_round(given.items) for _ in range(given.rounds)]
    print(f"{given.rounds} rounds of {given.items} items, ms per item:")
    for name in rounds[0]:
        values = np.array([r[name] for r in rounds])
        above = values - np.array([r["plain tests"] for r in rounds])
        print(f"{name:26} CPU {interval(values[:, 0])}, wall {interval(values[:, 1])}; "
              f"above plain: CPU {interval(above[:, 0])}, wall {interval(above[:, 1])}")  # fmt: skip


if __name__ == "__main__":
    main()
