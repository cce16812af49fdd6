from __future__ import annotations

import itertools
import math

import matplotlib.pyplot as plt
import pytest

import llmlab as lab
from llmlab.errors import BadRequest, NeedsLocalModel
from llmlab.models.local import room
from llmlab.models.local.profile import Shape, measure
from llmlab.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('profile') / 'runs.db'}"


@pytest.fixture(scope="module")
def profile(store):
    models = {"full": lab.model("micro/small"), "nf4": lab.model("micro/small", quantize="nf4")}
    return lab.profile(models, prompt_tokens=(16, 64), new_tokens=4, batch=(1, 4), repeats=6, store=store)


def test_every_model_length_and_batch_is_a_line(profile):
    shapes = profile.table[["model", "prompt_tokens", "batch"]].apply(tuple, axis=1).tolist()
    assert shapes == [(m, n, b) for m in ("full", "nf4") for n in (16, 64) for b in (1, 4)]


def test_rates_and_latencies_are_medians_with_their_spread(profile):
    for _, line in profile.table.iterrows():
        for rate in ("prefill", "decode"):
            assert 0 < line[f"{rate}_low"] <= line[rate] <= line[f"{rate}_high"]
        assert 0 < line["first_p50"] <= line["first_p95"]
        assert 0 < line["token_p50"] <= line["token_p95"]
        assert line["load_seconds"] > 0


def test_a_rate_is_the_whole_batch_over_its_time(profile):
    line = profile.table.iloc[0]
    # the median of 6 ratios is the ratio of a median where nothing else was measured with it
    assert line["prefill"] == pytest.approx(16 / line["first_p50"], rel=0.2)


def test_memory_is_told_by_part(profile):
    table = profile.table.set_index(["model", "prompt_tokens", "batch"])
    full, small = table.loc[("full", 64, 4)], table.loc[("nf4", 64, 4)]
    assert full["weights"] == pytest.approx(853120 * 4 / 1e9, rel=0.01)
    assert small["weights"] < 0.6 * full["weights"]
    # the embedded model has 2 layers or more, keys and values in float32
    assert full["kv"] == pytest.approx(4 * 68 * full["kv_token"])
    assert table.loc[("full", 16, 1), "kv"] == pytest.approx(20 * full["kv_token"])


def test_few_repeats_have_no_interval(store):
    table = lab.profile("micro/small", 8, 2, 1, repeats=2, store=store).table
    assert math.isnan(table.loc[0, "decode_low"])
    assert table.loc[0, "decode"] > 0


def test_profiles_are_stored_and_listed(profile, store):
    listed = lab.experiments("profile", store=store)
    assert set(profile.ids.values()) <= set(listed.index)
    with Store(store) as opened:
        body = opened.documents.get("profile", profile.ids["nf4"])
    assert body["config"]["quantize"] == "nf4"
    fields = ["prompt_tokens", "batch"]
    largest = (
        profile.table[profile.table["model"] == "nf4"].set_index(fields).loc[*(body["config"][f] for f in fields),]
    )
    assert body["summary"]["decode"] == pytest.approx(largest["decode"])
    assert len(body["lines"]) == 4


def test_the_table_shows_intervals_and_n(profile):
    text = repr(profile)
    assert "decode, tokens/s" in text
    assert "p95" in text
    assert text.splitlines()[1].endswith(" 6")
    assert profile._repr_html_().count("<tr") == 9


def test_repeats_go_round_over_the_models():
    engines = {name: lab.model("micro/tiny").engine.fresh() for name in ("a", "b")}
    computed = []
    for name, engine in engines.items():
        engine.decoder(1)  # how to compute is tried out before the hook hears of it
        engine.loaded.model.register_forward_pre_hook(lambda *_, name=name: computed.append(name))
    timings = measure(list(engines.values()), Shape(4, 3, 1), repeats=4)
    assert [len(times) for times in timings] == [4, 4]
    # forwards and backwards: a b, b a, a b, b a
    assert [name for name, _ in itertools.groupby(computed)] == ["a", "b", "a", "b", "a"]


def test_models_that_do_not_fit_at_once_are_measured_one_by_one_and_the_result_says_so(profile, store, monkeypatch):
    assert profile.together and "one model after the other" not in repr(profile)
    monkeypatch.setattr(room, "free_bytes", lambda device: 2.5 * 2 * 853120 * 4)
    models = {"a": "micro/small", "b": "micro/small"}
    alone = lab.profile(models, 8, 2, 1, repeats=1, store=store)
    assert not alone.together and "one model after the other" in repr(alone)
    assert list(alone.table["model"]) == ["a", "b"]
    assert lab.profile("micro/small", 8, 2, 1, repeats=1, store=store).together


def test_plots_have_a_line_per_model_units_and_n(profile):
    speed, memory = profile.plot()
    assert [line.get_label() for line in speed.lines] == ["full", "nf4"]
    assert "per second" in speed.get_ylabel()
    assert "n = 6" in speed.get_xlabel()
    assert "GB" in memory.get_ylabel()
    assert "nf4 has" in memory.get_title(loc="left").replace("\n", " ")
    plt.close(speed.figure)


def test_a_profiled_model_keeps_its_own_weights(store):
    model = lab.model("micro/small", max_tokens=2)
    loaded = model.load()
    lab.profile(model, 8, 2, 1, repeats=1, store=store)
    assert model.load() is loaded


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"prompt_tokens": 2000}, r"2000 \+ 32 tokens are more than the context of micro/small, 1024"),
        ({"batch": 0}, "in batches of at least one"),
        ({"new_tokens": 1}, "writes at least two"),
    ],
)
def test_shapes_that_cannot_be_measured_are_refused(shape, message, store):
    with pytest.raises(BadRequest, match=message):
        lab.profile("micro/small", **shape, store=store)


def test_models_that_do_not_run_here_are_refused(store):
    with pytest.raises(NeedsLocalModel, match=r"scripted/echo cannot be profiled.*results.summary"):
        lab.profile("scripted/echo", store=store)
