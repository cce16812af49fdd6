"""The panels of the page, in process: what their widgets hold, and what their buttons do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ipywidgets as w
import pytest

import llmlab as lab
from llmlab.errors import StoreError
from llmlab.ui import pieces


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('panels') / 'runs.db'}"
    lab.evaluate(["micro/small", "micro/base"], "micro/arc", n=12, store=url, project="demo", progress=False)
    return url


@pytest.fixture
def empty(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


def every(widget: w.Widget) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)


def words(panel: w.Widget) -> str:
    return "\n".join(one.value for one in every(panel) if isinstance(one, w.HTML))


def named(panel: w.Widget, label: str) -> Any:
    return next(one for one in every(panel) if getattr(one, "description", None) == label)


@pytest.mark.parametrize("name", ["home", "runs", "compare", "costs", "monitor"])
def test_an_empty_store_gets_a_friendly_word_and_no_error(name: str, empty: str) -> None:
    said = words(getattr(lab.ui, name)(empty))
    assert "llmlab-muted" in said
    assert "llmlab-bad" not in said.split("</style>", 1)[1]


def test_home_counts_runs_and_answers(store: str) -> None:
    assert "1 run, 24 answers" in words(lab.ui.home(store))


def test_a_run_is_opened_with_its_summary_and_a_sample_with_its_trace(store: str) -> None:
    panel = lab.ui.runs(store)
    sample = named(panel, "Sample")
    assert len(sample.options) == 12
    sample.value = sample.options[3][1]
    prompt = lab.Store(store).results()[3]["prompt"].splitlines()[0]
    assert pieces.escaped(prompt) in words(panel)
    named(panel, "Answers").value = "refused"
    assert named(panel, "Sample").options == ()


def test_of_a_long_run_the_first_answers_are_summed_up_and_it_is_said(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "SUMMED", 10)
    panel = lab.ui.runs(store)
    assert "first 10 answers of this run are summed up" in words(panel)
    assert "10 answers" in words(panel)


def test_the_filter_keeps_runs_in_which_every_word_occurs(store: str) -> None:
    panel = lab.ui.runs(store)
    named(panel, "Filter").value = "DEMO small"
    assert len(named(panel, "Run").options) == 1
    named(panel, "Filter").value = "demo <b>other"
    assert named(panel, "Run").options == ()
    assert "&lt;b&gt;other" in words(panel)


def wait(panel: w.Widget, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while named(panel, "Start").disabled and time.monotonic() < end:
        time.sleep(0.02)
    assert not named(panel, "Start").disabled


def test_a_benchmark_is_started_by_the_button_and_joins_the_list(empty: str) -> None:
    panel = lab.ui.runs(empty)
    named(panel, "Items per benchmark").value = 5
    named(panel, "Start").click()
    wait(panel)
    assert len(named(panel, "Run").options) == 1
    assert len(lab.Store(empty).results()) == 5


def test_a_model_that_is_not_known_is_said_in_words(empty: str) -> None:
    panel = lab.ui.runs(empty)
    named(panel, "Models").value = "micro/smal"
    named(panel, "Start").click()
    wait(panel)
    assert "micro/small" in words(panel)
    assert "llmlab-bad" in words(panel).split("</style>", 1)[1]


def test_a_run_of_another_program_is_stopped_by_a_button(empty: str) -> None:
    under_way = """
