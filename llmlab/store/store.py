"""The store: one SQLite file by default, or a Postgres database by URL."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sqlalchemy import Connection, CursorResult, insert, select, update

from llmlab import settings
from llmlab.errors import StoreError
from llmlab.store import schema, statements
from llmlab.store.codec import decode, decode_columns, encode, from_text, to_json, to_text
from llmlab.store.documents import Documents, lock
from llmlab.store.engine import connect_to, in_memory, parsed, safe
from llmlab.store.faults import explained
from llmlab.store.spending import Spending
from llmlab.store.tables import COLUMNS, HEAD, answers, rows, runs

if TYPE_CHECKING:
    import pandas as pd

# parameters of one IN (...): databases allow some thousands
_CHUNK = 900
# of how many recent answers and prompts the store knows what is stored
_REMEMBERED = 100_000


_RUN = ["id", "created", "name", "project", "status", "models", "benchmarks", "rows", "seconds", "cost"]
_RUN += ["config", "versions"]


class Totals(NamedTuple):
    """What is in a store: runs, their rows, and what they cost in US dollars where that is known."""

    runs: int
    rows: int
    cost: float


class Store:
    """Every answer that was ever paid for, and the rows of every run. Rows are plain dicts.

    What a method wrote is committed when it returns; when it raises, nothing of it was written. Threads and
    processes may use the same database at the same time.

    Args:
        url: SQLAlchemy URL, "sqlite:///runs.db" or "postgresql://user:password@host/database"; None is the
            default store (`llmlab.settings.store_url`). A new database is set up, an older one migrated.
        timeout: seconds to wait for another program that is writing.

    Raises:
        StoreError: here and in every method: what is wrong with the database and what to do.
    """

    def __init__(self, url: str | None = None, *, timeout: float = 30.0) -> None:
        self.url = url or settings.store_url()
        self.timeout = timeout
        address = parsed(self.url)
        self._name = safe(address)
        self._engine = connect_to(address, timeout)
        dialect = self._engine.dialect
        self._sqlite = dialect.name == "sqlite"
        # SQLite has one writer: our threads queue here, where waiting is fair and cheap
        self._writer = threading.RLock()
        self._memory = in_memory(address)
        # made once: building them takes longer than running them
        self._new_answers = statements.new_answers(dialect)
        self._new_prompts = statements.new_prompts(dialect)
        self._new_rows = statements.Rows(dialect)
        self.documents = Documents(dialect, self._reading, self._writing)
        self.spending = Spending(dialect, self._reading, self._writing)
        self._texts: OrderedDict[str, int] = OrderedDict()
        self._prompts: set[str] = set()
        self._pruned: str | None = None
        self._closed = False
        try:
            self._open()
        except BaseException:
            self._engine.dispose()
            raise

    # -- answers ------------------------------------------------------------------------------------------

    def answers(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The stored answers among `keys`, by key."""
        wanted = list(dict.fromkeys(map(to_text, keys)))
        found: dict[str, dict[str, Any]] = {}
        with self._reading() as connection:
            for start in range(0, len(wanted), _CHUNK):
                query = select(answers).where(answers.c.key.in_(wanted[start : start + _CHUNK]))
                for record in _records(connection.execute(query)):
                    found[from_text(record["key"])] = decode(answers, record)
        for key, answer in found.items():
            self._remember(key, answer)
        return found

    def save_answers(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Store answers: key, model, model_version, request, reply, cost, price, seconds; perhaps created, project.

        A key that is stored already keeps its first answer: that is the one which earlier rows were scored on.
        """
        if not records:
            return
        now = datetime.now(UTC)
        by_key = {record["key"]: record for record in reversed(records)}
        # in one order everywhere, or two writers of the same keys could wait for each other
        encoded = [encode(answers, {"created": now, **by_key[key]}) for key in sorted(by_key)]
        with self._writing() as connection:
            stored = list(map(from_text, connection.execute(self._new_answers, encoded).scalars().all()))
            self.spending.note(connection, [{"created": now, **by_key[key]} for key in stored])
        for key in stored:
            self._remember(key, by_key[key])

    # -- runs and rows ------------------------------------------------------------------------------------

    def start_run(
        self,
        config: Mapping[str, Any],
        versions: Mapping[str, str] | None = None,
        *,
        name: str = "",
        project: str = "",
        created: datetime | None = None,
    ) -> str:
        """Note that a run begins, now or when another tool began it; gives its id, which sorts by time."""
        now = (created or datetime.now(UTC)).astimezone(UTC)
        run = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        noted = {"id": run, "created": now, "name": name, "project": project, "config": config}
        noted |= {"versions": versions or {}, "status": "running"}
        with self._writing() as connection:
            connection.execute(insert(runs), encode(runs, noted))
        return run

    def finish_run(
        self, run: str, status: str = "complete", *, seconds: float | None = None, cost: float | None = None
    ) -> None:
        """Note how a run ended, how long it took and what it cost in US dollars."""
        ended = {"status": status, "seconds": seconds, "cost": cost}
        changed = {k: v for k, v in encode(runs, ended).items() if k in ended}
        with self._writing() as connection:
            if not connection.execute(update(runs).where(runs.c.id == run).values(changed)).rowcount:
                raise StoreError(f"no run {run!r} in the store {self._name}; see `store.runs()`")
            statements.count_cells(connection, [run])

    def stop_run(self, run: str) -> None:
        """Ask the program that evaluates a run, wherever it is, to end it: what was answered by then is kept.

        Its status is "stopping" until that program has seen it, about a second later, and waited for the calls that
        are under way; then "interrupted". The same `evaluate` goes on from there.

        Raises:
            StoreError: for a run that is not there, or has ended.
        """
        known = runs.c.id == to_text(run)
        with self._writing() as connection:
            status = connection.scalar(select(runs.c.status).where(known))
            if status not in ("running", "stopping"):
                ended = f"no run {run!r} in" if status is None else f"the run {run!r} has ended ({status}), in"
                raise StoreError(f"{ended} the store {self._name}; see `store.runs()`")
            connection.execute(update(runs).where(known).values(status="stopping"))

    def is_stopping(self, run: str) -> bool:
        """Whether somebody asked for an end of a run that is under way."""
        with self._reading() as connection:
            return connection.scalar(select(runs.c.status).where(runs.c.id == to_text(run))) == "stopping"

    def save_rows(self, made: Sequence[Mapping[str, Any]]) -> None:
        """Store rows of a Results table (`store.tables.COLUMNS`) with their `run` and `answer_key`.

        A row of the same run, model, benchmark, protocol, sample and repeat is replaced.
        """
        if not made:
            return
        new: dict[str, str] = {}
        encoded = [self._encoded_row(row, new) for row in made]
        with self._writing() as connection:
            if self._pruned_elsewhere(connection):
                new = {}
                encoded = [self._encoded_row(row, new) for row in made]
            if new:
                missing = [{"hash": digest, "text": new[digest]} for digest in sorted(new)]
                connection.execute(self._new_prompts, missing)
            self._new_rows.put(connection, encoded)
            connection.execute(statements.uncounted({row["run"] for row in encoded}))
        if len(self._prompts) > _REMEMBERED:
            self._prompts.clear()
        self._prompts.update(new)

    def results(
        self,
        run: str | None = None,
        limit: int | None = None,
        *,
        columns: Collection[str] = COLUMNS,
        where: Mapping[str, Collection[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """The rows of a run in the order they were first stored.

        Args:
            run: its id; None is the latest.
            limit: only the first so many.
            columns: only these; without prompts and texts, a large run is read several times faster.
            where: only rows whose column is one of some texts: `{"benchmark": ["arc"], "sample": ["7"]}`.
        """
        with self._reading() as connection:
            if run is None:
                run = connection.execute(statements.latest_run()).scalar()
                if run is None:
                    raise StoreError(f"the store {self._name} has no runs yet; `lab.evaluate` makes one")
            else:
                self._place(connection, run)
            query = statements.rows_of(run, columns, where or {})
            return _decoded_rows(connection.execute(query.limit(limit)), columns)

    def runs(self, words: str = "", last: int | None = None, before: str | None = None) -> pd.DataFrame:
        """Runs, latest first: created (UTC), name, project, status, models, benchmarks, rows, seconds, cost, ...

        Args:
            words: only runs in which each of them occurs: in the id, the time, the name, the project, the status, a
                model or a benchmark.
            last: at most so many.
            before: id of a run; only those that began before it, to go on where a short list ended.
        """
        import pandas as pd

        query = select(runs).order_by(*statements.LATEST_FIRST)
        if not words.split():
            query = query.limit(last)
        with self._reading() as connection:
            if before is not None:
                query = query.where(statements.began_before(*self._place(connection, before)))
            noted = list(_records(connection.execute(query)))
            counted = statements.cells(connection, [record["id"] for record in noted if record["cells"] is None])
        for record in noted:
            record["cells"] = record["cells"] or to_json(counted.get(record["id"], []))
        found = [record for record in noted if _has(record, words)][:last]
        columns = decode_columns(runs, {c.name: [record[c.name] for record in found] for c in runs.c})
        cells = columns["cells"]
        columns["models"] = [list(dict.fromkeys(cell[0] for cell in here)) for here in cells]
        columns["benchmarks"] = [list(dict.fromkeys(cell[1] for cell in here)) for here in cells]
        columns["rows"] = [sum(cell[2] for cell in here) for here in cells]
        # pandas' own text type holds no lone surrogates
        frame = pd.DataFrame({name: columns[name] for name in _RUN}, dtype=object).set_index("id")
        frame["created"] = pd.to_datetime(frame["created"], utc=True)
        return frame.astype({"rows": int, "seconds": float, "cost": float})

    def latest(self) -> dict[tuple[str, str], str]:
        """(model, benchmark) -> the id of the latest run that has both."""
        query = select(runs.c.id, runs.c.cells).order_by(*statements.LATEST_FIRST)
        with self._reading() as connection:
            noted = connection.execute(query).all()
            counted = statements.cells(connection, [run for run, cells in noted if cells is None])
        read = functools.cache(json.loads)  # most runs of a store are of a few kinds
        found: dict[tuple[str, str], str] = {}
        for run, cells in noted:
            for model, benchmark, _ in counted.get(run, []) if cells is None else read(cells):
                found.setdefault((model, benchmark), from_text(run))
        return found

    def totals(self) -> Totals:
        """How many runs and rows there are, and what the runs cost."""
        with self._reading() as connection:
            count, size, cost = connection.execute(statements.totals()).one()
        return Totals(count, int(size), float(cost))

    def usage(self, model: str, benchmark: str, protocol: str, limit: int = 10_000) -> list[tuple[int, int, float]]:
        """Input tokens, output tokens and seconds of the latest stored answers to a benchmark, each answer once."""
        query = statements.usage_of(model, benchmark, protocol, limit)
        with self._reading() as connection:
            return [(r[0], r[1], math.nan if r[2] is None else r[2]) for r in connection.execute(query)]

    def _place(self, connection: Connection, run: str) -> tuple[datetime, int]:
        """Of a run in the order of runs."""
        found = connection.execute(select(runs.c.created, runs.c.number).where(runs.c.id == run)).first()
        if found is None:
            raise StoreError(f"no run {run!r} in the store {self._name}; see `store.runs()`")
        return found[0], found[1]

    # -- the connection -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections. A closed store cannot be used again."""
        self._closed = True
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self._name!r})"

    def _open(self) -> None:
        with self._reading() as connection:
            up_to_date = schema.stamped(connection) == HEAD
        if not up_to_date:
            with self._writing() as connection:
                schema.bring_up(connection, self._name)
        with self._reading() as connection:
            self._pruned = connection.scalar(statements.prunings())

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        # a store in memory has one connection, which threads must not share at the same time
        with self._writer if self._memory else contextlib.nullcontext(), self._transaction() as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._writer if self._sqlite else contextlib.nullcontext(), self._transaction(write=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, write: bool = False) -> Iterator[Connection]:
        if self._closed:
            raise StoreError(f"the store {self._name} is closed; open it again with Store(...)")
        with explained(self._name, self.timeout), self._engine.connect() as connection:
            connection.execution_options(llmlab_write=write)
            with connection.begin():
                yield connection

    # -- texts that are kept once -------------------------------------------------------------------------

    def _remember(self, key: str, record: Mapping[str, Any]) -> None:
        text = _text_of(record.get("reply"))
        if text is not None:
            self._texts[key] = hash(text)
            if len(self._texts) > _REMEMBERED:
                self._texts.popitem(last=False)

    def _pruned_elsewhere(self, connection: Connection) -> bool:
        """Whether another program has deleted since we last looked; what we remember as stored may be gone then."""
        if not self._sqlite:
            lock(connection, statements.PRUNING, "", shared=True)  # nothing is deleted until we are done
        before, self._pruned = self._pruned, connection.scalar(statements.prunings())
        if before == self._pruned:
            return False
        self._texts.clear()
        self._prompts.clear()
        return True

    def _encoded_row(self, row: Mapping[str, Any], new: dict[str, str]) -> dict[str, Any]:
        encoded = encode(rows, row)
        text = row.get("text")
        shared = isinstance(text, str) and self._texts.get(row.get("answer_key") or "") == hash(text)
        encoded["shared_text"] = shared
        if shared:
            encoded["text"] = None
        prompt = encoded["prompt"]
        if prompt is not None:
            digest = _digest(prompt)
            encoded["prompt"] = digest
            if digest not in self._prompts:
                new[digest] = prompt
        return encoded


