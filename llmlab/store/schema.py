"""Bringing a database to the newest schema when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from llmlab.errors import StoreError
from llmlab.store.tables import HEAD, VERSION_TABLE, metadata

if TYPE_CHECKING:
    from alembic.config import Config

# any constant: processes that open a new Postgres database at the same time queue up here
_SETUP_LOCK = 0x11A8


def stamped(connection: Connection) -> str | None:
    """The revision a database is at; None when it has no table of ours that says so."""
    if connection.dialect.name == "sqlite":
        # asking the catalogue first: a missing table must not look like any other error
        known = connection.execute(
            text("select 1 from sqlite_master where name = :name"), {"name": VERSION_TABLE}
        ).first()
        if known is None:
            return None
    elif not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"select version_num from {VERSION_TABLE}")).scalar()  # noqa: S608  # a constant


def bring_up(connection: Connection, where: str) -> None:
    """Create or migrate the schema inside the caller's transaction, which holds off other writers.

    Raises:
        StoreError: when the schema is newer than this library, or the tables belong to something else.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _SETUP_LOCK})
    revision = stamped(connection)
    if revision == HEAD:
        return  # another process was faster
    if revision is None:
        _create(connection, where)
    else:
        _migrate(connection, revision, where)


def _create(connection: Connection, where: str) -> None:
    foreign = set(inspect(connection).get_table_names()) & set(metadata.tables)
    if foreign:
        raise StoreError(
            f"the database {where} has tables of another program with our names ({', '.join(sorted(foreign))}); "
            "name another store (store=... or LLMLAB_STORE)"
        )
    metadata.create_all(connection, checkfirst=False)
    connection.execute(text(f"create table {VERSION_TABLE} (version_num varchar(32) not null primary key)"))
    connection.execute(
        text(f"insert into {VERSION_TABLE} (version_num) values (:head)"),  # noqa: S608  # a constant
        {"head": HEAD},
    )


def _migrate(connection: Connection, revision: str, where: str) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = alembic_config(connection)
    try:
        ScriptDirectory.from_config(config).get_revision(revision)
    except CommandError as error:
        raise StoreError(
            f"the store {where} has schema {revision!r}, and this version of llmlab knows schemas up to {HEAD!r}: "
            "it was written by a newer version. Update llmlab (pip install -U llmlab), or name another store "
            "(store=... or LLMLAB_STORE)"
        ) from error
    try:
        command.upgrade(config, "head")
    except DBAPIError:
        raise
    except CommandError as error:
        raise StoreError(f"the store {where} could not be brought from schema {revision} to {HEAD}: {error}") from error


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings for one open connection; there is no alembic.ini."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config
