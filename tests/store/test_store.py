"""What is written comes back as it was, once, and quickly."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from llmlab.errors import StoreError
from llmlab.store import Store
from llmlab.store.tables import COLUMNS
from tests.store.rows import answer, row, same


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, url: str):
    with Store(url if request.param == "file" else "sqlite://") as opened:
        yield opened


def test_answer_comes_back_as_it_was(store: Store):
    store.save_answers([answer("a"), answer("b", "other")])
    found = store.answers(["b", "a", "missing", "a"])
    assert found.keys() == {"a", "b"}
    created = found["a"].pop("created")
    assert same(found["a"], answer("a"))
    assert created.tzinfo is UTC
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60


def test_first_answer_to_a_key_stays(store: Store):
    store.save_answers([answer("a", "first"), answer("a", "second of the same call")])
    store.save_answers([answer("a", "third"), answer("b")])
    found = store.answers(["a", "b"])
    assert found["a"]["reply"]["response"]["text"] == "first"
    assert "b" in found


def test_nothing_to_write_or_read_is_fine(store: Store):
    store.save_answers([])
    store.save_rows([])
    assert store.answers([]) == {}


def test_thousands_of_keys_are_found_at_once(store: Store):
    store.save_answers([answer(f"k{i}") for i in range(2500)])
    assert len(store.answers([f"k{i}" for i in range(3000)])) == 2500


def test_rows_come_back_as_they_were_in_their_order(store: Store):
    run = store.start_run({"n": 2})
    made = [row(run, "s2"), row(run, "s1", score=math.nan, error="timed out", error_kind="Timeout")]
    store.save_rows(made)
    back = store.results(run)
    assert [list(r) for r in back] == [list(COLUMNS)] * 2
    assert [r["sample"] for r in back] == ["s2", "s1"]
    for written, read in zip(made, back, strict=True):
        assert same(read, {k: v for k, v in written.items() if k != "answer_key"})


def test_columns_are_those_of_a_results_table():
    from llmlab.results import frame

    assert tuple(frame.COLUMNS) == COLUMNS


def test_nan_and_none_are_told_apart(store: Store):
    run = store.start_run({})
    made = [
        row(run, "nan", score=math.nan, cost=math.nan, chance=math.nan, answer=None),
        row(run, "none", score=None, cost=None, chance=None, target=None),
        row(run, "big", score=math.inf, cost=-math.inf, metrics={"a": math.nan, "b": None, "c": -math.inf}),
    ]
    store.save_rows(made)
    for written, read in zip(made, store.results(run), strict=True):
        assert same(read, {k: v for k, v in written.items() if k != "answer_key"})
    store.save_answers([answer("a", cost=None, seconds=math.nan)])
    assert store.answers(["a"])["a"]["cost"] is None
    assert math.isnan(store.answers(["a"])["a"]["seconds"])


def test_nan_does_not_count_in_sql_averages(store: Store):
    run = store.start_run({})
    store.save_rows([row(run, "a", score=1.0), row(run, "b", score=math.nan)])
    with store._reading() as connection:
        assert connection.exec_driver_sql("select avg(score), count(score) from rows").one() == (1.0, 1)


ODD = ["", " ", "\0", "a\0b", "\ud83d alone", "𝒳 🗝️ ключ", "\ufdd0", '\ufdd0{"a": 1}', "a\r\n\u2028\x1b[0m", '"', "null"]


def test_any_text_survives(store: Store):
    for text in ODD:
        check_text(store, text)


def check_text(store: Store, text: str) -> None:
    run = store.start_run({"note": text}, name=text)
    store.save_answers([answer(f"key-{text}", text)])
    # one text is shared with the answer, the other is not
    written = [row(run, f"1{text}", text=text, prompt=text, error=text, tags=text, answer_key=f"key-{text}")]
    written += [row(run, f"2{text}", text=f"{text}!", target=text, metrics={text: 1.0}, model=text)]
    store.save_rows(written)
    for made, read in zip(written, store.results(run), strict=True):
        assert same(read, {k: v for k, v in made.items() if k != "answer_key"})
    assert store.answers([f"key-{text}"])[f"key-{text}"]["reply"]["response"]["text"] == text
    assert store.runs().loc[run, "name"] == text


def test_values_that_are_not_text_keep_their_type(store: Store):
    run = store.start_run({})
    store.save_rows([row(run, 7, target=["4", "four"], tags=["a"], notes=["x"], answer=4)])
    read = store.results(run)[0]
    assert (read["sample"], read["target"], read["tags"], read["notes"], read["answer"]) == (
        7,
        ["4", "four"],
        ["a"],
        ["x"],
        4,
    )


def test_number_of_more_than_64_bits_is_refused(store: Store):
    run = store.start_run({})
    with pytest.raises(StoreError, match="whole numbers of up to 64 bits"):
        store.save_rows([row(run, "a"), row(run, "b", seed=2**64)])
    assert store.results(run) == []


def test_numpy_numbers_are_numbers(store: Store):
    run = store.start_run({"n": np.int64(3)})
    metrics = {"acc": np.float32(0.5), "per_item": np.array([1, 2])}
    store.save_rows([row(run, score=np.float32(0.5), input_tokens=np.int64(7), parsed=np.True_, metrics=metrics)])
    read = store.results(run)[0]
    assert same([read["score"], read["input_tokens"], read["parsed"]], [0.5, 7, True])
    assert read["metrics"] == {"acc": 0.5, "per_item": [1, 2]}


def test_five_megabytes_of_text_are_no_problem(store: Store):
    run, text = store.start_run({}), "ж0" * 2_500_000
    store.save_answers([answer("big", text)])
    store.save_rows([row(run, text=text, prompt=text, answer_key="big")])
    read = store.results(run)[0]
    assert read["text"] == read["prompt"] == text


def test_row_written_again_replaces_the_first(store: Store):
    run = store.start_run({})
    store.save_rows([row(run, "a", score=0.0), row(run, "b")])
    store.save_rows([row(run, "a", score=1.0, text="new", prompt="new prompt"), row(run, "a", score=0.25, repeat=1)])
    assert [(r["sample"], r["repeat"], r["score"]) for r in store.results(run)] == [
        ("a", 0, 1.0),
        ("b", 0, 1.0),
        ("a", 1, 0.25),
    ]
    assert store.results(run)[0]["text"] == "new"
    assert store.results(run)[0]["prompt"] == "new prompt"


def test_long_texts_are_kept_once(url: str):
    prompt, text = "question " * 100_000, "answer " * 100_000
    with Store(url) as store:
        run = store.start_run({})
        store.save_answers([answer("a", text)])
        store.save_rows([row(run, "a", model=f"m{i}", prompt=prompt, text=text, answer_key="a") for i in range(20)])
        assert all(r["text"] == text and r["prompt"] == prompt for r in store.results())
    size = sum(f.stat().st_size for f in Path(url.removeprefix("sqlite:///")).parent.iterdir())
    assert size < 3e6


def test_text_that_differs_from_the_stored_answer_is_kept(url: str):
    # two programs paid for the same key: the second one's row keeps the text that it scored
    with Store(url) as first, Store(url) as second:
        run = second.start_run({})
        first.save_answers([answer("a", "first")])
        second.save_answers([answer("a", "second")])
        second.save_rows([row(run, "a", text="second", answer_key="a"), row(run, "b", text="", answer_key="a")])
        assert [r["text"] for r in second.results(run)] == ["second", ""]


def test_latest_run_is_the_default(store: Store):
    for i in range(3):
        run = store.start_run({"n": i})
        store.save_rows([row(run, f"s{i}")])
    assert [r["sample"] for r in store.results()] == ["s2"]


def some_columns_come_back_as_all_do(store: Store):
    """Whatever is left out; the same on every database."""
    odd = "\0 \ud83d ключ \ufdd0"
    store.save_answers([answer("a"), answer("b", odd)])
    run = store.start_run({})
    made = [
        row(run, "1", answer_key="a", chance=None),
        row(run, odd, answer_key="b", text=odd, prompt=odd, score=math.nan, model=odd),
        row(run, "3", answer_key="a", text="its own", prompt=None),
    ]
    store.save_rows(made)
    for columns in (["text"], ["prompt", "sample"], ["chance", "score", "metrics"], ["text", "prompt", "model"]):
        for written, read in zip(made, store.results(run, columns=columns), strict=True):
            assert same(read, {name: written[name] for name in columns})
    (found,) = store.results(run, columns=["text"], where={"model": [odd], "sample": ["1", odd]})
    assert found["text"] == odd
    assert [r["sample"] for r in store.results(run, 1, where={"model": ["micro/base"]})] == ["1"]
    assert store.results(run, where={"sample": []}) == []


def test_some_columns_come_back_as_all_do(store: Store):
    some_columns_come_back_as_all_do(store)


def test_latest_run_of_a_model_and_a_benchmark_is_found(store: Store):
    assert store.latest() == {}
    made = []
    for models in (["a", "b"], ["b"], ["c"]):
        run = store.start_run({})
        store.save_rows([row(run, model=model, benchmark=f"on {model}") for model in models])
        made.append(run)
    store.finish_run(made[0])  # the others are under way
    assert store.latest() == {("a", "on a"): made[0], ("b", "on b"): made[1], ("c", "on c"): made[2]}


def test_runs_are_listed_with_what_they_hold(store: Store):
    first = store.start_run({"n": 2, "seed": 0}, {"llmlab": "0.1.0"}, name="mine", project="p")
    store.save_rows([row(first, s, model=m) for s in "ab" for m in ("micro/small", "micro/base")])
    store.finish_run(first, "complete", seconds=1.5, cost=0.25)
    second = store.start_run({})
    table = store.runs()
    assert list(table.index) == [second, first]
    line = table.loc[first]
    assert (line["name"], line["project"], line["status"], line["rows"]) == ("mine", "p", "complete", 4)
    assert line["models"] == ["micro/small", "micro/base"]
    assert line["benchmarks"] == ["gsm8k"]
    assert (line["seconds"], line["cost"]) == (1.5, 0.25)
    assert line["config"] == {"n": 2, "seed": 0}
    assert line["versions"] == {"llmlab": "0.1.0"}
    assert str(table["created"].dtype).endswith("UTC]")
    assert table.loc[second, "status"] == "running"
    assert math.isnan(table.loc[second, "cost"])


def test_empty_store_has_an_empty_table_and_no_latest_run(store: Store):
    assert store.runs().empty
    assert "status" in store.runs()
    with pytest.raises(StoreError, match=r"has no runs yet; `lab\.evaluate` makes one"):
        store.results()


def test_unknown_run_is_an_error(store: Store):
    store.start_run({})
    with pytest.raises(StoreError, match=r"no run 'nonesuch' .* see `store\.runs\(\)`"):
        store.results("nonesuch")
    with pytest.raises(StoreError, match="no run 'nonesuch'"):
        store.finish_run("nonesuch")


def test_run_without_rows_reads_as_empty(store: Store):
    assert store.results(store.start_run({})) == []


def test_usage_counts_each_answer_once(store: Store):
    for _ in range(2):
        run = store.start_run({})
        store.save_rows([row(run, f"s{i}", input_tokens=i) for i in range(5)])
        store.save_rows([row(run, "s9", output_tokens=None), row(run, "other", model="m")])
    assert sorted(u[:2] for u in store.usage("micro/base", "gsm8k", "generate")) == [(i, 5) for i in range(5)]
    assert len(store.usage("micro/base", "gsm8k", "generate", limit=2)) == 2


def test_store_shows_itself_without_passwords(url: str):
    with Store(url) as store:
        assert repr(store) == f"Store({url!r})"
    with pytest.raises(StoreError) as caught:
        Store("postgresql://me:hunter2@127.0.0.1:1/db?sslpassword=hunter3", timeout=0.1)
    assert "hunter" not in str(caught.value)


def test_closed_store_says_so(url: str):
    store = Store(url)
    store.close()
    with pytest.raises(StoreError, match=r"is closed; open it again with Store"):
        store.answers(["a"])


def test_default_store_is_made_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path / "new" / "home"))
    monkeypatch.delenv("LLMLAB_STORE", raising=False)
    with Store() as store:
        store.start_run({})
    assert (tmp_path / "new" / "home" / "runs.db").is_file()


def test_relative_path_survives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with Store("sqlite:///here.db") as store:
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: store.start_run({"n": i}), range(8)))
        assert len(store.runs()) == 8
    assert not (tmp_path / "sub" / "here.db").exists()


def test_threads_write_and_read_at_once(store: Store):
    barrier = threading.Barrier(16)

    def work(i: int) -> None:
        barrier.wait(30)
        run = store.start_run({"n": i})
        for j in range(10):
            store.save_answers([answer(f"{i}-{j}"), answer(f"shared-{j}")])
            store.save_rows([row(run, f"s{j}")])
            assert len(store.answers([f"{i}-{k}" for k in range(10)])) == j + 1
        store.finish_run(run)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert (store.runs()["rows"] == 10).all()
    assert len(store.answers([f"shared-{j}" for j in range(10)])) == 10


def test_reader_does_not_wait_for_a_writer(url: str):
    with Store(url) as writer, Store(url, timeout=0.1) as reader:
        writer.save_answers([answer("a")])
        with writer._writing():
            assert reader.answers(["a"])


def test_writing_is_quick(url: str):
    with Store(url) as store:
        run = store.start_run({})
        answers, rows = [answer(f"k{i}") for i in range(2000)], [row(run, f"s{i}") for i in range(2000)]
        began = time.process_time()
        store.save_answers(answers)
        store.save_rows(rows)
        assert (time.process_time() - began) / 2000 < 1e-3  # measured: 0.12 ms


def test_opening_is_cheap_and_loads_neither_pandas_nor_alembic(url: str):
    Store(url).close()
    code = (
        "import sys, time\n"
        "from llmlab.store import Store\n"
        "began = time.process_time()\n"
        f"Store({url!r}).close()\n"
        "print(time.process_time() - began, sorted({'pandas', 'alembic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    seconds, loaded = done.stdout.split(maxsplit=1)
    assert loaded.strip() == "[]"
    assert float(seconds) < 0.2  # measured: 0.003 s


# -- lists ----------------------------------------------------------------------------------------------------


def are_found(store: Store) -> None:
    """Runs by words, and page by page; the same on every database."""
    made = []
    for i in range(7):
        # two at the same moment: the later one stands first
        run = store.start_run({}, name="Ünlü" if i == 3 else "", project=f"p{i % 2}", created=at(i // 2))
        store.save_rows([row(run, f"s{j}", model=f"m{i}") for j in range(i)])
        if i != 5:
            store.finish_run(run, cost=0.5 if i else math.nan)
        made.append(run)
    newest = made[::-1]
    assert list(store.runs().index) == newest
    assert list(store.runs(last=3).index) == newest[:3]
    assert list(store.runs(last=3, before=newest[2]).index) == newest[3:6]
    assert list(store.runs(before=newest[6]).index) == []
    assert list(store.runs("ünlü").index) == [made[3]]
    assert list(store.runs("P1 gsm8k").index) == [made[5], made[3], made[1]]
    assert list(store.runs("m5 running").index) == [made[5]]
    assert list(store.runs("p1", last=1, before=made[5]).index) == [made[3]]
    assert list(store.runs("2026-01-03").index) == [made[5], made[4]]
    assert len(store.runs("nothing")) == 0
    assert list(store.runs("nothing").columns) == list(store.runs().columns)
    assert store.totals() == (7, 21, 2.5)
    with pytest.raises(StoreError, match="no run 'nonsense'"):
        store.runs(before="nonsense")


def at(day: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)


def test_runs_are_found_by_words_and_page_by_page(tmp_path: Path):
    with Store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        assert store.totals() == (0, 0, 0.0)
        are_found(store)


def test_newest_documents_come_in_their_order():
    with Store("sqlite://") as store:
        for i in range(5):
            store.documents.put("vote", f"{i % 2}/{i}", {"i": i})
        assert [one["body"]["i"] for one in store.documents.find("vote", last=2)] == [3, 4]
        assert [one["body"]["i"] for one in store.documents.find("vote", prefix="0/", last=2)] == [2, 4]
        assert store.documents.find("other", last=2) == []