def _has(run: Mapping[str, Any], words: str) -> bool:
    said = " ".join(str(run[name]) for name in ("id", "created", "name", "project", "status", "cells")).lower()
    return all(word in said for word in words.lower().split())


def _records(result: CursorResult[Any]) -> Iterator[dict[str, Any]]:
    # plain dicts, because looking a column up by name in SQLAlchemy's rows costs more than all the rest
    names = list(result.keys())
    return (dict(zip(names, record, strict=True)) for record in result)


def _decoded_rows(result: CursorResult[Any], names: Collection[str]) -> list[dict[str, Any]]:
    found = dict(zip(result.keys(), zip(*result.all(), strict=True), strict=False))
    if not found:
        return []
    columns = decode_columns(rows, found)
    if "text" in columns:
        kept = zip(columns["text"], found["shared_text"], found["reply"], strict=True)
        columns["text"] = [_text_of(json.loads(reply)) if shared else text for text, shared, reply in kept]
    return [dict(zip(names, row, strict=True)) for row in zip(*(columns[name] for name in names), strict=True)]


def _text_of(reply: Any) -> str | None:
    """The text of an answer, wherever the reply keeps it."""
    for part in (reply, reply.get("response")) if isinstance(reply, Mapping) else ():
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            return str(part["text"])
    return None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
