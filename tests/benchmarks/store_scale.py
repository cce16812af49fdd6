"""What pages and commands ask of a store with many rows, on SQLite and on Postgres.

    .venv/bin/python tests/benchmarks/store_scale.py 10000 100000 1000000 --on sqlite postgres

Eight in ten rows are in runs of 2,000 (2 models, 2 benchmarks, 500 items), one in ten in runs of 20, the rest in one
run of up to 20,000. Every row has an answer of its own. Runs are spread over a year, three projects and ten models. A
watch has 4 series of 200 items on 60 nights; with a million rows of 500 items on 365 nights.

Seconds are medians of 3 after one try, each with a store opened anew; the last four are timed once, the first time.

Measured on 2 cores, beside others (load 1 to 2), by the clock; the page of a watch draws 90 of 365 nights, all of them
take 0.6 s; 90 nights of 50 models 0.9 s, of 10 models on 5 benchmarks 0.8 s:

1,000,000 rows                     Postgres     SQLite
all runs                              0.133      0.090
latest 200 runs                       0.012      0.009
200 runs with two words               0.095      0.089
totals                                0.034      0.006
summary of a run (2,000)              0.183      0.159
summary of a run (20,000)             1.481      1.599
open a run on the page (20,000)       0.596      0.671
a sample with its trace               0.165      0.118
two models, paired                    0.219      0.163
usage, for an estimate                0.198      0.113
resume: look for 2,000 answers        0.038      0.006
costs, 30 last days                   0.021      0.013
costs, all                            0.212      0.101
history of a watch                    0.437      0.355
its plot with change points           0.555      0.550
its check                             0.362      0.272
its alerts                            0.211      0.259
metrics for Prometheus                0.136      0.141
page: home                            0.050      0.017
page: runs                            0.109      0.095
page: compare                         0.106      0.058
page: costs                           0.094      0.113
page: monitor                         0.385      0.383
what prune may take                   0.182      0.294
prune half, counted only             10.744      2.719
check of the whole store             31.419     11.828
prune half, beside a writer          17.147     35.565
compact                               2.063     14.761
backup, verified                                10.065

While half was pruned, a program that wrote every 50 ms waited at most 0.018 s on Postgres and 0.331 s on SQLite.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib.pyplot as plt
import numpy as np
from sqlalchemy import Connection, Table, insert, literal, select

import llmlab as lab
from llmlab.monitor.exporters import registry
from llmlab.monitor.items import Items
from llmlab.monitor.retention import forgettable
from llmlab.monitor.rounds import FLAGS, Round, Series, slot_of
from llmlab.results import Results
from llmlab.results.summary import NEEDED
from llmlab.store import Store, upkeep
from llmlab.store.compaction import compact
from llmlab.store.pruning import prune
from llmlab.store.tables import answers, rows, runs
from tests.store.rows import answer, row
from tests.store.server import make_database, postgres

BIG, SMALL, LARGEST, PAIRS = 2_000, 20, 20_000, 5
START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)

# -- what is in the store -------------------------------------------------------------------------------------


def fill(store: Store, count: int) -> None:
    """The first runs of each size and pair of models are written as `evaluate` does, the others are copied by SQL."""
    largest = min(LARGEST, count // 10)
    sizes = [largest, *[BIG] * round(0.8 * count / BIG), *[SMALL] * round(0.1 * count / SMALL)]
    rng = np.random.default_rng(0)
    places = itertools.count()
    templates: dict[tuple[int, int], str] = {}
    copies: list[tuple[tuple[int, int], str, datetime, int]] = []
    for at in sorted(float(x) for x in rng.random(len(sizes))):
        i = next(places)
        size, moment = sizes[i * 7919 % len(sizes)], START + at * YEAR
        if (size, i % PAIRS) in templates:
            copies.append(((size, i % PAIRS), templates[size, i % PAIRS], moment, i))
        else:
            templates[size, i % PAIRS] = written(store, size, moment, i)
    with store._writing() as connection:
        for (size, pair), template, moment, i in copies:
            copied(connection, template, moment, i)
            paid = [
                {"created": moment, "model": f"m{2 * pair + j}", "project": f"p{i % 3}", "cost": 0.001} for j in (0, 1)
            ]
            store.spending.note(connection, paid * (size // 2))


def written(store: Store, size: int, at: datetime, i: int) -> str:
    pair, project = i % PAIRS * 2, f"p{i % 3}"
    run = store.start_run({"n": size}, {"llmlab": "1"}, name="nightly", project=project, created=at)
    asked = [f"What is {j // 4}? " * 20 for j in range(size)]
    texts = [f"The answer is {j % 50}. " * 8 for j in range(size)]
    common = [
        {"model": f"m{pair + j % 2}", "benchmark": f"b{j // 2 % 2}", "answer_key": f"{run}-{j}"} for j in range(size)
    ]
    store.save_answers(
        [
            answer(c["answer_key"], text, created=at, model=c["model"], project=project,
                   request={"messages": [["user", prompt]], "options": {}, "repeat": 0})
            for c, prompt, text in zip(common, asked, texts, strict=True)
        ]
    )  # fmt: skip
    store.save_rows(
        [
            row(run, f"s{j // 4}", prompt=prompt, text=text, score=float(j % 3 > 0), **c)
            for j, (c, prompt, text) in enumerate(zip(common, asked, texts, strict=True))
        ]
    )
    store.finish_run(run, seconds=1.0, cost=0.1)
    return run


def copied(connection: Connection, template: str, at: datetime, i: int) -> None:
    """The same run at another moment, with answers of its own."""
    new, own, project = f"{at:%Y%m%d-%H%M%S}-{i:06x}", f"/{i}", f"p{i % 3}"

    def copy(table: Table, changed: dict[str, Any], source: Any) -> None:
        columns = {c.name: changed.get(c.name, c) for c in table.c if c.name != "number"}
        made = [value.label(name) for name, value in columns.items()]
        connection.execute(insert(table).from_select(list(columns), source(select(*made))))

    when = literal(at, runs.c.created.type)
    copy(
        runs,
        {"id": literal(new), "created": when, "project": literal(project)},
        lambda made: made.where(runs.c.id == template),
    )
    copy(
        answers,
        {"key": answers.c.key + own, "created": when, "project": literal(project)},
        lambda made: made.join(rows, rows.c.answer_key == answers.c.key).where(rows.c.run == template),
    )
    copy(
        rows,
        {"run": literal(new), "answer_key": rows.c.answer_key + own},
        lambda made: made.where(rows.c.run == template),
    )


def fill_watch(store: Store, nights: int, count: int) -> None:
    rng = np.random.default_rng(0)
    items = Items("facts", (count, 0), {f"i{i}": f"{i}" for i in range(count)}, ())
    store.documents.put("watch", "watch", {"settings": {}})
    store.documents.put("watch.items", f"watch/{items.hash}", items.to_document())
    for night in range(nights):
        at = datetime(2026, 1, 1, 6, tzinfo=UTC) + timedelta(days=night)
        numbers = {"asked": np.ones(count), **{f: np.zeros(count) for f in FLAGS}}
        series = tuple(
            Series(f"m{m}", "facts", "generate", "score", items.hash,
                   {**numbers, "cost": rng.normal(1e-4, 1e-5, count),
                    "score": (rng.random(count) < 0.8).astype(float)}, (0.5, 1.0))
            for m in range(4)
        )  # fmt: skip
        made = Round(slot_of(at), at, series=series)
        store.documents.put("watch.round", f"watch/{made.slot}", made.to_document())


# -- what is asked of it --------------------------------------------------------------------------------------


def questions(url: str) -> list[tuple[str, Callable[[Store], object], int]]:
    """What, how, and how often it is timed; 0: once, with no try before."""
    with Store(url) as store:
        found = store.runs()
    ids = list(found.index)
    big = next(run for run in ids if found.loc[run, "rows"] == BIG or len(ids) < 3)
    largest, size = str(found["rows"].idxmax()), int(found["rows"].max())
    pair = found.loc[big, "models"]
    keys = [f"{big}-{j}" for j in range(BIG)]
    month = START + YEAR - timedelta(days=30)
    sqlite = url.startswith("sqlite")
    return [
        ("all runs", lambda s: s.runs(), 3),
        ("latest 200 runs", lambda s: s.runs(last=200), 3),
        ("200 runs with two words", lambda s: s.runs("m3 p1", last=200), 3),
        ("totals", lambda s: s.totals(), 3),
        ("summary of a run (2,000)", lambda s: Results(s.results(big)).summary(), 3),
        (f"summary of a run ({size:,})", lambda s: Results(s.results(largest)).summary(), 3),
        (f"open a run on the page ({size:,})", lambda s: opened(s, largest), 3),
        ("a sample with its trace", lambda s: Results(s.results(big)).show("s7", "b0"), 3),
        ("two models, paired", lambda s: Results(s.results(big)).compare(pair[0]), 3),
        ("usage, for an estimate", lambda s: s.usage("m0", "b0", "generate"), 3),
        ("resume: look for 2,000 answers", lambda s: s.answers(keys), 3),
        ("costs, 30 last days", lambda s: lab.costs(month, store=s), 3),
        ("costs, all", lambda s: lab.costs(store=s), 3),
        ("history of a watch", lambda s: lab.monitor(store=s).history().frame, 3),
        ("its plot with change points", lambda s: lab.monitor(store=s).history().plot(), 3),
        ("its check", lambda s: lab.monitor(store=s).check(), 3),
        ("its alerts", lambda s: lab.monitor(store=s).alerts(), 3),
        ("metrics for Prometheus", lambda s: list(registry(s).collect()), 3),
        ("page: home", lambda s: lab.ui.home(s), 3),
        ("page: runs", lambda s: lab.ui.runs(s), 3),
        ("page: compare", lambda s: lab.ui.compare(s), 3),
        ("page: costs", lambda s: lab.ui.costs(s), 3),
        ("page: monitor", lambda s: lab.ui.monitor(s), 3),
        ("what prune may take", lambda s: forgettable(s, 30), 3),
        ("prune half, counted only", lambda s: prune(s, ids[len(ids) // 2 :]), 0),
        ("check of the whole store", lambda s: upkeep.check(url), 0),
        *([("backup, verified", lambda s: upkeep.backup(url), 0)] if sqlite else []),
        ("prune half, beside a writer", lambda s: beside_a_writer(s, ids[len(ids) // 2 :]), 0),
        ("compact", compact, 0),
    ]


def opened(store: Store, run: str) -> None:
    """What the page of runs does when one is chosen, its list not counted."""
    rows = store.results(run, columns=NEEDED)
    found = Results(rows)
    found._repr_html_()
    Results(store.results(run, where={"benchmark": ["b0"], "sample": ["s0"]})).show("s0", "b0")


def beside_a_writer(store: Store, doomed: list[str]) -> None:
    """Prune, and say how long another program waited that wrote every 50 ms."""
    waited, done = [0.0], threading.Event()

    def write() -> None:
        with Store(store.url) as other:
            while not done.wait(0.05):
                began = time.perf_counter()
                other.documents.put("note", "written", {})
                waited.append(time.perf_counter() - began)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        prune(store, doomed, dry=False, compact=False)
        done.set()
        writing.result()
    at = f"median {statistics.median(waited):.3f}, longest {max(waited):.3f} s"
    print(f"  waits of a writer meanwhile: {at}, n = {len(waited)}", flush=True)


def timed(url: str, act: Callable[[Store], object], repeats: int) -> tuple[float, float]:
    """Median seconds by the clock, and of this process' CPU."""
    seconds, cpu = [], []
    for i in range(repeats + 1):
        with Store(url) as store:
            began, busy = time.perf_counter(), time.process_time()
            act(store)
            if i or not repeats:
                seconds.append(time.perf_counter() - began)
                cpu.append(time.process_time() - busy)
        plt.close("all")
    return statistics.median(seconds), statistics.median(cpu)


