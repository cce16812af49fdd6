"""Every fault of the database is a StoreError that says what to do, and leaves nothing half-written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmlab.errors import StoreError
from llmlab.store import Store
from llmlab.store.tables import VERSION_TABLE
from tests.disks import small_disk
from tests.store.rows import answer, row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def filled(path: Path) -> Path:
    with Store(f"sqlite:///{path}") as store:
        store.save_answers([answer("paid")])
        store.save_rows([row(store.start_run({}))])
    return path


@pytest.fixture
def lock(path: Path) -> Iterator[Callable[[], object]]:
    """Another process that holds the write lock until the function is called."""
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('begin immediate'); print('locked', flush=True)\n"
        "input(); c.execute('rollback')"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    yield lambda: holder.communicate("\n")
    holder.kill()
    holder.communicate()


def test_locked_store_says_who_to_wait_for_and_works_again_after(filled: Path, lock: Callable[[], object]):
    with Store(f"sqlite:///{filled}", timeout=0.2) as store:
        for write in (
            lambda: store.save_answers([answer("new")]),
            lambda: store.start_run({}),
            lambda: store.save_rows([row("r")]),
        ):
            with pytest.raises(StoreError, match=r"is locked: another program .* more than 0\.2 s\. Wait for it"):
                write()
        assert store.answers(["paid", "new"]).keys() == {"paid"}
        lock()
        store.save_answers([answer("new")])
        assert store.answers(["paid", "new"]).keys() == {"paid", "new"}


def test_new_store_that_another_program_locks_is_not_half_made(path: Path, lock: Callable[[], object]):
    with pytest.raises(StoreError, match="is locked"):
        Store(f"sqlite:///{path}", timeout=0.2)
    lock()
    with Store(f"sqlite:///{path}") as store:
        assert store.runs().empty


def test_read_only_database_can_be_read_but_not_written(filled: Path):
    with Store(f"sqlite:///file:{filled}?mode=ro&uri=true") as store:
        assert store.answers(["paid"])
        assert len(store.results()) == 1
        with pytest.raises(StoreError, match=r"cannot be written: .* read-only\. Change the permissions"):
            store.save_answers([answer("new")])


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


@pytest.mark.parametrize("protect", ["file", "folder"])
def test_file_or_folder_without_write_permission_says_so(reachable: Path, protect: str):
    path = reachable / "runs.db"
    with Store(f"sqlite:///{path}") as store:
        store.save_answers([answer("paid")])
    # root may write anywhere, so the child gives its rights away once all is loaded
    code = f"""
        import os, sys
        from llmlab.errors import StoreError
        from llmlab.store import Store
        from tests.store.rows import answer
        path = sys.argv[1]
        Store("sqlite://").close()
        os.chmod(path, {0o444 if protect == "file" else 0o666})
        os.chmod(os.path.dirname(path), {0o777 if protect == "file" else 0o555})
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            with Store("sqlite:///" + path) as store:
                print(len(store.answers(["paid"])), "read")
                store.save_answers([answer("new")])
        except StoreError as error:
            print(error)
    """
    done = _python(code, str(path))
    reachable.chmod(0o755)
    said = done.stdout.splitlines()
    assert "read-only" in said[-1], done
    assert "name another store" in said[-1]
    if protect == "file":
        assert said[0] == "1 read"
    with Store(f"sqlite:///{path}") as store:
        assert store.answers(["paid", "new"]).keys() == {"paid"}


def test_database_that_cannot_grow_keeps_what_it_has(path: Path):
    with Store(f"sqlite:///{path}") as store:
        store.save_answers([answer("paid")])
        run = store.start_run({})
        with store._writing() as connection:
            connection.exec_driver_sql("pragma max_page_count = 40")
        with pytest.raises(StoreError, match=r"the disk is full\. Free some space and try again"):
            store.save_answers([answer(f"k{i}", "x" * 10_000) for i in range(50)])
        with pytest.raises(StoreError, match="the disk is full"):
            store.save_rows([row(run, f"s{i}", prompt="y" * 10_000 + str(i)) for i in range(50)])
        assert store.answers(["paid", *(f"k{i}" for i in range(50))]).keys() == {"paid"}
        assert store.results(run) == []
        with store._writing() as connection:
            assert connection.exec_driver_sql("select count(*) from prompts").scalar() == 0
            connection.exec_driver_sql("pragma max_page_count = 1000000")
        store.save_rows([row(run, f"s{i}", prompt="y" * 10_000 + str(i)) for i in range(50)])
        assert len(store.results(run)) == 50


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, "1m") as made:
        yield made


def test_full_disk_loses_nothing_that_was_stored(disk: Path):
    stored = []
    with Store(f"sqlite:///{disk / 'runs.db'}") as store:
        with pytest.raises(StoreError, match=r"the disk (is full|reports an error or is full)"):
            for i in range(1000):
                store.save_answers([answer(f"k{i}", "x" * 5000)])
                stored.append(f"k{i}")
        assert len(stored) > 10
        assert store.answers([f"k{i}" for i in range(1000)]).keys() == set(stored)
    with Store(f"sqlite:///{disk / 'runs.db'}") as store:
        assert store.answers([f"k{i}" for i in range(1000)]).keys() == set(stored)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look like one" * 100, b"\x89PNG\r\n" * 100])
def test_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is not an SQLite database\. Check the path"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_folder_instead_of_a_file_is_refused(tmp_path: Path):
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path}")


def test_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"the folder .*/file/sub of the store cannot be made"):
        Store(f"sqlite:///{tmp_path}/file/sub/runs.db")


def test_damaged_file_says_how_to_save_what_is_left(path: Path):
    with Store(f"sqlite:///{path}") as store:
        store.save_answers([answer(f"k{i}", "x" * 2000) for i in range(500)])
    content = bytearray(path.read_bytes())
    content[8192:-8192] = b"\xff" * (len(content) - 16384)
    path.write_bytes(content)
    damaged = pytest.raises(StoreError, match=r"is damaged\. Save what can be read with `sqlite3 FILE \.recover`")
    with damaged, Store(f"sqlite:///{path}") as store:
        store.answers([f"k{i}" for i in range(500)])


def test_store_of_a_newer_version_is_refused_and_left_alone(filled: Path):
    with sqlite3.connect(filled) as connection:
        connection.execute(f"update {VERSION_TABLE} set version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"has schema '9999'.*newer version\. Update llmlab"):
        Store(f"sqlite:///{filled}")
    with sqlite3.connect(filled) as connection:
        assert connection.execute(f"select version_num from {VERSION_TABLE}").fetchone() == ("9999",)
    connection.close()


def test_database_of_another_program_is_refused_and_left_alone(path: Path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table runs (id integer)")
    connection.close()
    with pytest.raises(StoreError, match=r"tables of another program with our names \(runs\)"):
        Store(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        tables = connection.execute("select name from sqlite_master").fetchall()
    connection.close()
    assert tables == [("runs",)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("runs.db", "must be named by a URL such as 'sqlite:///runs.db'"),
        ("mysql://u:secret@host/db", "no store of kind 'mysql'"),
        ("sqlite+aiosqlite:///runs.db", "no store of kind 'sqlite+aiosqlite'"),
        ("postgres+nonsense", "must be named by a URL"),
    ],
)
def test_url_of_no_known_store_is_refused(url: str, message: str):
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"needs the package 'psycopg': pip install 'llmlab\[postgres\]'"):
        Store("postgresql://u:p@127.0.0.1/db")


def test_failed_write_leaves_nothing_behind(path: Path):
    with Store(f"sqlite:///{path}") as store:
        run = store.start_run({})
        with pytest.raises(StoreError, match=r"NOT NULL constraint failed: rows\.model"):
            store.save_rows([row(run, "a", prompt="new"), row(run, "b", model=None)])
        assert store.results(run) == []
        store.save_rows([row(run, "a", prompt="new")])  # the prompt must not be taken for stored
        assert store.results(run)[0]["prompt"] == "new"


def _python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
