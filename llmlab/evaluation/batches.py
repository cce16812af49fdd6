"""The providers' batch APIs: half the price, within a day. A provider writes how to submit, poll and collect.

A batch is noted in the store before it is submitted, its id as soon as it is known, and its requests until their
answers are stored. So a program that was killed at any moment goes on with the batch that it submitted.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import secrets
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from llmlab import ledger
from llmlab.benchmarks.base import Reply
from llmlab.errors import BadRequest, BudgetExceeded, LabError, MissingPackage, ProviderError, Unauthorized
from llmlab.evaluation.asking import Answer
from llmlab.evaluation.plan import Cell, Unit
from llmlab.models import faults, tries
from llmlab.models.base import Model
from llmlab.models.decide import ask_letter, read_letter
from llmlab.models.remote import RemoteModel
from llmlab.prices import worst_case
from llmlab.types import Protocol, Request, Response, digest

if TYPE_CHECKING:
    from llmlab.store import Store

log = logging.getLogger("llmlab.evaluation")

FIRST_WAIT = 2.0
"""Seconds between the first two looks at a batch; half as long again each time, up to LONGEST_WAIT."""
LONGEST_WAIT = 60.0
_KIND = "batch"
_PROTOCOLS: tuple[Protocol, ...] = ("generate", "letter", "letter_logprob")
_GROUP = 1000
_SEPARATOR = 2
"""Bytes that separate one request from the next."""
_submitting: set[str] = set()
"""Tags of the batches that this process is submitting just now."""

_Body: TypeAlias = dict[str, Any]


@dataclass
class Job:
    """A batch under way.

    Attributes:
        tag: its key in the store.
        id: the provider's; "" while another program is submitting it.
        units: those of its requests that are wanted here, by key.
        bill: what is reserved for it; None when another program submitted it.
        done: how many requests the provider has dealt with, where it tells.
        failures: how often in a row its answers could not be read.
    """

    tag: str
    model: RemoteModel
    id: str
    units: dict[str, Unit]
    submitted: datetime
    bill: ledger.charge | None = None
    done: int = 0
    failures: int = 0


class Batches:
    """The part of an evaluation that goes through batch APIs; what is under way when its `with` block ends goes on.

    Args:
        store: where batches are noted.
        units: all that is to be asked.
        note: is told how far the batches are, in a few words.

    Attributes:
        direct: units to ask as usual: those of models without a batch API, and of protocols that it does not take.
        probes: one unit per model and benchmark, to be asked first: a wrong key, a wrong model or an option that the
            model refuses then shows at once and not after a day. `submit` takes what they got.
        jobs: batches under way.
        stopped_by: why a batch was not submitted, when it might have cost more than a budget has left.
        collected: US dollars of answers whose batch another program submitted, and reserved money for.
    """

    def __init__(self, store: Store, units: Sequence[Unit], note: Callable[[str], None]) -> None:
        self.store = store
        self.direct = [u for u in units if not _can_batch(u.cell)]
        self.probes: list[Unit] = []
        self.jobs: list[Job] = []
        self.stopped_by: BudgetExceeded | None = None
        self.collected = 0.0
        self._note = note
        self._left: dict[str, list[Unit]] = {}
        self._stop = threading.Event()
        _tell(self.direct)
        groups: dict[str, dict[str, Unit]] = defaultdict(dict)
        for unit in units:
            if _can_batch(unit.cell):
                groups[_prefix(unit.cell.model)][unit.key] = unit
        for prefix, wanted in groups.items():
            self._resume(prefix, wanted)
            first = {id(unit.cell): unit for unit in reversed(wanted.values())}
            self.probes += first.values()
            self._left[prefix] = [unit for unit in wanted.values() if unit is not first[id(unit.cell)]]

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self.jobs:
            if job.bill is not None:  # it will cost something: what is reserved for it counts as spent
                job.bill.__exit__(None, None, None)

    # -- submitting ---------------------------------------------------------------------------------------

    def submit(self, probed: Sequence[Answer]) -> list[Answer]:
        """Submit all that is left, in as many batches as the provider's limits ask for.

        Returns:
            Answers of the units that could not be submitted, each with its error.
        """
        failed: list[Answer] = []
        fatal = {id(a.unit.cell): a.error for a in probed if _fatal(a.error)}
        for prefix, units in self._left.items():
            failed += [Answer(u, None, fatal[id(u.cell)]) for u in units if id(u.cell) in fatal]
            for lines in _split([u for u in units if id(u.cell) not in fatal], failed):
                if self.stopped_by or self._stop.is_set():
                    return failed
                failed += self._submit(prefix, lines)
        return failed

    def _submit(self, prefix: str, lines: Sequence[_Line]) -> list[Answer]:
        units = {line.unit.key: line.unit for line in lines}
        model = _model(lines[0].unit)
        job = Job(f"{prefix}/{digest(sorted(units))}", model, "", units, datetime.now(UTC))
        job.bill = ledger.charge(
            model, lines[0].sent, lambda: math.fsum(worst_case(model.name, line.sent, batch=True) for line in lines)
        )
        try:
            job.bill.__enter__()
        except BudgetExceeded as error:
            self.stopped_by = BudgetExceeded(f"a batch of {len(lines):,} requests was not submitted, because {error}")
            return []
        self.jobs.append(job)
        body: _Body = {"model": model.name, "id": "", "label": f"llmlab-{secrets.token_hex(8)}"}
        body |= {"keys": list(units), "taken": [], "refused": sorted(model.capabilities.refused)}
        body |= {"host": platform.node(), "process": os.getpid()}
        _submitting.add(job.tag)
        try:
            if not self.store.documents.claim(_KIND, job.tag, body):
                return []  # another program has just begun the same; its answers are waited for
            job.id = _submitted(model, [line.wire for line in lines], body["label"], self._ids(prefix))
            self.store.documents.put(_KIND, job.tag, {**body, "id": job.id})
        except ProviderError as error:
            if not error.paid:
                self.store.documents.drop(_KIND, job.tag)
                job.bill.cost = 0.0
            self.jobs.remove(job)
            job.bill.__exit__(None, None, None)
            return [Answer(unit, None, error) for unit in units.values()]
        finally:
            _submitting.discard(job.tag)
        log.info("%s: batch %s of %d requests is submitted", model.name, job.id, len(lines))
        return []

    def _resume(self, prefix: str, wanted: dict[str, Unit]) -> None:
        """Take what earlier programs submitted off `wanted`, and on the list of jobs."""
        for document in self.store.documents.find(_KIND, prefix=f"{prefix}/"):
            body = document["body"]
            units = {key: wanted[key] for key in body["keys"] if key in wanted and key not in body["taken"]}
            if not units:
                continue
            job = Job(document["key"], _model(next(iter(units.values()))), body["id"], units, document["created"])
            if not job.id and not self._find(job, body):
                continue
            for option in body["refused"]:
                job.model.capabilities.learn(option)
            self.jobs.append(job)
            for key in units:
                del wanted[key]

    def _find(self, job: Job, body: _Body) -> bool:
        """Look for a batch whose submission was cut short; whether there is one, or may be one soon."""
        if _alive(job, body):
            return True
        known = self._ids(job.tag.partition("/")[0])
        found = _found(job.model, body["label"], len(body["keys"]), job.submitted, known)
        if found is None:
            self.store.documents.drop(_KIND, job.tag)  # it never arrived
            return False
        job.id = found
        self.store.documents.put(_KIND, job.tag, {**body, "id": found})
        return True

    def _ids(self, prefix: str) -> set[str]:
        """The batches that are noted already."""
        return {d["body"]["id"] for d in self.store.documents.find(_KIND, prefix=f"{prefix}/")}

    # -- collecting ---------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Submit nothing new and wait no longer. May be called by a signal handler."""
        self._stop.set()

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._stop.is_set()

    def answers(self) -> Iterator[list[Answer]]:
        """Groups of answers as batches end; a group is stored when the next one is asked for."""
        wait = FIRST_WAIT
        while self.jobs and not self.interrupted:
            for job in list(self.jobs):
                ended = self._ended(job)
                if ended is None:
                    continue
                wait = FIRST_WAIT
                for start in range(0, len(ended.answers), _GROUP):
                    yield ended.answers[start : start + _GROUP]
                self._close(job, ended)
            if self.jobs:
                done, n = sum(job.done for job in self.jobs), sum(len(job.units) for job in self.jobs)
                self._note(f"{done:,} of {n:,} done in {len(self.jobs)} batch{'es' * (len(self.jobs) != 1)}")
                self._stop.wait(wait)
                wait = min(wait * 1.5, LONGEST_WAIT)

    def under_way(self) -> str:
        """What is still at the providers, in words; "" when nothing is."""
        if not self.jobs:
            return ""
        n = sum(len(job.units) for job in self.jobs)
        ids = ", ".join(f"{job.model.name} {job.id}".strip() for job in self.jobs)
        return f"{n:,} items are in batches that go on without this program ({ids}); the same call collects them"

    def _ended(self, job: Job) -> _Ended | None:
        """The answers of a batch that has ended, None when it goes on."""
        try:
            if not job.id:
                return self._adopted(job)
            progress = job.model.poll_batch(job.id)
            job.done = min(progress.done, len(job.units))
            if not progress.ended:
                return None
            body = self.store.documents.get(_KIND, job.tag) or {"keys": list(job.units)}
            found = dict(job.model.collect_batch(job.id, body["keys"]))
            return _Ended([_answer(unit, found.get(key), job, progress.state) for key, unit in job.units.items()])
        except ProviderError as error:
            job.failures = job.failures + 1 if error.status == 200 else 0
            if error.retryable and job.failures < job.model.tries:
                log.warning("%s; looking again", error)
                return None
            # an answer may still be collected by a later call, unless the provider does not know the batch
            gone = isinstance(error, BadRequest) and error.status == 404
            return _Ended([Answer(unit, None, error) for unit in job.units.values()], for_good=gone)

    def _adopted(self, job: Job) -> _Ended | None:
        """Look whether another program has submitted the batch by now."""
        body = self.store.documents.get(_KIND, job.tag)
        job.id = (body or {}).get("id", "")
        if job.id or (body is not None and self._find(job, body)):
            return None
        error = ProviderError(f"{job.model.name}: another program failed to submit this batch; run again to ask")
        return _Ended([Answer(unit, None, error) for unit in job.units.values()])

    def _close(self, job: Job, ended: _Ended) -> None:
        """Settle what a batch cost, and forget the requests that are dealt with."""
        self.jobs.remove(job)
        cost = math.fsum(_cost(answer) for answer in ended.answers)
        if job.bill is not None:
            job.bill.cost = cost
            job.bill.__exit__(None, None, None)
        else:
            self.collected += 0.0 if math.isnan(cost) else cost
        if not ended.for_good:
            return

        def taken(old: _Body | None) -> _Body | None:
            return None if old is None else {**old, "taken": [*old["taken"], *job.units]}

        left = self.store.documents.change(_KIND, job.tag, taken)
        if left is not None and set(left["taken"]) >= set(left["keys"]):
            self.store.documents.drop(_KIND, job.tag)


