"""A watch asks the same items in every round, keeps what came, resumes, and refuses what cannot be compared."""

from __future__ import annotations

import _thread
import json
import re
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import llmlab as lab
from llmlab.errors import BadRequest, DataError, StoreError, UnknownName
from llmlab.models.scripted import Scripted
from llmlab.monitor.flips import of_finding
from llmlab.monitor.rounds import Round, Series
from llmlab.monitor.slots import KIND
from llmlab.store import Store
from llmlab.testing import ProviderServer
from llmlab.types import Sample
from tests.disks import small_disk
from tests.monitor.world import START, Answering, model, nights, questions


@pytest.fixture
def store():
    with Store("sqlite://") as opened:
        yield opened


def watching(store, answering, benchmarks=None, **settings):
    return lab.monitor({"assistant": model(answering)}, benchmarks or questions(), store=store, **settings)


def test_every_round_asks_every_item_anew_and_the_same_ones(store):
    answering = Answering()
    watch = watching(store, answering, n=10)
    for at in nights(3):
        watch.run(at)
    assert answering.asked == 30
    rounds = watch.rounds()
    assert len({s.items for r in rounds for s in r.series}) == 1
    assert [r.at for r in rounds] == list(nights(3))
    asked = [set(watch.results(r.slot).samples["sample"]) for r in rounds]
    assert asked[0] == asked[1] == asked[2] and len(asked[0]) == 10


def test_round_records_scores_cost_seconds_tokens_and_versions(store):
    answering = Answering()
    answering.wrong = {1, 2}
    watch = watching(store, answering)
    watch.run(START)
    (made,) = watch.rounds()
    (series,) = made.series
    assert series.scores.mean() == pytest.approx(38 / 40)
    assert series.cost == pytest.approx(0.04) and made.cost == pytest.approx(0.04)
    assert series.tokens == (80.0, 40.0) and series.seconds[0] == 0
    assert series.facts["model_version"] == "1" and len(series.facts["prompts"]) == 16
    assert made.versions["llmlab"] == lab.__version__
    assert made.identities["assistant"]["model"] == "scripted/a"


def test_runs_carry_the_project_and_the_name(store):
    watching(store, Answering(), name="nightly", project="support").run(START)
    runs = store.runs()
    assert set(runs["project"]) == {"support"} and set(runs["name"]) == {"nightly", "nightly canary"}


def test_first_round_says_that_there_is_nothing_to_compare_with(store):
    assert "nothing to compare with yet" in repr(watching(store, Answering()).run(START))


def test_interrupted_round_is_gone_on_with_and_asks_only_the_rest(store):
    answering, presses = Answering(), iter([True])

    def pressed(request):
        if answering.asked >= 200 and next(presses, False):
            _thread.interrupt_main()
        return answering(request)

    scripted = model(pressed, seconds=0.002)
    watch = lab.monitor({"assistant": scripted}, questions(400), store=store, canary=False)
    found = watch.run(START)
    assert found.round.status == "interrupted" and "goes on with it" in found.findings[0].text
    assert watch.rounds() == [] and answering.asked < 400
    found = watch.run(START + timedelta(hours=3))
    assert found.round.slot == "2026-01-01T06:00:00Z"
    assert answering.asked == 400
    assert np.isfinite(watch.rounds()[0].series[0].scores).all()


def test_unfinished_round_of_another_day_is_left_behind(store):
    watch = watching(store, Answering(), canary=False)
    store.documents.put(
        KIND, "watch/2026-01-01T06:00:00Z", {"status": "stopped", "until": 0, "slot": "2026-01-01T06:00:00Z"}
    )
    assert watch.run(START + timedelta(days=3)).round.slot == "2026-01-04T06:00:00Z"


def test_budget_ends_a_round_which_is_not_compared_and_gone_on_with(store):
    watch = watching(store, Answering(), canary=False, budget=0.02)
    found = watch.run(START)
    assert found.round.status == "budget" and "not compared" in found.findings[0].text
    assert watch.rounds() == []
    assert watch.run(START + timedelta(hours=1)).round.status == "complete"


def test_budget_of_a_round_covers_the_canary_too(store):
    watch = watching(store, Answering(), budget=0.045)  # 40 items at 0.001, then room for five canary answers
    made = watch.run(START).round
    assert made.status == "complete" and sum(map(len, made.canary["assistant"].values())) <= 5
    assert store.runs()["cost"].sum() <= 0.045 + 1e-9


