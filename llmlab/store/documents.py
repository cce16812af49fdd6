"""Small things that are few: experiments, profiles, feedback, watches, alerts. Each is JSON under a kind and a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Dialect, Select, Update, delete, select, update

from llmlab.store.codec import decode, encode, to_text
from llmlab.store.statements import new_documents
from llmlab.store.tables import documents

Body = Mapping[str, Any]
Transaction = Callable[[], AbstractContextManager[Connection]]


class Documents:
    """`store.documents`. What a method wrote is committed when it returns; threads and processes may write at once."""

    def __init__(self, dialect: Dialect, reading: Transaction, writing: Transaction) -> None:
        self._new = new_documents(dialect)
        self._postgres = dialect.name == "postgresql"
        self._reading = reading
        self._writing = writing

    def claim(self, kind: str, key: str, body: Body, *, project: str = "") -> bool:
        """Store a document if there is none under this key; says whether it did. Of several at once, one does."""
        with self._writing() as connection:
            return self._insert(connection, kind, key, body, project)

    def put(self, kind: str, key: str, body: Body, *, project: str = "") -> None:
        """Store a document; one that is there under the same key is replaced and keeps its time of creation."""
        with self._writing() as connection:
            if not self._insert(connection, kind, key, body, project):
                connection.execute(_set(kind, key, body))

    def change(self, kind: str, key: str, f: Callable[[dict[str, Any] | None], Body | None]) -> dict[str, Any] | None:
        """Replace a document by what `f` makes of it, with nobody writing in between; gives the new one.

        `f` gets None when there is none, and leaves everything as it is by returning None.
        """
        with self._writing() as connection:
            return self.change_in(connection, kind, key, f)

    def change_in(
        self, connection: Connection, kind: str, key: str, f: Callable[[dict[str, Any] | None], Body | None]
    ) -> dict[str, Any] | None:
        """`change` as a part of a transaction that writes."""
        if self._postgres:
            lock(connection, kind, key)
        old = connection.execute(_one(kind, key)).mappings().first()
        new = f(None if old is None else decode(documents, old)["body"])
        if new is not None and not self._insert(connection, kind, key, new, ""):
            connection.execute(_set(kind, key, new))
        return None if new is None else dict(new)

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """The document under a key, None when there is none."""
        with self._reading() as connection:
            record = connection.execute(_one(kind, key)).mappings().first()
        return None if record is None else decode(documents, record)["body"]

    def find(
        self,
        kind: str,
        *,
        prefix: str = "",
        project: str | None = None,
        since: datetime | None = None,
        last: int | None = None,
    ) -> list[dict[str, Any]]:
        """Documents of a kind, oldest first: key, created (UTC), project, body.

        Args:
            kind: of documents.
            prefix: what their keys begin with.
            project: only those of one project.
            since: only those created then or later.
            last: only the newest so many.
        """
        query = select(documents).where(documents.c.kind == to_text(kind))
        if prefix:
            query = query.where(documents.c.key.startswith(to_text(prefix), autoescape=True))
        if project is not None:
            query = query.where(documents.c.project == to_text(project))
        if since is not None:
            query = query.where(documents.c.created >= since)
        query = query.order_by(documents.c.number.desc() if last is not None else documents.c.number).limit(last)
        with self._reading() as connection:
            records = connection.execute(query).mappings().all()
        if last is not None:
            records = records[::-1]
        found = [decode(documents, record) for record in records]
        return [{name: one[name] for name in ("key", "created", "project", "body")} for one in found]

    def drop(self, kind: str, key: str) -> bool:
        """Forget a document; says whether there was one."""
        with self._writing() as connection:
            return bool(connection.execute(delete(documents).where(*_where(kind, key))).rowcount)

    def _insert(self, connection: Connection, kind: str, key: str, body: Body, project: str) -> bool:
        made = {"kind": kind, "key": key, "project": project, "created": datetime.now(UTC), "body": dict(body)}
        return connection.execute(self._new, encode(documents, made)).first() is not None


def _where(kind: str, key: str) -> tuple[Any, Any]:
    return documents.c.kind == to_text(kind), documents.c.key == to_text(key)


def _one(kind: str, key: str) -> Select[Any]:
    return select(documents).where(*_where(kind, key))


def _set(kind: str, key: str, body: Body) -> Update:
    return update(documents).where(*_where(kind, key)).values(body=encode(documents, {"body": dict(body)})["body"])


def lock(connection: Connection, kind: str, key: str, *, shared: bool = False) -> None:
    """Hold off others on Postgres until the transaction ends; a row that is not there yet cannot be locked itself.

    Those who share it hold off only those who do not.
    """
    from sqlalchemy import func

    take = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
    connection.execute(select(take(func.hashtext(to_text(f"{kind}\n{key}")))))
