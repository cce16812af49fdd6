"""Forgetting takes what nothing else needs, keeps what was spent, and lets others write in between."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from typer.testing import CliRunner

from llmlab.errors import StoreError
from llmlab.store import Store, compaction, pruning, upkeep
from llmlab.store.compaction import compact, standstill
from llmlab.store.pruning import prune
from tests.store.rows import answer, row

NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path):
    with Store(f"sqlite:///{tmp_path / 'runs.db'}") as opened:
        yield opened


def fill(store: Store) -> tuple[str, str]:
    """Two runs that share one answer and one prompt; and an answer of no run."""
    made = []
    for i, project in enumerate(("old", "new")):
        run = store.start_run({}, project=project)
        keys = ["shared", f"own{i}"]
        made_at = NOW - timedelta(days=40 - i)
        store.save_answers([answer(k, f"text of {k}", created=made_at, project=project) for k in keys])
        store.save_rows([row(run, k, text=f"text of {k}", prompt=f"prompt of {k}", answer_key=k) for k in keys])
        store.finish_run(run)
        made.append(run)
    store.save_answers([answer("judge", created=NOW - timedelta(days=40))])
    return made[0], made[1]


def test_dry_run_counts_and_changes_nothing(store: Store):
    first, _ = fill(store)
    before = store.spending.history()
    found = prune(store, [first])
    assert (found.runs, found.rows, found.answers, found.prompts, found.dry) == (1, 2, 1, 1, True)
    assert "would be forgotten" in repr(found)
    assert "$0.00" in repr(found)
    assert len(store.runs()) == 2
    assert store.spending.history() == before


def test_counting_holds_up_nobody_and_waits_for_nobody(store: Store):
    first, _ = fill(store)
    with Store(store.url, timeout=0.1) as other, store._writing():
        assert prune(other, [first]).rows == 2


def test_counting_reads_no_answer_but_those_that_may_go(store: Store):
    first, _ = fill(store)
    plans: list[str] = []

    @event.listens_for(store._engine, "before_cursor_execute")
    def explain(connection, cursor, statement, parameters, context, many):
        if statement.startswith(("SELECT", "INSERT", "DELETE")) and not many:
            driver = connection.connection.driver_connection
            plans.extend(one[3] for one in driver.execute(f"explain query plan {statement}", parameters))

    assert prune(store, [first], NOW - timedelta(days=30)).answers == 2
    assert any("answers" in plan for plan in plans)
    assert not [plan for plan in plans if "SCAN answers" in plan and "COVERING INDEX" not in plan]


def test_forgetting_a_run_keeps_what_others_need(store: Store):
    first, second = fill(store)
    done = prune(store, [first], dry=False)
    assert (done.runs, done.rows, done.answers, done.prompts, done.dry) == (1, 2, 1, 1, False)
    assert list(store.runs().index) == [second]
    assert [r["text"] for r in store.results(second)] == ["text of shared", "text of own1"]
    assert store.answers(["shared", "own0", "own1", "judge"]).keys() == {"shared", "own1", "judge"}
    assert upkeep.check(store.url).findings == ()


def test_what_was_spent_stays(store: Store):
    first, second = fill(store)
    before = sum(line["cost"] for line in store.spending.history())
    since = sum(line["cost"] for line in store.spending.history(NOW - timedelta(days=45)))
    for _ in range(2):  # the second time there is nothing left to forget
        prune(store, [r for r in (first, second) if r in store.runs().index], NOW, dry=False)
    assert store.answers(["shared", "own0", "own1", "judge"]) == {}
    assert sum(line["cost"] for line in store.spending.history()) == pytest.approx(before)
    assert sum(line["cost"] for line in store.spending.history(NOW - timedelta(days=45))) == pytest.approx(since)
    assert store.spending.history(NOW - timedelta(days=1)) == []
    assert {(line["project"], line["answers"]) for line in store.spending.history()} >= {("new", 1), ("", 1)}


def test_same_day_and_project_pruned_twice_adds_up(store: Store):
    for i in range(2):
        run = store.start_run({}, project="p")
        store.save_answers([answer(f"k{i}", created=NOW - timedelta(days=3), project="p")])
        store.save_rows([row(run, answer_key=f"k{i}")])
        prune(store, [run], dry=False)
    (line,) = store.spending.history()
    assert (line["answers"], line["project"]) == (2, "p")
    assert line["cost"] == pytest.approx(0.002)


def test_old_answers_of_no_run_go_only_when_asked(store: Store):
    fill(store)
    prune(store, [], dry=False)
    assert "judge" in store.answers(["judge"])
    done = prune(store, [], NOW - timedelta(days=30), dry=False)
    assert done.answers == 1
    assert store.answers(["judge", "own0"]).keys() == {"own0"}


def test_another_program_that_remembers_what_was_forgotten_stores_it_again(store: Store, tmp_path: Path):
    with Store(store.url) as other:
        first, second = fill(other)
        prune(store, [first, second], NOW, dry=False)
        run = other.start_run({})
        other.save_rows([row(run, "shared", text="text of shared", prompt="prompt of shared", answer_key="shared")])
        (back,) = other.results(run)
        assert (back["text"], back["prompt"]) == ("text of shared", "prompt of shared")
    assert upkeep.check(store.url).ok


def test_unknown_run_stops_everything(store: Store):
    first, _ = fill(store)
    with pytest.raises(StoreError, match=r"no run 'nonsense'.*Nothing was forgotten"):
        prune(store, [first, "nonsense"], dry=False)
    assert len(store.runs()) == 2
    assert prune(store, [first], dry=False).runs == 1  # no temporary table is in the way


def fail_at(store: Store, moment: str) -> None:
    with store._writing() as connection:
        connection.exec_driver_sql(f"create trigger failing {moment} begin select raise(abort, 'failed'); end")


def test_a_piece_that_fails_leaves_all_that_it_would_have_taken(store: Store):
    first, second = fill(store)
    before = store.spending.history()
    fail_at(store, "before delete on runs")
    with pytest.raises(StoreError, match="failed"):
        prune(store, [first, second], NOW, dry=False)
    assert len(store.runs()) == 2
    assert (store.runs()["status"] == "complete").all()
    assert len(store.answers(["shared", "own0", "own1", "judge"])) == 4
    assert store.spending.history() == before


def long_run(store: Store, name: str, count: int) -> str:
    run = store.start_run({}, name=name)
    store.save_answers([answer(f"{name}{i}", f"text of {i}") for i in range(count)])
    store.save_rows(
        [row(run, f"s{i}", text=f"text of {i}", prompt=f"prompt {i}", answer_key=f"{name}{i}") for i in range(count)]
    )
    store.finish_run(run)
    return run


def test_pieces_add_up_to_what_was_counted(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pruning, "_SIZE", 3)
    monkeypatch.setattr(pruning, "_IDS", 2)
    kept = long_run(store, "kept", 4)
    doomed = [long_run(store, name, count) for name, count in (("a", 7), ("b", 1), ("c", 6), ("empty", 0))]
    store.save_answers([answer(f"judge{i}", created=NOW - timedelta(days=40)) for i in range(7)])
    counted = prune(store, doomed, NOW - timedelta(days=30))
    done = prune(store, doomed, NOW - timedelta(days=30), dry=False)
    assert (done.runs, done.rows, done.answers, done.prompts) == (4, 14, 21, 3)
    assert done == replace(counted, dry=False, spent=pytest.approx(counted.spent))
    assert list(store.runs().index) == [kept]
    assert [r["text"] for r in store.results(kept)] == [f"text of {i}" for i in range(4)]
    assert upkeep.check(store.url).findings == ()


def test_what_was_interrupted_is_whole_and_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pruning, "_SIZE", 4)
    kept, doomed = long_run(store, "kept", 2), long_run(store, "doomed", 10)
    fail_at(store, "before delete on rows when old.sample = 's5'")
    with pytest.raises(StoreError, match="failed"):
        prune(store, [doomed], dry=False)
    left = store.runs().loc[doomed]
    assert (left["status"], left["rows"]) == ("pruning", 6)
    assert [r["text"] for r in store.results(doomed)] == [f"text of {i}" for i in range(4, 10)]
    assert upkeep.check(store.url).ok
    with store._writing() as connection:
        connection.exec_driver_sql("drop trigger failing")
    assert prune(store, [doomed], dry=False).rows == 6
    assert list(store.runs().index) == [kept]
    assert upkeep.check(store.url).findings == ()


def test_another_program_writes_between_the_pieces(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pruning, "_SIZE", 5)
    monkeypatch.setattr(compaction, "PAUSE", 0.0)
    with Store(store.url, timeout=0.1) as other:
        doomed = long_run(other, "doomed", 20)
        night = other.start_run({}, name="night")
        seen = []
        for i, _ in enumerate(pruning._pieces(store, [doomed], None)):
            # of a prompt that it stored before, and that is forgotten by now or later
            other.save_rows([row(night, f"n{i}", text="x", prompt=f"prompt {i}", answer_key=None)])
            seen.append("doomed" in set(other.runs()["name"]))
        assert seen[:5] == [True, True, True, False, False]  # of four pieces with rows the last takes the run too
        assert [r["prompt"] for r in other.results(night)] == [f"prompt {i}" for i in range(len(seen))]
    assert upkeep.check(store.url).ok


def emptied(store: Store) -> None:
    """With over a MiB of free space."""
    prune(store, [large(store)], dry=False, compact=False)


def large(store: Store) -> str:
    run = store.start_run({})
    store.save_answers([answer(f"k{i}", "x" * 4000) for i in range(300)])
    store.save_rows([row(run, f"s{i}", text="x" * 4000, answer_key=f"k{i}") for i in range(300)])
    store.finish_run(run)
    return run


def size(store: Store) -> int:
    """Bytes, those that are not yet in the file too."""
    with store._reading() as connection:
        return connection.exec_driver_sql("pragma page_count").scalar_one() * 4096


def test_space_is_given_back_while_others_write(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compaction, "_PAGES", 5)
    monkeypatch.setattr(compaction, "PAUSE", 0.02)
    emptied(store)
    assert size(store) > 1_000_000
    assert standstill(store) == 0
    written, done = [], threading.Event()

    def write() -> None:
        with Store(store.url, timeout=1.0) as other:
            while not done.wait(0.01):
                other.documents.put("note", "written", {})
                written.append(size(other))

    writer = threading.Thread(target=write)
    writer.start()
    compact(store)
    done.set()
    writer.join()
    assert size(store) < 200_000
    assert Path(store.url.removeprefix("sqlite:///")).stat().st_size < 200_000
    assert len(set(written)) > 20  # of some 60 pieces
    assert upkeep.check(store.url).findings == ()


def test_file_of_an_older_version_is_written_anew_once_after_a_warning(store: Store):
    from llmlab.cli.app import app

    with contextlib.closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as older:
        older.executescript("pragma auto_vacuum=none; vacuum")
    said = []
    for seconds in (True, False):
        large(store)
        assert (standstill(store) > 0) == seconds
        said.append(CliRunner().invoke(app, ["store", "prune", "--older-than", "0", "--yes", "--store", store.url]))
        assert size(store) < 200_000
    assert "by writing the file anew: others wait for about" in said[0].output
    assert "anew" not in said[1].output
    assert all(one.output.startswith("1 runs, 300 rows") for one in said)


def test_compaction_that_cannot_be_says_that_all_was_forgotten(tmp_path: Path):
    with Store(f"sqlite:///{tmp_path / 'runs.db'}", timeout=0.1) as store:
        emptied(store)
        writer = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
        writer.execute("begin immediate")
        with pytest.raises(StoreError, match=r"all was forgotten, but the space was not given back .*locked"):
            compact(store)
        writer.close()
        compact(store)