def test_disk_that_is_full_stops_the_round_and_the_next_call_goes_on(tmp_path):
    answering = Answering()
    with small_disk(tmp_path, "2m") as disk, Store(f"sqlite:///{disk / 'runs.db'}") as store:
        watch = lab.monitor({"assistant": model(answering, seconds=0.003)}, questions(400), store=store, canary=False)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 150_000))
        with pytest.raises(StoreError, match="full"):
            watch.run(START)
        before = answering.asked
        assert 0 < before < 400 and watch.rounds() == []
        ballast.unlink()
        assert watch.run(START + timedelta(minutes=5)).round.slot == "2026-01-01T06:00:00Z"
        assert len(watch.rounds()) == 1 and np.isfinite(watch.rounds()[0].series[0].scores).all()
        assert answering.asked < 400 + before  # what was stored is not asked again


def test_round_that_is_done_is_not_run_again(store):
    watch = watching(store, Answering(), canary=False)
    watch.run(START)
    with pytest.raises(DataError, match="done already or under way"):
        watch.run(START)


def test_time_without_a_zone_is_refused_and_zones_become_utc(store):
    watch = watching(store, Answering(), canary=False)
    with pytest.raises(DataError, match="needs its zone"):
        watch.run(datetime(2026, 1, 1))
    watch.run(datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=2))))
    assert watch.rounds()[0].at == START and watch.rounds()[0].at.tzinfo is UTC
    assert str(watch.history().frame["at"].dt.tz) == "UTC"


def test_clock_that_went_back_changes_no_order_and_is_noted(store):
    answering = Answering()
    watch = watching(store, answering, canary=False)
    for at in nights(3):
        watch.run(at)
    answering.wrong = set(range(30))
    found = watch.run(START - timedelta(days=300))
    assert "the clock went back" in found.round.notes[0]
    assert found.round is not None and watch.rounds()[-1].slot == found.round.slot
    assert [f.kind for f in found.findings if f.level == "alarm"] == ["score"]


def test_several_watches_share_a_store(store):
    one, two = (watching(store, Answering(), name=name) for name in ("one", "two"))
    one.run(START)
    two.run(START)
    one.run(START + timedelta(days=1))
    assert (len(one.rounds()), len(two.rounds())) == (2, 1)


def test_watch_is_opened_again_by_its_name(store):
    lab.monitor({"a": "scripted/constant"}, ["micro/arc"], 5, store=store, name="w", drop=0.07).run(START)
    again = lab.monitor(store=store, name="w")
    assert again.settings.drop == 0.07 and again.settings.n == 5
    assert len(again.run(START + timedelta(days=1)).round.series) == 1


def test_changed_items_are_refused_with_what_changed(store):
    watching(store, Answering(), canary=False).run(START)
    other = questions(40, target="no")
    with pytest.raises(DataError, match=r"40 say something else.*watch under another name.*changed_items='pair'"):
        watching(store, Answering(), other, canary=False).run(START + timedelta(days=1))
    with pytest.raises(DataError, match="10 are gone"):
        watching(store, Answering(), questions(30), canary=False).run(START + timedelta(days=1))


def test_refused_round_leaves_nothing_behind(store):
    watching(store, Answering(), canary=False).run(START)
    with pytest.raises(DataError):
        watching(store, Answering(), questions(30), canary=False).run(START + timedelta(days=1))
    watch = watching(store, Answering(), canary=False)
    watch.run(START + timedelta(days=2))
    assert len(watch.rounds()) == 2


def test_changed_items_are_paired_on_those_that_are_the_same_when_asked(store):
    watching(store, Answering(), canary=False).run(START)
    watch = watching(store, Answering(), questions(30), canary=False, changed_items="pair")
    found = watch.run(START + timedelta(days=1))
    assert {r.n for r in found.readings if r.what == "score"} == {30}


def test_more_rows_in_a_benchmark_change_nothing_for_a_drawn_sample(store):
    watching(store, Answering(), questions(40), n=10, canary=False).run(START)
    watch = watching(store, Answering(), questions(60), n=10, canary=False)
    watch.run(START + timedelta(days=1))
    assert len({s.items for r in watch.rounds() for s in r.series}) == 1


def test_model_that_vanished_is_an_alarm_and_does_not_stop_the_others(store, tmp_path):
    gone = str(tmp_path / "weights")
    watch = lab.monitor({"here": model(Answering()), "gone": f"hf/{gone}"}, questions(), store=store, canary=False)
    found = watch.run(START)
    (alarm,) = [f for f in found.findings if f.level == "alarm"]
    assert alarm.kind == "silent" and alarm.text.startswith("gone gave no answer at all")
    assert found.round.find(("here", "facts")) is not None
    assert np.isnan(watch.history().frame.set_index("model").loc["gone", "score"])


def test_model_that_the_provider_took_away_is_an_alarm_with_its_words(store):
    def refuse(request):
        raise BadRequest("the model `scripted/a` does not exist", status=404)

    found = lab.monitor({"assistant": Scripted(refuse)}, questions(), store=store, canary=False).run(START)
    assert "does not exist" in found.findings[0].text and found.findings[0].level == "alarm"


