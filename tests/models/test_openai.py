"""What is sent to OpenAI and how its answers are read."""

from __future__ import annotations

import math
from typing import Any

import pytest

import llmlab as lab
from llmlab.models.base import Model
from llmlab.models.openai import usage
from llmlab.testing import Answer, Fault, ProviderServer
from llmlab.types import TokenLogprob, Usage


@pytest.fixture(autouse=True)
def known_keys(keys: dict[str, str]) -> None:
    pass


def openai(server: ProviderServer, name: str = "gpt-4o-mini", **options: Any) -> Model:
    return lab.model(f"openai/{name}", base_url=server.openai_url, **options)


def test_what_is_sent(server: ProviderServer, keys: dict[str, str]) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    options: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 9, "stop": "END"}
    model = openai(server, **options, top_logprobs=2, schema=schema, extra={"user": "u1"})
    model.generate([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    assert server.last.path == "/v1/chat/completions"
    assert server.last.headers["authorization"] == f"Bearer {keys['OPENAI_API_KEY']}"
    assert server.last.body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "max_completion_tokens": 9,
        "stop": ["END"],
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
        "user": "u1",
    }


def test_some_json_object_is_asked_for_by_its_own_name(server: ProviderServer) -> None:
    openai(server).generate("Give JSON.", schema={"type": "object"})
    assert server.last.body["response_format"] == {"type": "json_object"}


def test_effort_is_sent_to_models_that_reason(server: ProviderServer) -> None:
    openai(server, "gpt-6-luna", effort="low").generate("Hello")
    assert server.last.body["reasoning_effort"] == "low"
    assert openai(server, effort="low").generate("Hello").dropped == ("effort",)
    assert "reasoning_effort" not in server.last.body


def test_a_stream_asks_for_usage(server: ProviderServer) -> None:
    list(openai(server).stream("Hello"))
    assert server.last.body["stream"] is True
    assert server.last.body["stream_options"] == {"include_usage": True}


def test_five_stop_sequences_are_kept_although_four_can_be_sent(server: ProviderServer) -> None:
    model = openai(server, stop=["1", "3", "5", "6", " 42"])
    assert model.generate("Hello").text == "The answer is"
    assert server.last.body["stop"] == ["1", "3", "5", "6"]


def test_cached_and_reasoning_tokens_are_parts_of_the_totals() -> None:
    said = Answer("four", reasoning="two and two", cached_tokens=3, cache_write_tokens=1)
    with ProviderServer(lambda messages: said) as server:
        model = openai(server, "gpt-6-luna")
        whole, streamed = model.generate("what is two and two"), list(model.stream("what is two and two"))[-1].response
    assert whole.usage == Usage(5, 4, 3, 1, 3)
    assert streamed is not None
    assert streamed.usage == whole.usage
    assert whole.text == streamed.text == "four"
    assert whole.reasoning == streamed.reasoning == "two and two"
    # $0.15 of $1 per million: cached tokens are cheaper, those written to the cache dearer or the same
    assert 0 < whole.cost < 1e-4


def test_usage_that_was_not_sent_is_unknown() -> None:
    assert usage(None) == Usage()
    assert usage({"prompt_tokens": 3, "completion_tokens": 0}) == Usage(3, 0)


def test_log_probabilities_come_with_their_alternatives() -> None:
    said = Answer("B", top={"B": 0.5, "A": 0.25})
    with ProviderServer(lambda messages: said) as server:
        model = openai(server, top_logprobs=2)
        whole, streamed = model.generate("Hello"), list(model.stream("Hello"))[-1].response
    half, quarter = math.log(0.5), math.log(0.25)
    assert whole.logprobs == (TokenLogprob("B", half, (("B", half), ("A", quarter))),)
    assert streamed is not None
    assert streamed.logprobs == whole.logprobs


def test_the_fingerprint_is_part_of_the_version(server: ProviderServer) -> None:
    assert openai(server).generate("Hello").model_version == "gpt-4o-mini-2026-01-01 fp_test"


def test_a_typed_decision_where_the_model_has_them() -> None:
    with ProviderServer(lambda messages: Answer("", probabilities=[0.2, 0.7, 0.1])) as server:
        model = openai(server, "gpt-6-luna")
        decision = model.decide("Capital of Italy?", ["Paris", "Rome", "Bern"])
        body = server.last.body
    assert (decision.protocol, decision.choice, decision.text) == ("decision", 1, "Rome")
    assert decision.probabilities == pytest.approx((0.2, 0.7, 0.1))
    assert decision.response is not None
    assert decision.response.cost > 0
    assert decision.response.usage == Usage(3, 1, 0, 0, 0)
    assert server.last.path == "/v1/decisions"
    assert body["questions"][0]["choices"][1] == {"value": "1", "description": "Rome"}
    assert body["input"] == [{"role": "user", "content": "Capital of Italy?", "type": "message"}]


def test_a_declined_decision_has_no_choice() -> None:
    with ProviderServer(lambda messages: Answer("", finish="refusal")) as server:
        decision = openai(server, "gpt-6-luna").decide("Which?", ["a", "b"])
    assert decision.choice is None
    assert all(math.isnan(p) for p in decision.probabilities)
    assert decision.response is not None
    assert decision.response.finish_reason == "refusal"


def test_a_decision_is_charged_and_tried_again(server: ProviderServer) -> None:
    server.fail("rate_limited", retry_after=0.01)
    with lab.ledger(budget=1) as spending:
        decision = openai(server, "gpt-6-luna", max_tokens=10).decide("Which?", ["a", "b"], protocol="decision")
    assert decision.response is not None
    assert len(decision.response.attempts) == 2
    assert math.isclose(spending.spent, decision.response.cost)


def test_an_address_without_decisions_is_asked_once(server: ProviderServer) -> None:
    server.fault = lambda received: Fault("not_found") if received.path.endswith("/decisions") else None
    model = openai(server, "gpt-6-luna")
    protocols = [model.decide("Which?", ["a", "b"]).protocol for _ in range(2)]
    assert protocols == ["letter", "letter"]
    assert [r.path for r in server.requests].count("/v1/decisions") == 1
