"""A new database and a migrated one are the same, and a migration keeps what is there."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect

from llmlab.errors import StoreError
from llmlab.store import Store, schema
from llmlab.store.tables import HEAD, VERSION_TABLE, metadata
from tests.store.rows import answer


@pytest.fixture
def engine(tmp_path: Path):
    made = create_engine(f"sqlite:///{tmp_path / 'runs.db'}")
    yield made
    made.dispose()


def migrate(engine: Engine, revision: str) -> None:
    from alembic import command

    with engine.begin() as connection:
        command.upgrade(schema.alembic_config(connection), revision)


def described(engine: Engine) -> dict[str, object]:
    """All tables with their columns, keys and indexes; the version table is Alembic's own business."""
    see = inspect(engine)
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in see.get_columns(table)],
            see.get_pk_constraint(table),
            sorted(map(str, see.get_unique_constraints(table))),
            sorted(map(str, see.get_indexes(table))),
        )
        for table in sorted(see.get_table_names())
        if table != VERSION_TABLE
    }


def test_head_is_the_newest_migration(engine: Engine):
    from alembic.script import ScriptDirectory

    with engine.begin() as connection:
        assert ScriptDirectory.from_config(schema.alembic_config(connection)).get_heads() == [HEAD]


def test_migrated_schema_equals_the_tables(engine: Engine, tmp_path: Path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    migrate(engine, "head")
    with engine.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, parents: name != VERSION_TABLE}
        )
        assert compare_metadata(context, metadata) == []
    fresh = tmp_path / "fresh.db"
    Store(f"sqlite:///{fresh}").close()
    other = create_engine(f"sqlite:///{fresh}")
    assert described(other) == described(engine)
    other.dispose()


def test_older_store_is_migrated_when_opened_and_keeps_its_rows(engine: Engine, tmp_path: Path):
    migrate(engine, "0001")
    with engine.begin() as connection:
        assert "spend" not in inspect(connection).get_table_names()
        connection.exec_driver_sql(
            "insert into answers (key, created, reply) values ('old', '2026-01-02 03:04:05', '{\"text\": \"kept\"}')"
        )
    engine.dispose()
    for _ in range(2):
        with Store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
            old = store.answers(["old"])["old"]
            assert old["reply"] == {"text": "kept"}
            assert old["created"].isoformat() == "2026-01-02T03:04:05+00:00"
            store.save_answers([answer("new")])
            with store._reading() as connection:
                assert schema.stamped(connection) == HEAD
    assert "spend" in inspect(engine).get_table_names()


def test_migration_that_fails_leaves_the_old_schema(engine: Engine, tmp_path: Path):
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql("create table spend (mine integer)")  # in the way of 0002
        before = described(engine)
    engine.dispose()
    with pytest.raises(StoreError, match="table spend already exists"):
        Store(f"sqlite:///{tmp_path / 'runs.db'}")
    assert described(engine) == before
    with engine.begin() as connection:
        assert schema.stamped(connection) == "0001"


@pytest.mark.parametrize("start", ["nothing", "0001"])
def test_processes_that_open_first_at_the_same_time_all_succeed(engine: Engine, tmp_path: Path, start: str):
    if start != "nothing":
        migrate(engine, start)
        engine.dispose()
    code = (
        "import sys\n"
        "from llmlab.store import Store\n"
        "print('ready', flush=True); input()\n"
        "with Store(sys.argv[1]) as store:\n"
        "    store.start_run({})"
    )
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'runs.db'}"]
    children = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    with Store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        assert len(store.runs()) == 4


OLD = (
    "insert into runs (number, id, created, project, status) values"
    " (1, 'r1', '2026-01-01 00:00:00', 'p', 'complete'), (2, 'r2', '2026-01-02 00:00:00', 'q', 'complete'),"
    " (3, 'r3', '2026-01-03 00:00:00', 'q', 'running')",
    "insert into answers (key, created, model, cost, price) values"
    " ('a', '2026-01-01 23:30:00+00', 'm', 0.5, 'list'), ('b', '2026-01-01 01:00:00+00', 'm', null, null),"
    " ('c', '2026-01-02 01:00:00+00', 'm', 0.25, 'machine-hour 0.3'), ('d', '2026-01-02 01:00:00+00', 'm', 2, 'list')",
    "insert into rows (run, model, benchmark, protocol, sample, repeat, answer_key, shared_text) values"
    " ('r1', 'm', 'facts', 'generate', '1', 0, 'a', false), ('r1', 'm', 'facts', 'generate', '2', 0, 'b', false),"
    " ('r2', 'm', 'facts', 'generate', '1', 0, 'a', false), ('r2', 'm', 'sums', 'generate', '1', 0, 'c', false),"
    " ('r3', 'm', 'sums', 'generate', '1', 0, 'c', false)",
    "insert into documents (kind, key, created, body) values ('spending.pruned', 'x', '2026-01-05 00:00:00',"
    """ '{"day":"2026-01-01","model":"m","project":"p","imputed":false,"answers":3,"cost":1.5,"unpriced":1}')""",
)
"""A store of schema 0004: an answer that two runs used, one that nobody asked for, and what pruning kept."""


def is_added_up(store: Store) -> None:
    """The sums of `OLD`."""
    key = ("day", "project", "imputed", "answers", "cost", "unpriced")
    assert sorted(tuple(line[name] for name in key) for line in store.spending.history()) == [
        ("2026-01-01", "p", False, 5, 2.0, 2),
        ("2026-01-02", "", False, 1, 2.0, 0),
        ("2026-01-02", "q", True, 1, 0.25, 0),
    ]
    assert store.documents.find("spending.pruned") == []
    assert list(store.runs()["rows"]) == [1, 2, 2]
    assert list(store.runs()["benchmarks"]) == [["sums"], ["facts", "sums"], ["facts"]]
    assert store.totals()[:2] == (3, 5)


def test_costs_and_sizes_of_an_older_store_are_added_up(engine: Engine, tmp_path: Path):
    migrate(engine, "0004")
    with engine.begin() as connection:
        for statement in OLD:
            connection.exec_driver_sql(statement)
    engine.dispose()
    with Store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        is_added_up(store)
        store.save_answers([answer("new", model="m", cost=0.5, created=datetime(2026, 1, 1, tzinfo=UTC), project="p")])
        assert [line["cost"] for line in store.spending.history() if line["project"] == "p"] == [2.5]