def test_nothing_to_ask_says_what_to_give(store):
    with pytest.raises(DataError, match="give models and benchmarks"):
        lab.monitor(store=store).run(START)


def test_two_models_of_one_name_need_labels(store):
    with pytest.raises(DataError, match="give labels"):
        lab.monitor([model(Answering()), model(Answering())], questions(), store=store)


def test_unknown_round_lists_the_known_ones(store):
    watch = watching(store, Answering(), canary=False)
    watch.run(START)
    with pytest.raises(UnknownName, match="2026-01-01T06:00:00Z"):
        watch.check("2026-01-02T06:00:00Z")
    with pytest.raises(DataError, match="last is how many of the newest rounds to take, 1 or more; got 0"):
        watch.history(last=0)


# -- causes ----------------------------------------------------------------------------------------------------


def fallen(watch, answering, change, rounds=4):
    for at in nights(rounds):
        watch.run(at)
    answering.wrong = set(range(30))
    change()
    found = watch.run(START + timedelta(days=rounds))
    return next(f for f in found.findings if f.kind == "score"), found


def test_canary_tells_that_the_provider_changed_the_model(store):
    answering = Answering()
    watch = watching(store, answering)
    score, found = fallen(watch, answering, lambda: setattr(answering, "canary", "brand new"))
    assert score.level == "alarm" and not score.causes.ours
    assert score.causes.provider[0].startswith("8 of 8 canary answers changed")
    assert "The provider changed the model" in score.causes.verdict
    assert {f.kind for f in found.findings} == {"score", "provider"}


def test_fall_that_is_shown_late_is_told_with_what_changed_when_it_began(store):
    answering = Answering(right=0.9)
    watch = watching(store, answering)
    for at in nights(8):
        watch.run(at)
    answering.right, answering.canary = 0.6, "brand new"
    found = [watch.run(at) for at in nights(6, START + timedelta(days=8))]
    told = [next((f for f in check.findings if f.kind == "score"), None) for check in found]
    late = next(i for i, score in enumerate(told) if score is not None)
    assert late > 0 and [f.kind for f in found[0].findings] == ["provider"], "the change was told the night it came"
    for score in filter(None, told):
        assert score.before == watch.rounds()[7].slot
        assert "The provider changed the model" in score.causes.verdict
    worse = [flip.worse for flip in of_finding(watch, told[late], found[late].round.slot)]
    assert sum(worse) > 2 * (len(worse) - sum(worse)), "items are compared with the last round before the fall"


def test_canary_that_is_quiet_says_so(store):
    answering = Answering()
    score, _ = fallen(watching(store, answering), answering, lambda: None)
    assert "No change is known" in score.causes.verdict and "all 8 canary answers are as before" in score.causes.verdict


def test_unsteady_canary_is_learnt_in_the_first_round_and_says_nothing(store):
    answering = Answering()
    counter = iter(range(10**6))
    noisy = Scripted(lambda r: answering(r) if r.prompt.startswith("Item") else f"{next(counter)}", cost=0.0)
    watch = lab.monitor({"assistant": noisy}, questions(), store=store)
    for at in nights(3):
        assert not [f for f in watch.run(at).findings if f.kind == "provider"]


def test_version_that_answers_is_evidence_against_the_provider(store):
    answering = Answering()

    def answer(messages):
        from llmlab.types import Request

        return answering(Request.of(messages[-1]["content"]))

    with ProviderServer(answer, version="v1") as server:
        remote = lab.model("compatible/m", base_url=server.openai_url)
        watch = lab.monitor({"assistant": remote}, questions(), store=store)
        score, _ = fallen(watch, answering, lambda: setattr(server, "version", "v2"))
    assert any(re.search(r"version that answers changed: .*v1.* to .*v2", text) for text in score.causes.provider)


def test_other_prompt_is_our_own_change(store):
    answering = Answering()
    for at in nights(4):
        watching(store, answering).run(at)
    samples = [Sample(f"Item {i}?", target="yes", id=f"i{i}") for i in range(40)]
    reworded = lab.suite(samples, scorer="exact", name="facts", system="Be brief.")
    answering.wrong = set(range(30))
    found = watching(store, answering, reworded).run(START + timedelta(days=4))
    score = next(f for f in found.findings if f.kind == "score")
    assert not score.causes.provider and any("benchmark's version" in text for text in score.causes.ours)
    assert "We changed something" in score.causes.verdict


def test_other_model_behind_a_label_is_our_own_change(store):
    answering = Answering()
    for at in nights(4):
        watching(store, answering).run(at)
    answering.wrong = set(range(30))
    other = Scripted(answering, name="scripted/b", cost=0.001)
    found = lab.monitor({"assistant": other}, questions(), store=store).run(START + timedelta(days=4))
    score = next(f for f in found.findings if f.kind == "score")
    assert "the model's model changed: scripted/a to scripted/b" in score.causes.ours
    assert not score.causes.provider


