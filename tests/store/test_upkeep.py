"""Checking, copying and migrating a store: what is lost is said, what is whole stays as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from llmlab.errors import StoreError
from llmlab.store import Store, schema, upkeep
from llmlab.store.engine import parsed
from llmlab.store.tables import HEAD
from tests.disks import small_disk
from tests.store.rows import answer, row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "runs.db"
    with Store(f"sqlite:///{made}") as store:
        store.save_answers([answer("key-s1"), answer("judge")])
        run = store.start_run({})
        store.save_rows([row(run, "s1"), row(run, "s2", text="its own", answer_key=None)])
        store.finish_run(run)
    return made


def change(path: Path, *statements: str) -> None:
    """As a program would that is not ours."""
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_whole_store_has_nothing_to_say(path: Path):
    health = upkeep.check(f"sqlite:///{path}")
    assert health.ok
    assert health.findings == ()
    assert health.counts == {
        "answers": 2, "costs": 1, "documents": 0, "prompts": 1, "rows": 2, "runs": 1, "spend": 0
    }  # fmt: skip
    assert "whole" in repr(health)


@pytest.mark.parametrize(
    ("statement", "said", "serious"),
    [
        ("delete from answers where key = 'key-s1'", "text was kept with an answer that is gone (1)", True),
        ("delete from prompts", "rows whose prompt is gone (2)", True),
        ("delete from runs", "rows of a run that is not noted (2)", True),
        ("update answers set reply = substr(reply, 1, 20)", "unreadable JSON in answers.reply, such as key", True),
        ("update runs set config = 'x'", "unreadable JSON in runs.config, such as id", True),
        ("update rows set answer_key = 'gone' where sample = 's2'", "answer is gone, with their own text (1)", False),
        ("insert into prompts values ('h', 'nobody asks this')", "prompts that no row uses (1)", False),
        (
            "update runs set status = 'running', created = '2026-01-02 03:04:05'",
            "began over a day ago and did not end (1)",
            False,
        ),
    ],
)
def test_what_is_lost_or_left_over_is_said_and_counted(path: Path, statement: str, said: str, serious: bool):
    change(path, statement)
    health = upkeep.check(f"sqlite:///{path}")
    assert [one for one in health.findings if said in str(one)], health
    assert health.ok is not serious


def test_nan_is_readable_json(path: Path):
    with Store(f"sqlite:///{path}") as store:
        store.documents.put("profile", "a", {"unknown": float("nan")})
    assert upkeep.check(f"sqlite:///{path}").findings == ()


def test_damaged_pages_are_found(path: Path):
    with Store(f"sqlite:///{path}") as store:
        store.save_answers([answer(f"k{i}", "x" * 2000) for i in range(200)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(content)
    try:
        health = upkeep.check(f"sqlite:///{path}")
    except StoreError as error:
        assert "is damaged" in str(error)
    else:
        assert not health.ok
        assert "damaged pages" in repr(health)


def test_backup_is_a_store_with_all_that_was_there_while_others_write(path: Path, tmp_path: Path):
    with Store(f"sqlite:///{path}") as writer:
        run = writer.start_run({})
        made = upkeep.backup(f"sqlite:///{path}", tmp_path / "sub" / "copy.db")
        writer.save_rows([row(run, "later")])
    with Store(f"sqlite:///{made}") as copy:
        assert copy.answers(["key-s1", "judge"]).keys() == {"key-s1", "judge"}
        assert sorted(copy.runs()["rows"]) == [0, 2]
    assert upkeep.check(f"sqlite:///{made}").ok


def test_backup_beside_the_store_has_the_time_in_its_name_and_nothing_else_is_left(path: Path):
    made = upkeep.backup(f"sqlite:///{path}")
    assert made.parent == path.parent
    assert made.name.startswith("runs-20")
    assert {one.name for one in path.parent.iterdir()} == {"runs.db", made.name}


def test_backup_never_replaces_a_file(path: Path, tmp_path: Path):
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(StoreError, match="exists already, and a backup never replaces a file"):
        upkeep.backup(f"sqlite:///{path}", tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, "64k") as made:
        yield made


def test_backup_onto_a_disk_that_fills_leaves_nothing_behind(path: Path, disk: Path):
    with pytest.raises(StoreError, match=r"no backup was made at .*full.* Free space or name another place"):
        upkeep.backup(f"sqlite:///{path}", disk / "copy.db")
    assert list(disk.iterdir()) == []


def test_older_store_is_copied_then_migrated(tmp_path: Path):
    from alembic import command

    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(schema.alembic_config(connection), "0003")
        connection.exec_driver_sql(
            "insert into runs (id, created, status) values ('a', '2026-01-02 03:04:05', 'complete')"
        )
        connection.exec_driver_sql(
            "insert into rows (run, model, benchmark, protocol, sample, repeat, shared_text)"
            " values ('a', 'm', 'b', 'generate', 's', 0, 0)"
        )
    engine.dispose()
    assert "schema 0003 is not that of this version" in repr(upkeep.check(url))
    done = upkeep.migrate(url)
    assert (done.before, done.after) == ("0003", HEAD)
    assert done.copy is not None
    assert str(done.copy) in repr(done)
    with sqlite3.connect(done.copy) as old:
        assert old.execute("select version_num from llmlab_version").fetchone() == ("0003",)
    old.close()
    assert "nothing to do" in repr(upkeep.migrate(url))
    with Store(url) as store:
        assert store.runs().loc["a"][["models", "benchmarks", "rows"]].tolist() == [["m"], ["b"], 1]


def test_listing_counts_rows_that_come_after_the_end(path: Path):
    with Store(f"sqlite:///{path}") as store:
        run = store.runs().index[0]
        store.save_rows([row(run, "s3", model="other"), row(run, "s1")])
        assert store.runs().loc[run][["models", "rows"]].tolist() == [["micro/base", "other"], 3]
        store.finish_run(run)
        assert store.runs().loc[run][["models", "rows"]].tolist() == [["micro/base", "other"], 3]


@pytest.mark.parametrize("act", [upkeep.check, upkeep.backup, upkeep.migrate])
def test_missing_store_is_not_made(tmp_path: Path, act: Callable[[str], object]):
    with pytest.raises(StoreError, match=r"there is no store at sqlite:///.*missing\.db; check the path"):
        act(f"sqlite:///{tmp_path / 'missing.db'}")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="in memory"):
        act("sqlite://")


def test_file_that_holds_no_store_is_left_alone(tmp_path: Path):
    change(tmp_path / "other.db", "create table mine (a)")
    with pytest.raises(StoreError, match="holds no store of llmlab"):
        upkeep.check(f"sqlite:///{tmp_path / 'other.db'}")


def test_postgres_is_copied_by_its_own_tool_without_the_password_in_the_command():
    url = "postgresql://me:secret@db.example:5433/lab"
    with pytest.raises(StoreError) as caught:
        upkeep.backup(url, "copy.dump")
    expected = "pg_dump --format=custom --file=copy.dump --host=db.example --port=5433 --username=me --dbname=lab"
    assert str(caught.value).endswith(expected)
    assert upkeep.pg_dump(parsed("postgresql:///lab")).endswith("--file=llmlab.dump --dbname=lab")


def test_commands_say_what_they_found_and_did(path: Path, tmp_path: Path):
    from llmlab.cli.app import app

    run = CliRunner()
    url = f"sqlite:///{path}"
    whole = run.invoke(app, ["store", "check", "--store", url])
    assert whole.exit_code == 0
    assert "whole" in whole.output
    copied = run.invoke(app, ["store", "backup", str(tmp_path / "b.db"), "--store", url])
    assert copied.output == f"backup: {tmp_path / 'b.db'}\n"
    assert "nothing to do" in run.invoke(app, ["store", "migrate", "--store", url]).output
    change(path, "delete from prompts")
    assert run.invoke(app, ["store", "check", "--store", url]).exit_code == 1


def test_run_is_told_to_stop_by_a_command_until_it_has_ended(path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    from llmlab.cli import main

    def stop(run: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["llmlab", "store", "stop", run, "--store", f"sqlite:///{path}"])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert bool(ended.value.code) == bool(said.err)
        return said.out, said.err

    with Store(f"sqlite:///{path}") as store:
        run = store.start_run({})
        assert stop(run) == (f"run {run} ends when the calls under way are answered; all answers are kept\n", "")
        assert store.is_stopping(run)
        store.finish_run(run, "interrupted")
        assert f"the run '{run}' has ended (interrupted)" in stop(run)[1]
        assert store.runs().loc[run, "status"] == "interrupted"
    assert "no run 'nonsense' in the store" in stop("nonsense")[1]