class _Ended(NamedTuple):
    """The answers of a batch, and whether it has no others to give."""

    answers: list[Answer]
    for_good: bool = True


class _Line(NamedTuple):
    """One request of a batch: as it is meant, as it goes out, and as the provider spells it."""

    unit: Unit
    sent: Request
    wire: Mapping[str, Any]


def _can_batch(cell: Cell) -> bool:
    return isinstance(cell.model, RemoteModel) and cell.model.batches is not None and cell.protocol in _PROTOCOLS


def _tell(direct: Sequence[Unit]) -> None:
    """Say which models are asked as usual, and why."""
    for cell in {id(u.cell): u.cell for u in direct}.values():
        model = cell.model
        has = isinstance(model, RemoteModel) and model.batches is not None
        why = f"no batch API takes the protocol {cell.protocol!r}" if has else "there is no batch API for it"
        warnings.warn(f"{cell.label} is asked {cell.benchmark.name} as usual: {why}", stacklevel=6)


def _model(unit: Unit) -> RemoteModel:
    assert isinstance(unit.cell.model, RemoteModel)
    return unit.cell.model


def _prefix(model: Model) -> str:
    return digest(dict(model.identity()))


def _asked(unit: Unit) -> Request:
    """What one unit asks of `generate`."""
    query = unit.query
    assert query.request is not None
    if query.protocol == "generate":
        return unit.cell.model._complete(query.request, {})
    return unit.cell.model._complete(ask_letter(query.request, query.choices, query.protocol), {})


