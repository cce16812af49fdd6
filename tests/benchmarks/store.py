"""What storing costs per item: `python tests/benchmarks/store.py [URL]`.

Measured on 2 shared cores (AMD), CPU time: answers 0.05 ms, rows 0.07 ms each in bulk (50,000 of both: 6 s);
committed in groups of 64 0.16 ms, of 8 0.3 ms, one by one 0.9 ms per item (answer and row together).
Opening an existing store: 3 ms, making one: 20 ms.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmlab.store import Store
from tests.store.rows import answer, row

N = 50_000
SMALL = 2_000


def timed(what: str, count: int, act: Callable[[], object]) -> None:
    """Print wall and CPU milliseconds per item."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:<24} {wall / count * 1e3:8.3f} ms wall {cpu / count * 1e3:8.3f} ms CPU")


def in_groups(store: Store, run: str, size: int) -> None:
    for start in range(0, SMALL, size):
        names = [f"{size}-{i}" for i in range(start, start + size)]
        store.save_answers([answer(f"key-{name}") for name in names])
        store.save_rows([row(run, name) for name in names])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/runs.db"
        timed("make", 1, lambda: Store(url).close())
        timed("open", 1, lambda: Store(url).close())
        with Store(url) as store:
            run = store.start_run({})
            answers = [answer(f"key-{i}", f"The answer is {i}. " * 10) for i in range(N)]
            rows = [row(run, str(i), text=f"The answer is {i}. " * 10, prompt=f"What is {i}? " * 30) for i in range(N)]
            timed("answers", N, lambda: store.save_answers(answers))
            timed("rows", N, lambda: store.save_rows(rows))
            timed("rows again", N, lambda: store.save_rows(rows))
            timed("read answers", N, lambda: store.answers([a["key"] for a in answers]))
            timed("read rows", N, lambda: store.results(run))
            for size in (1, 8, 64):
                group = store.start_run({})
                timed(f"commits of {size}", SMALL, lambda group=group, size=size: in_groups(store, group, size))


if __name__ == "__main__":
    main()