def test_other_package_is_our_own_change(store, monkeypatch):
    answering = Answering()
    watch = watching(store, answering)

    def upgrade():
        monkeypatch.setattr("llmlab.monitor.measuring.versions", lambda: {"llmlab": "9.9"})

    score, _ = fallen(watch, answering, upgrade)
    assert any(text.startswith("llmlab changed: 0.1.0 to 9.9") for text in score.causes.ours)


def test_pinning_a_round_makes_it_the_baseline_and_the_start_of_history(store):
    answering = Answering()
    watch = watching(store, answering, canary=False)
    score, _ = fallen(watch, answering, lambda: None)
    assert score.level == "alarm"
    assert watch.pin() == watch.rounds()[-1].slot
    found = watch.run(START + timedelta(days=9))
    assert not found.findings
    assert {r.rounds for r in found.readings if r.what == "score"} == {(1, 1)}


# -- sunset ----------------------------------------------------------------------------------------------------


def test_calendar_knows_announced_ends_and_own_ones():
    from datetime import date

    from llmlab.monitor.sunset import calendar

    now = datetime(2026, 12, 1, tzinfo=UTC)
    models = {"chat": "openai/gpt-4o-mini", "mine": "compatible/ours", "new": "openai/gpt-6.2-sol"}
    found = calendar(models, {"compatible/ours": date(2026, 12, 5)}, now)
    assert [(e.model, e.days) for e in found] == [("mine", 4), ("chat", 44)]
    assert "2027-01-14, in 44 days (configs/models.yaml)" in str(found[1])


def test_model_that_ends_soon_is_a_warning_and_one_that_ended_an_alarm(store):
    from datetime import date

    ends = {"assistant": date(2026, 1, 20)}
    watch = watching(store, Answering(), canary=False, sunset=ends)
    assert [(f.kind, f.level) for f in watch.run(START).findings] == [("sunset", "warning")]
    found = watch.run(START + timedelta(days=40))
    assert [(f.kind, f.level) for f in found.findings] == [("sunset", "alarm")]


# -- settings --------------------------------------------------------------------------------------------------


def test_unknown_setting_is_refused_with_the_known_ones(tmp_path: Path):
    path = tmp_path / "monitor.yaml"
    path.write_text("models: [micro/small]\nbenchmark: [micro/arc]\n")
    with pytest.raises(UnknownName, match=r"monitor.yaml.*'benchmark'. Did you mean 'benchmarks'"):
        lab.monitor(config=path, store="sqlite://")


def test_shipped_example_is_valid():
    from llmlab.monitor.config import settings
    from llmlab.settings import shipped

    assert settings(shipped("configs/monitor.yaml")).models == {"micro/small": "micro/small"}


def test_url_of_a_channel_is_refused_and_not_repeated():
    with pytest.raises(DataError) as caught:
        lab.monitor(channels=["slack://token-a/token-b/secret"], store="sqlite://")
    assert "$SLACK_URL" in str(caught.value) and "secret" not in str(caught.value).replace("holds a secret", "")


def test_wrong_values_are_named_with_their_field():
    with pytest.raises(DataError, match=r"alpha: .*it is 5"):
        lab.monitor(alpha=5, store="sqlite://")
    with pytest.raises(DataError, match="name: "):
        lab.monitor(name="a/b", store="sqlite://")


@pytest.mark.parametrize(
    "numbers",
    [[], [1, 0, np.nan], [1e-4] * 3, [np.nan] * 2, [1 / 3, 1, 0], [1e-9, 3e5, np.nan], [0.000123456, 0.000123457]],
)
def test_numbers_of_a_round_come_back_with_seven_digits(numbers):
    series = Series("m", "facts", "generate", "score", "h", {"score": np.array(numbers, dtype=float)})
    made = Round("2026-01-01T06:00:00Z", START, series=(series,))
    (back,) = Round.from_document(json.loads(json.dumps(made.to_document()))).series
    assert back.scores == pytest.approx(np.array(numbers, dtype=float), rel=1e-7, nan_ok=True)


def test_numbers_of_older_rounds_are_read():
    body = Round("2026-01-01T06:00:00Z", START, series=(Series("m", "b", "p", "s", "h", {}),)).to_document()
    body["series"][0]["numbers"] = {"score": [0.5, None, 1], "cost": {"all": 0.25, "n": 2}}
    (series,) = Round.from_document(body).series
    assert series.scores == pytest.approx([0.5, np.nan, 1.0], nan_ok=True)
    assert list(series.numbers["cost"]) == [0.25, 0.25]
