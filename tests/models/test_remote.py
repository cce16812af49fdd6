"""Tries, waiting, costs and refused options, as they are the same for every provider."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import llmlab as lab
from llmlab.errors import (
    BadRequest,
    BudgetExceeded,
    ConnectionFailed,
    MissingKey,
    RateLimited,
    ServerFault,
    Timeout,
    Unauthorized,
)
from llmlab.models import tries
from llmlab.models.remote import RemoteModel
from llmlab.testing import Fault, ProviderServer
from tests.contract.models import CLOUD, cloud

NAME = "openai/gpt-4o-mini"


@pytest.fixture(autouse=True)
def known_keys(keys: dict[str, str]) -> None:
    pass


@pytest.fixture(params=CLOUD)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def remotely(name: str, server: ProviderServer, **options: Any) -> RemoteModel:
    made = cloud(name, server, **options)
    assert isinstance(made, RemoteModel)
    return made


# -- every provider -------------------------------------------------------------------------------------------

HEALING = {
    "rate_limited": RateLimited,
    "overloaded": RateLimited,
    "server_error": ServerFault,
    "cut": ConnectionFailed,
    "empty": ServerFault,
    "malformed": ServerFault,
    "not_an_answer": ServerFault,
}
FINAL = {"bad_request": BadRequest, "unauthorized": Unauthorized, "not_found": BadRequest}
# the provider sent a success, or the call was under way: it may have been charged
MAYBE_PAID = {"cut", "empty", "malformed", "not_an_answer"}


@pytest.mark.parametrize("kind", HEALING)
def test_what_can_heal_is_tried_again(name: str, server: ProviderServer, kind: str) -> None:
    server.fail(kind)
    response = cloud(name, server).generate("Hello")
    assert response.text == "The answer is 42."
    assert [bool(a.error) for a in response.attempts] == [True, False]
    assert name in response.attempts[0].error
    assert len(server.requests) == 2


@pytest.mark.parametrize("kind", HEALING)
def test_after_the_last_try_the_error_tells_them_all(name: str, server: ProviderServer, kind: str) -> None:
    server.fail(kind, times=3)
    with pytest.raises(HEALING[kind], match=name) as failed:
        cloud(name, server, tries=3).generate("Hello")
    assert "after 3 tries" in str(failed.value)
    assert failed.value.paid == (kind in MAYBE_PAID)
    assert len(server.requests) == 3


@pytest.mark.parametrize("kind", FINAL)
def test_what_cannot_heal_fails_at_once_in_the_providers_words(
    name: str, server: ProviderServer, kind: str, keys: dict[str, str]
) -> None:
    server.fail(kind, times=3, message=f"no use of {' '.join(keys.values())} here")
    with pytest.raises(FINAL[kind], match=r"no use of .* here") as failed:
        cloud(name, server).generate("Hello")
    # google-generativeai asks once more after a 401, to refresh credentials
    assert len(server.requests) == 1 or name.startswith("google-legacy/")
    assert failed.value.status in (400, 401, 404)
    own = getattr(cloud(name, server), "key_env", "")
    assert keys.get(own, "no such key") not in str(failed.value)


@pytest.mark.parametrize("kind", HEALING)
def test_a_stream_that_fails_before_its_first_word_starts_again(name: str, server: ProviderServer, kind: str) -> None:
    if kind == "cut":
        pytest.skip("the cut comes after the first words")
    server.fail(kind)
    chunks = list(cloud(name, server).stream("Hello"))
    assert "".join(c.text for c in chunks) == "The answer is 42."
    assert chunks[-1].response is not None
    assert len(chunks[-1].response.attempts) == 2


def test_a_stream_that_breaks_after_its_first_word_is_not_repeated(name: str, server: ProviderServer) -> None:
    server.fail("cut")
    heard = []
    with pytest.raises((ConnectionFailed, ServerFault)):
        for chunk in cloud(name, server).stream("Hello"):
            heard.append(chunk.text)  # noqa: PERF401  # what came before the error counts
    assert "The answer is 42.".startswith("".join(heard))
    assert heard
    assert len(server.requests) == 1


def test_a_stream_tells_the_time_to_its_first_token(name: str, server: ProviderServer) -> None:
    response = list(cloud(name, server).stream("Hello"))[-1].response
    assert response is not None
    assert 0 < response.first_token_seconds <= response.seconds


def test_a_slow_answer_times_out(name: str, server: ProviderServer) -> None:
    server.fail("slow", seconds=5)
    with pytest.raises(Timeout, match=r"no answer within 0.3 s") as failed:
        cloud(name, server, timeout=0.3, tries=1).generate("Hello")
    assert failed.value.paid


def test_an_unreachable_server_is_not_charged(name: str) -> None:
    with ProviderServer() as server:
        pass
    with pytest.raises(ConnectionFailed, match="could not be reached") as failed:
        cloud(name, server, tries=2).generate("Hello")
    assert not failed.value.paid


@pytest.mark.parametrize("kind", ["blocked", "refusal"])
def test_a_refusal_is_an_answer(name: str, server: ProviderServer, kind: str) -> None:
    server.fail(kind, times=2)
    model = cloud(name, server)
    response = model.generate("Hello")
    assert response.finish_reason == "refusal"
    assert len(response.attempts) == 1
    assert list(model.stream("Hello"))[-1].response.finish_reason == "refusal"  # type: ignore[union-attr]


def test_an_answer_without_usage_is_unpriced(name: str, server: ProviderServer) -> None:
    server.fail("no_usage", times=2)
    model = cloud(name, server)
    for response in (model.generate("Hello"), list(model.stream("Hello"))[-1].response):
        assert response is not None
        assert response.text == "The answer is 42."
        assert response.usage.input_tokens is None
        assert math.isnan(response.cost)
        assert response.price == ""


def test_the_version_that_answered_is_kept(name: str, server: ProviderServer) -> None:
    model = remotely(name, server)
    assert model.generate("Hello").model_version.startswith(f"{model.id}-2026-01-01")


def test_a_missing_key_is_named(
    name: str, server: ProviderServer, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str]
) -> None:
    for key in keys:
        monkeypatch.delenv(key)
    if name.startswith("compatible/"):
        with pytest.raises(MissingKey, match="MY_KEY"):
            cloud(name, server, key_env="MY_KEY")
        return
    with pytest.raises(MissingKey, match=f"{name} needs .*_API_KEY"):
        cloud(name, server)


def test_the_address_comes_from_the_environment(
    name: str, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remotely(name, server).url_env, CLOUD[name](server)["base_url"])
    assert lab.model(name).generate("Hello").text == "The answer is 42."


def test_threads_share_one_client(name: str, server: ProviderServer) -> None:
    assert remotely(name, server).client is remotely(name, server).client


# -- tries ----------------------------------------------------------------------------------------------------


def test_retry_after_is_obeyed(server: ProviderServer) -> None:
    server.fail("rate_limited", retry_after=0.3)
    started = time.perf_counter()
    response = cloud(NAME, server).generate("Hello")
    assert 0.3 <= time.perf_counter() - started < 3
    assert 0.3 <= response.attempts[1].waited < 3
    assert response.seconds < 0.3


def test_a_wait_beyond_all_patience_is_not_begun(server: ProviderServer) -> None:
    server.fail("rate_limited", retry_after=3600)
    with pytest.raises(RateLimited, match="asks to wait 3600 s") as failed:
        cloud(NAME, server).generate("Hello")
    assert failed.value.retry_after == 3600
    assert len(server.requests) == 1


def test_a_used_up_quota_is_not_waited_for(server: ProviderServer) -> None:
    server.fail("quota")
    with pytest.raises(Unauthorized, match="see your plan and billing"):
        cloud(NAME, server).generate("Hello")
    assert len(server.requests) == 1


def test_waits_double_and_are_bounded(server: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(tries, "FIRST_WAIT", 10.0)
    monkeypatch.setattr(tries.time, "sleep", waits.append)
    server.fail("server_error", times=4)
    cloud(NAME, server).generate("Hello")
    bounds = [(5, 10), (10, 20), (15, 30), (15, 30)]
    assert [low <= wait <= high for wait, (low, high) in zip(waits, bounds, strict=True)] == [True] * 4


def test_the_sdk_does_not_retry_on_its_own(name: str, server: ProviderServer) -> None:
    server.fail("server_error", times=2)
    with pytest.raises(ServerFault):
        cloud(name, server, tries=1).generate("Hello")
    assert len(server.requests) == 1


def test_tries_and_timeout_must_make_sense(server: ProviderServer) -> None:
    with pytest.raises(ValueError, match="tries must be at least 1"):
        cloud(NAME, server, tries=0)


# -- concurrency ----------------------------------------------------------------------------------------------


def test_rate_limits_lower_the_concurrency_of_all_models_there(server: ProviderServer) -> None:
    first, other = remotely(NAME, server), remotely("openai/gpt-6-luna", server)
    before = first.limiter.limit
    server.fail("rate_limited", retry_after=0.01)
    first.generate("Hello")
    assert other.limiter.limit < before


def test_an_overload_of_429s_ends_with_every_answer() -> None:
    """A provider that lets only five calls through at a time."""
    with ProviderServer("yes", latency=0.01) as server:
        server.fault = lambda received: Fault("rate_limited", retry_after=0.02) if server.under_way > 5 else None
        model = remotely(NAME, server, tries=50)
        with ThreadPoolExecutor(40) as pool:
            texts = [r.text for r in pool.map(model.generate, map(str, range(200)))]
        assert texts == ["yes"] * 200
        assert model.limiter.limit < 40


# -- money ----------------------------------------------------------------------------------------------------


def test_the_cost_is_what_the_price_list_says(server: ProviderServer) -> None:
    response = cloud(NAME, server).generate("one two three")
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens) == (3, 4)
    assert math.isclose(response.cost, (3 * 0.15 + 4 * 0.60) / 1e6)
    assert "openai/gpt-4o-mini" in response.price


def test_a_failed_try_that_may_be_charged_counts_with_its_worst_case(server: ProviderServer) -> None:
    model = cloud(NAME, server, max_tokens=100)
    server.fail("malformed")
    with lab.ledger(budget=1.0) as spending:
        response = model.generate("Hello")
    worst = model.worst_case(model._complete("Hello", {}))
    assert math.isclose(spending.spent, response.cost + worst)
    assert spending.calls == 2
    assert spending.reserved == 0


def test_a_failed_try_that_is_free_costs_nothing(server: ProviderServer) -> None:
    model = cloud(NAME, server, max_tokens=100)
    server.fail("server_error", times=2)
    with lab.ledger(budget=1.0) as spending:
        response = model.generate("Hello")
    assert math.isclose(spending.spent, response.cost)


def test_failed_tries_never_exceed_the_budget(server: ProviderServer) -> None:
    model = cloud(NAME, server, max_tokens=1000)
    worst = model.worst_case(model._complete("Hello", {}))
    server.fail("malformed", times=4)
    with lab.ledger(budget=2.5 * worst) as spending, pytest.raises(BudgetExceeded, match=r"after 2 tries: .*not JSON"):
        model.generate("Hello")
    assert len(server.requests) == 2
    assert spending.spent <= 2.5 * worst


def test_a_stream_left_early_counts_with_its_worst_case(server: ProviderServer) -> None:
    model = cloud(NAME, server, max_tokens=100)
    with lab.ledger(budget=1.0) as spending:
        pieces = model.stream("Hello")
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]  # generators have it
    assert math.isclose(spending.spent, model.worst_case(model._complete("Hello", {})))
    assert remotely(NAME, server).limiter.under_way == 0


# -- options that are refused ---------------------------------------------------------------------------------


REFUSED = {
    "openai/gpt-4o-mini": ("temperature", "temperature"),
    "compatible/some-model": ("top_logprobs", "logprobs"),
    "anthropic/claude-haiku-4-5": ("stop", "stop_sequences"),
    "google/gemini-2.5-flash": ("top_logprobs", "responseLogprobs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_the_api_refuses_is_dropped_and_remembered(
    name: str, server: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    option, field = REFUSED[name]
    value: Any = {"temperature": 0.0, "top_logprobs": 3, "stop": ("42",)}[option]
    server.unsupported = {field}
    model = cloud(name, server, **{option: value})
    with caplog.at_level(logging.WARNING, "llmlab.models"):
        first = model.generate("Hello")
        second = model.generate("Hello")
    assert first.dropped == second.dropped == (option,)
    assert getattr(first.requested, option) == value
    assert getattr(first.applied, option) is None
    assert [len(first.attempts), len(second.attempts)] == [2, 1]
    assert "not supported" in first.attempts[0].error or "not enabled" in first.attempts[0].error
    assert [r.message for r in caplog.records].count(
        f"{name} does not accept {option}; it is left out (see response.dropped)"
    ) == 1


def test_threads_that_learn_it_at_the_same_time_all_get_their_answer() -> None:
    with ProviderServer(latency=0.1, unsupported={"temperature"}) as server:
        model = cloud(NAME, server, temperature=0.0)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(model.generate, map(str, range(8))))
    assert [a.text for a in answers] == ["The answer is 42."] * 8


def test_an_option_known_to_be_refused_is_never_sent(server: ProviderServer) -> None:
    response = cloud("openai/gpt-6-luna", server, temperature=0.0, seed=7).generate("Hello")
    assert "temperature" not in server.last.body
    assert server.last.body["seed"] == 7
    assert response.dropped == ("temperature",)
    assert len(response.attempts) == 1


def test_a_refused_stop_sequence_is_kept_to_all_the_same(server: ProviderServer) -> None:
    server.unsupported = {"stop"}
    model = cloud(NAME, server, stop=[" is"])
    assert model.generate("Hello").text == "The answer"
    assert "".join(chunk.text for chunk in model.stream("Hello")) == "The answer"
    assert "stop" not in server.last.body


def test_what_an_answer_cannot_do_without_is_not_dropped(server: ProviderServer) -> None:
    server.unsupported = {"response_format"}
    with pytest.raises(BadRequest, match="response_format"):
        cloud(NAME, server).generate("Hello", schema={"type": "object"})


def test_a_wrong_value_is_not_taken_for_a_refused_option(server: ProviderServer) -> None:
    words = "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 9 instead."
    server.fail("bad_request", message=words)
    with pytest.raises(BadRequest, match="decimal above maximum"):
        cloud(NAME, server).generate("Hello", temperature=9)
    assert len(server.requests) == 1


def test_an_effort_among_others_is_not_taken_for_a_refused_option(server: ProviderServer) -> None:
    words = "Unsupported value: 'reasoning_effort' does not support 'huge'. Supported values are: 'low', 'high'."
    server.fail("bad_request", message=words)
    with pytest.raises(BadRequest, match="Supported values are"):
        cloud("openai/gpt-6-luna", server).generate("Hello", effort="huge")


def test_what_is_learned_is_learned_for_one_model(server: ProviderServer) -> None:
    server.unsupported = {"seed"}
    assert cloud(NAME, server).generate("Hello", seed=1).dropped == ("seed",)
    server.unsupported = set()
    assert cloud("openai/gpt-6-luna", server).generate("Hello", seed=1).dropped == ()