def _split(units: Sequence[Unit], failed: list[Answer]) -> Iterator[list[_Line]]:
    """Requests, as many as a batch takes; units that cannot be sent go to `failed`."""
    lines: list[_Line] = []
    size = 0
    for unit in units:
        model = _model(unit)
        assert model.batches is not None
        try:
            sent, _ = model.sendable(_asked(unit))
            line = _Line(unit, sent, model.batch_line(unit.key, sent))
        except LabError as error:
            failed.append(Answer(unit, None, error))
            continue
        more = len(json.dumps(line.wire)) + _SEPARATOR
        if lines and (len(lines) == model.batches.requests or size + more > model.batches.bytes):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += more
    if lines:
        yield lines


def _fatal(error: Exception | None) -> bool:
    """Whether an error says that no request to this model can succeed."""
    unknown = isinstance(error, BadRequest) and error.status == 404
    return unknown or isinstance(error, Unauthorized | MissingPackage)


def _submitted(model: RemoteModel, lines: Sequence[Mapping[str, Any]], label: str, known: set[str]) -> str:
    """The id of the new batch. One that may have arrived although the call failed is looked for, never sent twice."""
    began, wait = datetime.now(UTC), tries.FIRST_WAIT
    for left in reversed(range(model.tries)):
        try:
            return model.submit_batch(lines, label)
        except ProviderError as error:
            if error.paid and (found := _found(model, label, len(lines), began, known)) is not None:
                return found
            if not (error.retryable and left):
                raise
            time.sleep(wait if error.retry_after is None else min(error.retry_after, tries.PATIENCE))
            wait = min(2 * wait, tries.LONGEST_WAIT)
    raise AssertionError("the last try raises")


