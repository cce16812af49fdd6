"""The only loop: ask every model every item, store each answer before it is scored, and return Results."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import platform
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError, StoreError
from llmlab.evaluation import interrupting
from llmlab.evaluation import rows as rowing
from llmlab.evaluation.asking import Answer, Asking
from llmlab.evaluation.batches import Batches
from llmlab.evaluation.judging import StoredCalls
from llmlab.evaluation.plan import Benchmarks, Cell, Models, Unit, at_least_one, cells, pick, units, whole
from llmlab.evaluation.progress import Progress
from llmlab.evaluation.progress import progress as progress_bar
from llmlab.evaluation.records import record_of, reply_from_json
from llmlab.evaluation.stopping import Rule, side_by_side
from llmlab.ledger import Ledger, check_budget
from llmlab.ledger import project as active_project
from llmlab.models.recall import remembering
from llmlab.types import Protocol, digest

if TYPE_CHECKING:
    from llmlab.results import Results
    from llmlab.store import Store

_SLOW = 0.05
"""Seconds of scoring one answer from which the others are scored by several threads."""


def evaluate(
    models: Models,
    benchmarks: Benchmarks,
    n: int | None = None,
    *,
    seed: int = 0,
    repeats: int | None = None,
    protocol: Protocol | None = None,
    budget: float | None = None,
    until: Rule | None = None,
    batch: bool = False,
    threads: int | None = None,
    cache: bool | str = True,
    store: str | Store | None = None,
    progress: bool | Callable[[int], Progress] = True,
    name: str = "",
    project: str = "",
) -> Results:
    """Ask models the items of benchmarks and score the answers.

    Every answer is committed to the store before it is scored. The same call again asks only what has no stored
    answer yet, so a run that was stopped, killed or cut short by its budget continues where it was.

    Args:
        models: names, Models, a list of them, or a dict from label to either.
        benchmarks: names, Benchmarks, suites, paths to suite files, or a list of these.
        n: items per benchmark, drawn by `seed` (the same for every model); None takes all.
        seed: draws the items, and the tokens of local models that sample.
        repeats: how often each item is asked; None takes what the benchmark says, 1 for all but suites. Log-likelihoods
            do not vary and are asked once.
        protocol: forces one way of asking; None takes the best that model and benchmark share.
        budget: US dollars that may be spent, a hard limit: the worst case of each call is reserved before it
            is made. Stored answers cost nothing.
        until: a rule such as `lab.decided(delta=0.03)` that ends the run as soon as every comparison of models is
            decided; `results.decisions` then has the verdicts, and says how much was saved.
        batch: ask by the providers' batch APIs (OpenAI, Anthropic, Google): usually half the price, within a day. One
            item per model and benchmark is asked first and at the usual price, so that a wrong key or model shows at
            once. Ctrl-C or a kill leaves the batches running; the same call collects them. Models without such an API
            are asked as usual. The worst case of a whole batch is reserved before it is submitted.
        threads: simultaneous calls to cloud models, 64 if None; rate limits lower it by themselves.
        cache: False asks again even what is already answered. A text names a round of its own: only answers that
            were stored under the same text count as answered, so that a round that was stopped can go on.
        store: a Store or its SQLAlchemy URL; None is the default store (`llmlab.settings.store_url`).
        progress: show a bar with the running score, the cost and the time left; or a function that takes the number
            of answers and gives an object with `update` (`llmlab.evaluation.progress.Progress`).
        name: of the run in the store.
        project: that the run belongs to in the store; "" takes that of `lab.ledger(project=)` or LLMLAB_PROJECT.

    Returns:
        Results with one row per (model, benchmark, item, repeat). When the run was interrupted or the budget
        ended it, the rows so far, with a warning that says so and `results.status` set.

    Raises:
        UnknownName, MissingKey, DataError: before anything is asked.
        StoreError: when answers cannot be stored; asking stops at once, and `error.results` has all rows so far.
    """
    if budget is not None:
        check_budget(budget)
    at_least_one(n=n, repeats=repeats, threads=threads)
    whole(seed=seed)
    if batch and until is not None:
        raise DataError("until= stops in the middle of the items, and a batch is asked as a whole; give one of the two")
    plan = cells(models, benchmarks, protocol)
    samples = {cell.benchmark.name: pick(cell.benchmark, n, seed) for cell in plan}
    salt = cache if isinstance(cache, str) else "" if cache else f"{time.time_ns()}"
    work = [u for cell in plan for u in units(cell, samples[cell.benchmark.name], repeats, seed, salt)]
    if until is not None:
        work = side_by_side(work)
    with opened(store) as source:
        config = {"n": n, "seed": seed, "repeats": repeats, "budget": budget}
        run = Run(source, plan, config, work, until, threads or 64, name, project, batch)
        return run.all(budget, progress)


class Run:
    """One evaluation under way: what is asked, stored and scored so far."""

    def __init__(
        self,
        store: Store,
        plan: Sequence[Cell],
        config: dict[str, Any],
        work: Sequence[Unit],
        until: Rule | None,
        threads: int,
        name: str = "",
        project: str = "",
        batch: bool = False,
    ) -> None:
        self.store = store
        self.batch = batch
        self.collected = 0.0
        self.config = config
        self.project = project or active_project()
        self.id = store.start_run(_config(plan, config), versions(), name=name, project=self.project)
        self.work = work
        self._plan = {(u.cell.label, u.cell.benchmark.name, u.sample.id, u.repeat): i for i, u in enumerate(work)}
        self.threads = threads
        self.watch = until.watch(work) if until is not None else None
        self.rows: list[dict[str, Any]] = []
        self.status = "complete"
        self.reason = self.under_way = ""
        self._scores: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        self._failed = 0

    def all(self, budget: float | None, shown: bool | Callable[[int], Progress]) -> Results:
        """Answer every unit: from the store where it can, else by asking; return the Results."""
        began = time.monotonic()
        by_key: dict[str, list[Unit]] = defaultdict(list)
        for unit in self.work:
            by_key[unit.key].append(unit)
        with (
            Ledger(budget) as self.bill,
            remembering(StoredCalls(self.store, self.project)),
            progress_bar(len(self.work), shown) as self.bar,
        ):
            try:
                self._recall(by_key)
                self._ask(by_key)
            except KeyboardInterrupt:
                self.status, self.reason = "interrupted", "interrupted"
            except StoreError as error:
                self.status = "store failed"
                error.results = self._results()  # type: ignore[attr-defined]  # nothing paid for is lost
                raise
            except Exception:
                self.status = "failed"
                self._finish(began)
                raise
        self._finish(began)
        if self.reason:
            warnings.warn(
                f"{len(self.rows)} of {len(self.work)} items answered and stored; the same call continues from here. "
                f"Stopped: {self.reason}{self.under_way and f'. {self.under_way}'}",
                stacklevel=3,
            )
        return self._results()

    def _finish(self, began: float) -> None:
        with contextlib.suppress(StoreError):
            self.store.finish_run(self.id, self.status, seconds=time.monotonic() - began, cost=self._spent)

    def _recall(self, by_key: dict[str, list[Unit]]) -> None:
        """Score what the store already holds, and take it off the list."""
        stored = self.store.answers(list(by_key))
        found = [
            Answer(unit, reply_from_json(record["reply"]), None)
            for key, record in stored.items()
            for unit in by_key.pop(key)
        ]
        for start in range(0, len(found), 1000):
            self._keep(found[start : start + 1000])

    def _ask(self, by_key: dict[str, list[Unit]]) -> None:
        if self.watch is not None and self.watch.settled():
            self.status = "decided"
            return
        units = [same[0] for same in by_key.values()]
        if self.batch:
            self._ask_batches(units, by_key)
        else:
            self._ask_now(units, by_key)

    def _ask_batches(self, units: Sequence[Unit], by_key: dict[str, list[Unit]]) -> None:
        with Batches(self.store, units, self.bar.note) as batches:
            try:
                probed = self._ask_now(batches.probes, by_key)
                with self._stoppable(batches.interrupt):
                    if self.status == "complete":
                        self._take(batches.submit(probed), by_key)
                if not batches.interrupted and self.status == "complete":
                    self._ask_now(batches.direct, by_key)
                if self.status != "interrupted":
                    with self._stoppable(batches.interrupt):
                        for group in batches.answers():
                            self._take(group, by_key)
                            self.collected = batches.collected
            finally:
                self.collected = batches.collected
                if batches.interrupted:
                    self.status, self.reason = "interrupted", "interrupted"
                elif batches.stopped_by is not None:
                    self.status, self.reason = "budget", str(batches.stopped_by)
                self.under_way = batches.under_way()

    def _ask_now(self, units: Sequence[Unit], by_key: dict[str, list[Unit]]) -> list[Answer]:
        """Ask units one by one or, of local models, in groups; gives what they got."""
        asking, got = Asking(units, self.threads), []
        try:
            with self._stoppable(asking.interrupt):
                for group in asking:
                    got += group
                    self._take(group, by_key)
                    if self.watch is not None and self.watch.settled():
                        self.status = "decided"
                        break
        finally:
            # calls under way are paid for, so their answers are kept whatever ended the loop
            self._take(asking.stop(), by_key)
        if asking.interrupted:
            self.status, self.reason = "interrupted", "interrupted"
        if asking.stopped_by is not None:
            self.status, self.reason = "budget", str(asking.stopped_by)
        return got

    @contextlib.contextmanager
    def _stoppable(self, stop: Callable[[], None]) -> Iterator[None]:
        with interrupting.by_signal(stop), interrupting.by_store(self.store, self.id, stop):
            yield

    def _take(self, group: Sequence[Answer], by_key: dict[str, list[Unit]]) -> None:
        answers = [Answer(unit, a.reply, a.error) for a in group for unit in by_key[a.unit.key]]
        try:
            self.store.save_answers(
                [
                    record_of(a.unit.key, a.unit.cell.model.name, a.unit.query, a.reply, self.project)
                    for a in group
                    if a.reply is not None
                ]
            )
        except StoreError:
            self.rows += [self._row(a, None) for a in answers]
            raise
        self._keep(answers)

    def _keep(self, answers: Sequence[Answer]) -> None:
        made = [self._row(a, scored) for a, scored in zip(answers, self._scored(answers), strict=True)]
        self.rows += made
        self.store.save_rows(made)
        means = {label: rowing.running_mean(*s) for label, s in self._scores.items()}
        self.bar.update(len(made), means, self._spent, self._failed)

    @property
    def _spent(self) -> float:
        return self.bill.spent + self.collected

    def _scored(self, answers: Sequence[Answer]) -> list[rowing.Scored | None]:
        """Scores of the answers, side by side when scoring turns out slow (judges, code that is run)."""
        scored = []
        for i, answer in enumerate(answers):
            began = time.perf_counter()
            scored.append(_score(answer))
            if time.perf_counter() - began > _SLOW and i + 1 < len(answers):
                return scored + self._scored_side_by_side(answers[i + 1 :])
        return scored

    def _scored_side_by_side(self, answers: Sequence[Answer]) -> list[rowing.Scored | None]:
        with ThreadPoolExecutor(min(len(answers), self.threads)) as pool:
            # the caller's ledgers are context variables: each thread gets its own copy of the context
            calls = [pool.submit(contextvars.copy_context().run, _score, a) for a in answers]
            return [call.result() for call in calls]

    def _row(self, answer: Answer, scored: rowing.Scored | None) -> dict[str, Any]:
        row = rowing.row(answer.unit, answer.reply, answer.error, self.config["seed"], scored)
        row["run"] = self.id
        if self.watch is not None:
            self.watch.note(answer.unit, row)
        row["answer_key"] = answer.unit.key if answer.reply is not None else None
        total, count = self._scores[row["model"]]
        if row["score"] == row["score"]:
            self._scores[row["model"]] = (total + row["score"], count + 1)
        self._failed += bool(row["error"])
        return row

    def _place(self, row: Mapping[str, Any]) -> int:
        """Where a row was planned; answers come in any order."""
        return self._plan[row["model"], row["benchmark"], row["sample"], row["repeat"]]

    def _results(self) -> Results:
        from llmlab.results import Results

        results = Results(sorted(self.rows, key=self._place), status=self.status)
        if self.watch is not None:
            results.decisions = self.watch.summary(self.rows, len(self.work))
        return results


def _score(answer: Answer) -> rowing.Scored | None:
    return None if answer.reply is None else rowing.score(answer.unit, answer.reply)


def _config(plan: Iterable[Cell], config: dict[str, Any]) -> dict[str, Any]:
    asked = [
        {"model": c.label, "identity": dict(c.model.identity()), "benchmark": c.benchmark.name, "protocol": c.protocol}
        for c in plan
    ]
    return {**config, "cells": asked, "hash": digest(asked, config)}


@functools.cache
def versions() -> Mapping[str, str]:
    """Python and the packages here that answers can depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("llmlab", "torch", "transformers", "openai", "anthropic", "google-genai", "genai-prices"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@contextlib.contextmanager
def opened(store: str | Store | None) -> Iterator[Store]:
    """The store to use: the one given stays open, one opened from a URL (None: the default) is closed after."""
    from llmlab.store import Store

    if isinstance(store, Store):
        yield store
        return
    made = Store(store)
    try:
        yield made
    finally:
        made.close()