import sys, time, llmlab as lab
from llmlab.models.scripted import Scripted
slow = Scripted(lambda request: time.sleep(0.05) or "4", "scripted/slow")
asked = lab.suite([lab.Sample(f"{i}?", target="4") for i in range(2000)], name="long")
print(lab.evaluate(slow, asked, threads=1, store=sys.argv[1], progress=False).status)
"""
    panel = lab.ui.runs(empty)
    assert named(panel, "Stop this run").layout.display == "none"
    command = [sys.executable, "-W", "ignore", "-c", under_way, empty]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        with lab.Store(empty) as store:
            while other.poll() is None and not (len(store.runs()) and store.runs().iloc[0]["rows"]):
                time.sleep(0.1)
        named(panel, "Refresh").click()
        assert named(panel, "Stop this run").layout.display == ""
        named(panel, "Stop this run").click()
        assert "all answers are kept" in words(panel)
        assert named(panel, "Stop this run").layout.display == "none"
        assert other.communicate(timeout=60)[0] == "interrupted\n"
    with lab.Store(empty) as store:
        (run,) = store.runs().to_dict("records")
        assert run["status"] == "interrupted"
        assert 0 < run["rows"] == len(store.results()) < 2000
        with pytest.raises(StoreError, match=r"has ended \(interrupted\)"):
            store.stop_run(store.runs().index[0])
        with pytest.raises(StoreError, match="no run 'nonsense'"):
            store.stop_run("nonsense")


def test_stop_ends_a_run_and_keeps_its_answers(empty: str) -> None:
    from llmlab.ui.start import Live

    live = Live()
    live.begin()
    live.stop()
    with pytest.warns(UserWarning, match="the same call continues"):
        results = lab.evaluate("micro/small", "micro/arc", n=40, store=empty, progress=live)
    assert results.status == "interrupted"
    assert 0 < len(lab.Store(empty).results()) == len(results)


def test_two_models_are_compared_as_the_library_does(store: str) -> None:
    panel = lab.ui.compare(store)
    named(panel, "Model").value, named(panel, "Baseline").value = "micro/base", "micro/small"
    both = lab.Results(lab.Store(store).results())
    assert pieces.escaped(both.compare("micro/small").findings()[0]) in words(panel)
    named(panel, "Model").value = "micro/small"
    assert "Choose two different models" in words(panel)


def test_models_without_a_common_benchmark_are_not_compared(empty: str) -> None:
    for model, benchmark in (("micro/small", "micro/arc"), ("micro/base", "micro/gsm8k")):
        lab.evaluate(model, benchmark, n=2, store=empty, progress=False)
    assert "no benchmark in common" in words(lab.ui.compare(empty))


@pytest.mark.parametrize(("by", "key"), [("day", f"{datetime.now(UTC):%Y-%m-%d}"), ("project", "demo")])
def test_costs_are_listed_by(by: str, key: str, store: str) -> None:
    panel = lab.ui.costs(store)
    named(panel, "By").value = by
    assert f"<td>{key}</td>" in words(panel)
    assert "for 24 answers" in words(panel)


def test_an_alert_is_acknowledged_with_a_name(empty: str) -> None:
    from dataclasses import asdict

    from llmlab.monitor.alerts import Alert
    from llmlab.monitor.alerts import every as alerts
    from llmlab.monitor.watch import monitor as watched

    source = lab.Store(empty)
    watched("micro/small", "micro/arc", 5, store=source, name="night", canary=False).run()
    alert = Alert("ab12cd", "score/m/b", "alarm", "score", "m", "b", "<b>m</b> fell", opened="2026-11-01T00:00")
    source.documents.put("alert", "night/score/m/b@2026-11-01T00:00", asdict(alert))
    panel = lab.ui.monitor(source)
    assert "&lt;b&gt;m&lt;/b&gt; fell" in words(panel)
    assert "data:image/png" in words(panel)
    named(panel, "Your name").value = "Ada"
    named(panel, "Acknowledge").click()
    assert [(one.state, one.by) for one in alerts(source, "night")] == [("acknowledged", "Ada")]
    assert "(acknowledged by Ada)" in words(panel)


def test_the_newest_rounds_of_a_watch_are_shown_or_all(empty: str) -> None:
    from llmlab.monitor.watch import monitor as watched

    watch = watched("micro/small", "micro/arc", 3, store=lab.Store(empty), name="night", canary=False)
    for day in range(3):
        watch.run(datetime(2026, 11, 1 + day, tzinfo=UTC))
    assert watch.history(2).frame["round"].nunique() == 2
    assert list(watch.history(2).frame["round"]) == list(watch.history().frame["round"])[1:]
    panel = lab.ui.monitor(empty)
    assert "<h3>3 rounds" in words(panel)
    span = named(panel, "Rounds")
    assert [value for _, value in span.options] == [90, 365, None]
    span.options = (("the newest 2", 2), *span.options)
    span.value = 2
    assert "<h3>The newest 2 rounds" in words(panel)


def test_one_benchmark_of_a_large_watch_is_drawn_at_a_time_and_what_is_left_out_is_said(empty: str) -> None:
    from llmlab.models.scripted import Scripted
    from llmlab.monitor.watch import monitor as watched

    models = {f"m{i}": Scripted("B", f"scripted/m{i}") for i in range(9)}
    benchmarks = ["micro/arc", "micro/gsm8k"]
    watched(models, benchmarks, 2, store=lab.Store(empty), name="night", canary=False).run()
    panel = lab.ui.monitor(lab.Store(empty))
    drawn = named(panel, "Drawn")
    assert (list(drawn.options), drawn.value, drawn.layout.display) == (benchmarks, "micro/arc", "")
    assert words(panel).count("data:image/png") == 1
    assert "Drawn: 8 of 9 models, first those whose level moved." in words(panel)
    first = words(panel)
    drawn.value = "micro/gsm8k"
    assert "plot(benchmark=&#x27;micro/gsm8k&#x27;)" in words(panel) != first
    history = lab.monitor(name="night", store=lab.Store(empty)).history()
    part = history.only(["m3"], ["micro/arc"])
    assert (part.models, part.benchmarks, len(part.frame), len(history.frame)) == (["m3"], ["micro/arc"], 1, 18)


def test_a_panel_is_drawn_once_for_a_page_just_opened_and_again_where_it_may_be_old() -> None:
    draws: list[float] = []
    button, shown = pieces.refreshed(lambda: draws.append(time.monotonic())).children
    assert len(draws) == 1
    shown._handle_custom_msg({"open": 3.0}, [])
    assert len(draws) == 1
    shown._handle_custom_msg({"open": 0.0}, [])  # the page was opened after the draw: a kernel that was warm before
    assert len(draws) == 2
    shown._handle_custom_msg({"open": 3600.0}, [])  # a notebook
    assert len(draws) == 3
    button.click()
    assert len(draws) == 4


def test_refreshing_a_list_that_is_the_same_chooses_nothing_else_meanwhile() -> None:
    choice, seen = w.Dropdown(options=["a", "b"], value="b"), []
    choice.observe(lambda change: seen.append(change["new"]), "value")
    pieces.offer(choice, ["a", "b"])
    assert (choice.value, seen) == ("b", [])
    pieces.offer(choice, ["b", "c"])
    assert choice.value == "b"


def test_what_a_model_wrote_is_never_markup() -> None:
    evil = "<script>x</script>"
    for made in (pieces.table([evil], [[evil]]), pieces.paragraph(evil), pieces.block(evil, evil)):
        assert "<script>" not in made
