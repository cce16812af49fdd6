"""The same store on a real Postgres server, started in a temporary folder."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete

from llmlab.errors import StoreError
from llmlab.store import Store, schema, upkeep
from llmlab.store.pruning import _piece, prune
from llmlab.store.tables import HEAD, VERSION_TABLE, prompts, rows
from tests.store.rows import answer, row, same
from tests.store.server import NoServer, binary, make_database, postgres
from tests.store.test_migrations import OLD, is_added_up
from tests.store.test_store import are_found, some_columns_come_back_as_all_do

pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'llmlab[postgres]')")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    try:
        with postgres("fsync=off") as url:
            yield url
    except NoServer as error:
        pytest.skip(str(error))


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    return make_database(server, f"t{abs(hash(request.node.name))}")


def test_answers_and_rows_come_back_as_they_were(url: str):
    odd = "\0 \ud83d ключ \ufdd0"
    with Store(url) as store:
        assert repr(store).startswith("Store('postgresql+psycopg://lab:***@127.0.0.1")
        store.save_answers([answer("a"), answer("b", odd), answer("a", "second")])
        store.save_answers([answer("a", "third", cost=None)])
        found = store.answers(["a", "b"])
        assert found["a"].pop("created").utcoffset().total_seconds() == 0
        assert same(found["a"], answer("a"))
        assert found["b"]["reply"]["response"]["text"] == odd
        run = store.start_run({"n": 1}, {"llmlab": "0"}, name=odd)
        made = [
            row(run, "1", answer_key="a"),
            row(run, "2", score=math.nan, chance=None, cost=math.inf, text=odd, prompt=odd, seed=2**40),
        ]
        store.save_rows(made)
        store.save_rows(made[::-1])
        store.finish_run(run, "complete", seconds=1.0, cost=math.nan)
        for written, read in zip(made, store.results(), strict=True):
            assert same(read, {k: v for k, v in written.items() if k != "answer_key"})
        line = store.runs().loc[run]
        assert (line["name"], line["rows"], line["status"], line["seconds"]) == (odd, 2, "complete", 1.0)
        assert math.isnan(line["cost"])
        assert [u[:2] for u in store.usage("micro/base", "gsm8k", "generate")] == [(12, 5), (12, 5)]


def test_some_columns_come_back_as_all_do(url: str):
    with Store(url) as store:
        some_columns_come_back_as_all_do(store)


def test_rows_wait_until_a_piece_is_forgotten_and_then_store_their_prompt_again(url: str):
    with Store(url) as store, Store(url) as other:
        doomed, kept = other.start_run({}), other.start_run({})
        other.save_rows([row(doomed, prompt="asked twice")])
        with ThreadPoolExecutor(1) as pool:
            with _piece(store) as connection:
                connection.execute(delete(rows))
                connection.execute(delete(prompts))
                saving = pool.submit(other.save_rows, [row(kept, prompt="asked twice")])
                time.sleep(0.3)
                assert not saving.done()
            saving.result(timeout=30)
        assert [r["prompt"] for r in store.results(kept)] == ["asked twice"]


def test_threads_write_the_same_keys_without_deadlock(url: str):
    with Store(url) as store:
        run = store.start_run({})

        def work(i: int) -> None:
            keys = [f"k{j}" for j in range(50)]
            store.save_answers([answer(k) for k in (keys if i % 2 else keys[::-1])])
            store.save_rows([row(run, f"s{j}", model=f"m{i}", prompt=f"p{j if i % 2 else 49 - j}") for j in range(50)])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert len(store.answers([f"k{j}" for j in range(50)])) == 50
        assert len(store.results(run)) == 400


def test_first_opens_at_the_same_time_all_succeed(url: str):
    def work(i: int) -> None:
        with Store(url) as store:
            store.start_run({"n": i})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with Store(url) as store:
        assert len(store.runs()) == 6


def test_older_schema_is_migrated_and_equals_a_new_one(url: str):
    from alembic import command
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from llmlab.store.engine import connect_to, parsed
    from llmlab.store.tables import metadata

    engine = connect_to(parsed(url), 5)
    with engine.begin() as connection:
        command.upgrade(schema.alembic_config(connection), "0001")
    with Store(url) as store:
        store.save_answers([answer("a")])
    with engine.begin() as connection:
        assert schema.stamped(connection) == HEAD
        opts = {"include_name": lambda name, kind, parents: name != VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=opts), metadata) == []
        connection.exec_driver_sql(f"update {VERSION_TABLE} set version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreError, match=r"has schema '9999'.*newer version"):
        Store(url)


def test_costs_and_sizes_of_an_older_store_are_added_up(url: str):
    from alembic import command

    from llmlab.store.engine import connect_to, parsed

    engine = connect_to(parsed(url), 5)
    with engine.begin() as connection:
        command.upgrade(schema.alembic_config(connection), "0004")
        for statement in OLD:
            connection.exec_driver_sql(statement)
    engine.dispose()
    with Store(f"{url}?options=-c%20timezone%3DAsia/Tokyo") as store:
        is_added_up(store)


def test_runs_are_found_by_words_and_page_by_page(url: str):
    with Store(url) as store:
        are_found(store)


def test_failed_write_leaves_nothing_behind(url: str):
    with Store(url) as store:
        run = store.start_run({})
        with pytest.raises(StoreError, match=r"null value in column .model."):
            store.save_rows([row(run, "a", prompt="new"), row(run, "b", model=None)])
        assert store.results(run) == []
        store.save_rows([row(run, "a", prompt="new")])
        assert store.results(run)[0]["prompt"] == "new"


def test_locked_and_read_only_databases_say_so(url: str):
    import psycopg

    with Store(url, timeout=0.2) as store, psycopg.connect(url) as other:
        store.save_answers([answer("a")])
        other.execute("lock table answers in exclusive mode")
        with pytest.raises(StoreError, match="is locked by another program"):
            store.save_answers([answer("b")])
        other.rollback()
        assert store.answers(["a", "b"]).keys() == {"a"}
    with Store(f"{url}?options=-c%20default_transaction_read_only%3Don") as store:
        assert store.answers(["a"])
        with pytest.raises(StoreError, match="is read-only"):
            store.save_answers([answer("b")])


def test_missing_server_and_missing_database_say_so_without_the_password(url: str):
    with pytest.raises(StoreError, match=r"does not exist|cannot be reached") as caught:
        Store(url + "x")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreError, match=r"cannot be reached\. Check that the server runs") as caught:
        Store("postgresql://lab:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)


# -- spending, documents, upkeep ------------------------------------------------------------------------------


def _always(now: datetime) -> datetime:
    return datetime(2020, 1, 1, tzinfo=UTC)


def test_budget_is_never_passed_by_many_at_once(url: str):
    with Store(url) as store, Store(url) as other:

        def work(i: int) -> bool:
            account, _ = (store, other)[i % 2].spending.reserve("p", "m", 0.1, 1.0, _always)
            return account is not None

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(work, range(40))) == 10
        assert store.spending.total("p", _always) == pytest.approx(1.0)
        assert store.spending.total("q", _always) == 0.0


def test_reservation_is_settled_and_the_next_period_begins_at_zero(url: str):
    with Store(url) as store:
        account, before = store.spending.reserve("p", "m", 0.5, 1.0, _always)
        assert account is not None
        assert before == 0.0
        store.spending.settle(account, -0.4)
        again, before = store.spending.reserve("p", "m", 0.5, 1.0, _always, account)
        assert again is not None
        assert (again.number, before) == (account.number, pytest.approx(0.1))
        refused, total = store.spending.reserve("p", "m", 0.5, 1.0, _always, again)
        assert refused is None
        assert total == pytest.approx(0.6)
        assert store.spending.total("p", lambda now: now + timedelta(seconds=1)) == 0.0
        latest = store.spending.latest("p")
        assert latest is not None
        assert abs(datetime.now(UTC) - latest) < timedelta(minutes=1)
        assert store.spending.latest("q") is None


def test_history_of_spending_is_by_utc_day_whatever_the_zone_of_the_server(url: str):
    with Store(f"{url}?options=-c%20timezone%3DAsia/Tokyo") as store:
        run = store.start_run({}, project="p")
        late = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)  # the next day in Tokyo
        store.save_answers(
            [
                *(answer(key, created=late, cost=math.nan if key == "b" else 0.001, project="p") for key in "ab"),
                answer("c", created=late),
                answer("machine", created=late, cost=0.5, price="machine-hour 0.3"),
            ]
        )
        store.save_rows([row(run, "1", answer_key="a"), row(run, "2", answer_key="b")])
        key = ("day", "project", "imputed", "answers", "unpriced", "cost")
        found = [tuple(line[name] for name in key) for line in store.spending.history()]
        assert sorted(found) == [
            ("2026-01-01", "", False, 1, 0, 0.001),
            ("2026-01-01", "", True, 1, 0, 0.5),
            ("2026-01-01", "p", False, 2, 1, 0.001),
        ]
        assert store.spending.history(late + timedelta(minutes=30)) == []


def test_documents_are_claimed_by_one_and_changed_by_one_at_a_time(url: str):
    with Store(url) as store, Store(url) as other:
        both = (store, other)
        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(lambda i: both[i % 2].documents.claim("slot", "06:00", {"by": i}), range(24)))
            assert said.count(True) == 1
            assert store.documents.get("slot", "06:00") == {"by": said.index(True)}

            def add(i: int) -> object:
                return both[i % 2].documents.change("count", "n", lambda old: {"n": (old or {"n": 0})["n"] + 1})

            list(pool.map(add, range(40)))
        assert store.documents.get("count", "n") == {"n": 40}


def test_documents_come_back_by_prefix_project_and_time(url: str):
    odd = {"text": "\0 \ud800 ключ", "unknown": math.nan, "list": [1, None]}
    with Store(url) as store:
        for key, project in (("w%/1", "p"), ("w%/2", "q"), ("wx/3", "p")):
            store.documents.put("alert", key, odd, project=project)
        (first, second) = store.documents.find("alert", prefix="w%/")
        assert [first["key"], second["key"], first["project"]] == ["w%/1", "w%/2", "p"]
        assert same(first["body"], odd)
        assert first["created"].utcoffset() == timedelta(0)
        assert [one["key"] for one in store.documents.find("alert", project="p")] == ["w%/1", "wx/3"]
        now = datetime.now(UTC)
        assert len(store.documents.find("alert", since=now - timedelta(minutes=1))) == 3
        assert store.documents.find("alert", since=now + timedelta(minutes=1)) == []
        assert store.documents.drop("alert", "w%/1")
        assert not store.documents.drop("alert", "w%/1")
        assert store.documents.change("alert", "w%/1", lambda old: None) is None


def test_check_finds_what_is_lost(url: str):
    with Store(url) as store:
        run = store.start_run({"unknown": math.nan})
        store.save_answers([answer("key-s1")])
        store.save_rows([row(run, "s1")])
        store.finish_run(run)
        whole = upkeep.check(url)
        assert whole.findings == ()
        assert whole.counts["rows"] == 1
        assert "secret" not in repr(whole)
        with store._writing() as connection:
            connection.exec_driver_sql("update runs set config = '{'")
            connection.exec_driver_sql("delete from answers")
    said = [str(one) for one in upkeep.check(url).findings]
    assert len(said) == 2
    assert "answer that is gone (1)" in said[0]
    assert "unreadable JSON in runs.config" in said[1]
    with pytest.raises(StoreError, match="pg_dump --format=custom") as caught:
        upkeep.backup(url)
    assert "secret" not in str(caught.value)


def test_pruning_keeps_what_others_need_and_what_was_spent(url: str):
    with Store(url) as store:
        made = []
        for i in range(2):
            run = store.start_run({}, project=f"p{i}")
            keys = ["shared", f"own{i}"]
            store.save_answers([answer(k) for k in keys])
            store.save_rows([row(run, k, prompt=k, answer_key=k) for k in keys])
            store.finish_run(run)
            made.append(run)
        store.save_answers([answer("judge", created=datetime(2026, 1, 1, tzinfo=UTC))])
        spent = sum(line["cost"] for line in store.spending.history())
        counted = prune(store, made[:1], datetime(2026, 1, 2, tzinfo=UTC))
        assert (counted.runs, counted.rows, counted.answers, counted.prompts) == (1, 2, 2, 1)
        done = prune(store, made[:1], dry=False)
        assert (done.runs, done.rows, done.answers, done.prompts) == (1, 2, 1, 1)
        assert store.answers(["shared", "own0", "own1"]).keys() == {"shared", "own1"}
        assert list(store.runs().index) == made[1:]
        assert sum(line["cost"] for line in store.spending.history()) == pytest.approx(spent)
    assert upkeep.check(url).findings == ()


def test_pg_dump_command_makes_a_copy_that_can_be_restored(url: str, tmp_path: Path):
    import shlex

    from llmlab.store.engine import parsed

    with Store(url) as store:
        store.save_answers([answer("a")])
    command = shlex.split(upkeep.pg_dump(parsed(url), tmp_path / "copy.dump"))
    subprocess.run([binary("pg_dump"), *command[1:]], check=True, capture_output=True)
    listed = [binary("pg_restore"), "--list", str(tmp_path / "copy.dump")]
    assert "TABLE DATA public answers" in subprocess.run(listed, check=True, capture_output=True, text=True).stdout