def _found(model: RemoteModel, label: str, size: int, since: datetime, known: set[str]) -> str | None:
    return next((found for found in model.find_batches(label, size, since) if found not in known), None)


def _alive(job: Job, body: _Body) -> bool:
    """Whether the program that began to submit a batch may still be at it."""
    if body["host"] != platform.node() or os.name != "posix":
        return datetime.now(UTC) - job.submitted < timedelta(seconds=job.model.timeout * job.model.tries)
    if body["process"] == os.getpid():
        return job.tag in _submitting
    try:
        os.kill(body["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _answer(unit: Unit, found: Response | ProviderError | None, job: Job, state: str) -> Answer:
    """What one unit got from its batch."""
    model, query = job.model, unit.query
    if found is None:
        return Answer(unit, None, faults.unanswered(model.name, state))
    if isinstance(found, ProviderError):
        if isinstance(found, faults.RefusedOption):
            model.capabilities.learn(found.option)
        return Answer(unit, None, found)
    asked = _asked(unit)
    sent, dropped = model.sendable(asked)
    response = tries.completed(model, found, asked, sent, dropped, batch=job.submitted)
    if query.protocol == "generate":
        return Answer(unit, Reply(response=response), None)
    try:
        return Answer(unit, Reply(decision=read_letter(model.name, response, query.choices, query.protocol)), None)
    except LabError as error:
        return Answer(unit, None, error)


def _cost(answer: Answer) -> float:
    """US dollars of one answer. Who has no answer is not charged, and what has no price counts with its worst case."""
    if answer.reply is None or answer.reply.answer is None:
        return 0.0
    cost = answer.reply.answer.cost
    return worst_case(answer.unit.cell.model.name, _asked(answer.unit), batch=True) if math.isnan(cost) else cost
