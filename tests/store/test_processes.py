"""Several processes write one store, and one that is killed loses nothing that it was told is stored."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from llmlab.store import Store

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from llmlab.store import Store
from tests.store.rows import answer, row
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Store(url) as store:
    run = store.start_run({"n": count}, name=name)
    for i in range(count):
        store.save_answers([answer(f"{name}-{i}-{j}", f"text {i} " * 20) for j in range(3)])
        store.save_rows([row(run, f"s{i}", text=f"text {i} " * 20, answer_key=f"{name}-{i}-0")])
        print(i, flush=True)
    store.finish_run(run)
"""


def writer(url: str, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_processes_write_at_the_same_time(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    children = [writer(url, name, 40) for name in "abc"]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    with Store(url) as store:
        runs = store.runs()
        assert sorted(runs["name"]) == ["a", "b", "c"]
        assert (runs["rows"] == 40).all()
        assert (runs["status"] == "complete").all()
        keys = [f"{name}-{i}-{j}" for name in "abc" for i in range(40) for j in range(3)]
        assert len(store.answers(keys)) == len(keys)
        for run in runs.index:
            assert [r["text"] for r in store.results(run)] == [f"text {i} " * 20 for i in range(40)]


def test_killed_process_leaves_every_committed_answer(tmp_path: Path):
    path = tmp_path / "runs.db"
    child = writer(f"sqlite:///{path}", "a", 1_000_000)
    assert child.stdout is not None
    confirmed = [int(child.stdout.readline()) for _ in range(60)]
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = child.communicate()
    confirmed += [int(line) for line in rest.splitlines()]
    assert child.returncode == -signal.SIGKILL
    with Store(f"sqlite:///{path}") as store:
        assert store.runs().iloc[0]["status"] == "running"
        keys = [f"a-{i}-{j}" for i in confirmed for j in range(3)]
        assert len(store.answers(keys)) == len(keys)
        rows = store.results()
        assert {r["sample"] for r in rows} >= {f"s{i}" for i in confirmed}
        assert len(rows) <= len(confirmed) + 1
        assert all(r["text"] == f"text {r['sample'][1:]} " * 20 for r in rows)
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        # the three answers of a group are there together or not at all
        assert connection.execute("select count(*) % 3 from answers").fetchone() == (0,)
    connection.close()
