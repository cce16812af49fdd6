"""Servers that speak OpenAI's formats, each in its own way."""

from __future__ import annotations

import math
from typing import Any

import pytest

import llmlab as lab
from llmlab.errors import BadRequest, DataError, NeedsLocalModel
from llmlab.models.base import Model
from llmlab.models.compatible import _read
from llmlab.testing import Answer, Fault, ProviderServer
from llmlab.testing.answers import logprob, words
from llmlab.types import Message, Request


def compatible(server: ProviderServer, **options: Any) -> Model:
    return lab.model("compatible/some-model", base_url=server.openai_url, **options)


def test_no_key_is_needed_and_none_is_sent(server: ProviderServer) -> None:
    compatible(server, max_tokens=5).generate("Hello")
    assert server.last.headers["authorization"] == "Bearer none"
    assert server.last.body["max_tokens"] == 5


def test_a_key_of_any_name_is_sent(server: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "k1")
    compatible(server, key_env="GATEWAY_KEY").generate("Hello")
    assert server.last.headers["authorization"] == "Bearer k1"


def test_an_address_is_needed() -> None:
    with pytest.raises(DataError, match="LLMLAB_COMPATIBLE_URL"):
        lab.model("compatible/some-model")


def test_a_price_is_unknown(server: ProviderServer) -> None:
    assert math.isnan(compatible(server).generate("Hello").cost)


def test_the_new_name_of_the_limit_is_used_where_the_old_one_is_refused(server: ProviderServer) -> None:
    server.unsupported = {"max_tokens"}
    response = compatible(server, max_tokens=2).generate("Hello")
    assert server.last.body["max_completion_tokens"] == 2
    assert response.finish_reason == "length"
    assert response.dropped == ()


def test_a_server_without_stream_options_streams_without_usage(server: ProviderServer) -> None:
    server.unsupported = {"stream_options"}
    chunks = list(compatible(server).stream("Hello"))
    assert "".join(c.text for c in chunks) == "The answer is 42."
    assert chunks[-1].response is not None
    assert chunks[-1].response.usage.input_tokens is None


def test_plain_text_goes_to_the_completions(server: ProviderServer) -> None:
    request = Request((Message("user", "Once upon"),), template=False)
    model = compatible(server, max_tokens=2, stop=["."])
    response = model.generate(request)
    assert server.last.path == "/v1/completions"
    assert server.last.body == {"model": "some-model", "prompt": "Once upon", "max_tokens": 2, "stop": ["."]}
    assert (response.text, response.finish_reason) == ("The answer", "length")
    assert "".join(c.text for c in model.stream(request)) == "The answer"


def test_plain_text_is_one_message(server: ProviderServer) -> None:
    talk = Request((Message("system", "a"), Message("user", "b")), template=False)
    with pytest.raises(BadRequest, match="one message; got 2"):
        compatible(server).generate(talk)


def test_log_probabilities_of_given_text_are_summed_over_its_tokens(server: ProviderServer) -> None:
    found = compatible(server).logprob("The capital of France is", [" Paris", " not Rome"])
    assert [f.logprob for f in found] == pytest.approx([logprob(" Paris"), logprob(" not") + logprob(" Rome")])
    assert [f.tokens for f in found] == [1, 2]
    assert all(f.is_greedy for f in found)
    assert server.last.body["echo"] is True
    assert server.last.body["prompt"] == "The capital of France is not Rome"


def test_a_token_across_the_border_counts_to_the_continuation(server: ProviderServer) -> None:
    (found,) = compatible(server).logprob("The capital", ["s are"])
    assert words("The capitals are") == ["The", " capitals", " are"]
    assert found.logprob == pytest.approx(logprob(" capitals") + logprob(" are"))
    assert found.tokens == 2


def test_the_first_token_of_all_has_no_log_probability(server: ProviderServer) -> None:
    (found,) = compatible(server).logprob("", ["Paris is"])
    assert math.isnan(found.logprob)
    assert not found.is_greedy


def test_offsets_are_made_from_the_tokens_where_the_server_sends_none() -> None:
    wire = {
        "tokens": ["a", " b", " c"],
        "token_logprobs": [None, -1.0, -2.0],
        "top_logprobs": [None, {" x": -0.5}, {" c": -2.0}],
    }
    found = _read({"logprobs": wire}, 1, 3)
    assert (found.logprob, found.tokens, found.is_greedy) == (-1.0, 1, False)


def test_a_server_that_does_not_echo_is_asked_once(server: ProviderServer) -> None:
    server.unsupported = {"echo"}
    model = compatible(server)
    for _ in range(2):
        with pytest.raises(NeedsLocalModel, match="gives no log-probabilities of given text"):
            model.logprob("a", [" b"])
    assert len(server.requests) == 1


def test_decide_by_the_likeliest_choice(server: ProviderServer) -> None:
    decision = compatible(server).decide("Capital of Italy?", ["Paris", "Rome"])
    assert decision.protocol == "loglikelihood"
    weights = [math.exp(logprob(" Paris")), math.exp(logprob(" Rome"))]
    assert decision.probabilities == pytest.approx([w / sum(weights) for w in weights])
    assert server.last.body["prompt"] == "Capital of Italy?\nAnswer: Rome"


def test_decide_falls_back_to_what_the_server_can() -> None:
    said = Answer("B", top={"B": 0.6, " A": 0.2, "The": 0.2})
    with ProviderServer(lambda messages: said) as server:
        server.fault = lambda received: Fault("bad_request") if received.path.endswith("/v1/completions") else None
        model = compatible(server)
        decision = model.decide("Capital of Italy?", ["Paris", "Rome"])
        assert decision.protocol == "letter_logprob"
        assert decision.probabilities == pytest.approx((0.25, 0.75))
        assert model.protocols == ("letter_logprob", "letter", "generate")
        server.unsupported = {"logprobs"}
        decision = model.decide("Capital of Italy?", ["Paris", "Rome"])
        assert (decision.protocol, decision.choice) == ("letter", 1)
        assert model.protocols == ("letter", "generate")


def test_log_probabilities_that_are_silently_ignored_count_as_refused() -> None:
    with ProviderServer("B") as server:
        server.ignored = {"logprobs"}
        model = compatible(server, top_logprobs=2)
        first, second = model.generate("Hello"), model.generate("Hello")
    assert first.logprobs is None
    assert first.dropped == second.dropped == ("top_logprobs",)
    assert first.applied.top_logprobs is None
    assert [("logprobs" in received.body) for received in server.requests] == [True, False]