def measure(url: str, count: int) -> dict[str, float]:
    began = time.perf_counter()
    with Store(url) as store:
        fill(store, count)
        fill_watch(store, *((365, 500) if count >= 1_000_000 else (60, 200)))
    print(f"filled {count:,} rows in {time.perf_counter() - began:.0f} s", flush=True)
    return asked(url)


def asked(url: str) -> dict[str, float]:
    found = {}
    for what, act, repeats in questions(url):
        found[what], busy = timed(url, act, repeats)
        print(f"  {what:<34} {found[what]:8.3f} s, CPU here {busy:.3f} s", flush=True)
    return found


@contextlib.contextmanager
def database(kind: str, number: int) -> Iterator[str]:
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/runs.db"
    else:
        with postgres("fsync=off", "shared_buffers=256MB") as server:
            yield make_database(server, f"scale{number}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--on", nargs="*", choices=["sqlite", "postgres"], default=["sqlite"])
    parser.add_argument("--url", help="a store that was filled before: ask only")
    given = parser.parse_args()
    if given.url:
        asked(given.url)
        return
    table: dict[str, dict[str, float]] = {}
    for kind in given.on:
        for count in given.counts:
            print(f"{kind}, {count:,} rows", flush=True)
            with database(kind, count) as url:
                table[f"{kind} {count:,}"] = measure(url, count)
    print("| seconds |", " | ".join(table), "|\n|---|" + "---|" * len(table))
    for what in dict.fromkeys(w for found in table.values() for w in found):
        cells = (f"{found[what]:.3f}" if what in found else "" for found in table.values())
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
