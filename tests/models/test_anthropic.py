"""What is sent to Anthropic and how its answers are read."""

from __future__ import annotations

from typing import Any

import pytest

import llmlab as lab
from llmlab.errors import RateLimited
from llmlab.models.anthropic import usage
from llmlab.models.base import Model
from llmlab.testing import Answer, ProviderServer
from llmlab.types import Usage


@pytest.fixture(autouse=True)
def known_keys(keys: dict[str, str]) -> None:
    pass


def anthropic(server: ProviderServer, name: str = "claude-haiku-5-5", **options: Any) -> Model:
    return lab.model(f"anthropic/{name}", base_url=server.url, **options)


def test_what_is_sent(server: ProviderServer) -> None:
    schema = {"type": "object"}
    model = anthropic(server, max_tokens=9, stop=["END", "\n\n"], effort="low", schema=schema, extra={"speed": "fast"})
    response = model.generate([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    assert server.last.path == "/v1/messages"
    assert server.last.headers["anthropic-version"] == "2026-10-21"
    assert server.last.body == {
        "model": "claude-haiku-5-5",
        "max_tokens": 9,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hello"}],
        "stop_sequences": ["END"],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        "speed": "fast",
    }
    assert response.dropped == ()


def test_white_space_that_may_not_be_sent_still_stops_the_answer() -> None:
    with ProviderServer("first\n\nsecond") as server:
        model = anthropic(server, stop=["\n\n"])
        assert model.generate("Hello").text == "first"
        assert "".join(c.text for c in model.stream("Hello")) == "first"
        assert "stop_sequences" not in server.last.body


def test_sampling_options_are_dropped_since_the_api_has_none(server: ProviderServer) -> None:
    response = anthropic(server, temperature=0.0, top_p=0.5, top_k=3, seed=1).generate("Hello")
    assert response.dropped == ("temperature", "top_p", "top_k", "seed")
    assert not {"temperature", "top_p", "top_k", "seed"} & set(server.last.body)


def test_an_older_version_of_the_api_takes_them(server: ProviderServer) -> None:
    model = anthropic(server, "claude-haiku-4-5", api_version="2023-06-01", temperature=0.0)
    assert model.generate("Hello").dropped == ()
    assert server.last.body["temperature"] == 0.0
    assert server.last.headers["anthropic-version"] == "2023-06-01"
    assert model.identity()["api_version"] == "2023-06-01"


def test_a_limit_is_always_sent_and_reported(server: ProviderServer) -> None:
    assert anthropic(server).generate("Hello").applied.max_tokens == 8192
    assert server.last.body["max_tokens"] == 8192
    assert anthropic(server).generate("Hello").requested.max_tokens is None


def test_without_a_limit_the_budget_counts_with_the_one_that_is_sent(server: ProviderServer) -> None:
    with lab.ledger(budget=1) as spending:
        anthropic(server).generate("Hello")
    assert 0 < spending.spent < 1e-3


def test_cached_tokens_are_added_to_the_input() -> None:
    said = Answer("four", reasoning="two and two", cached_tokens=2, cache_write_tokens=1)
    with ProviderServer(lambda messages: said) as server:
        whole = anthropic(server).generate("what is two and two")
        streamed = list(anthropic(server).stream("what is two and two"))[-1].response
    assert whole.usage == Usage(5, 4, 2, 1, 3)
    assert streamed is not None
    assert streamed.usage == whole.usage
    assert whole.reasoning == streamed.reasoning == "two and two"
    assert whole.text == streamed.text == "four"


def test_usage_as_the_api_documents_it() -> None:
    wire = {"input_tokens": 600, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 50, "output_tokens": 7}
    assert usage(wire) == Usage(1050, 7, 400, 50, None)
    assert usage({}) == Usage()


def test_an_overload_inside_a_stream_is_a_rate_limit(server: ProviderServer) -> None:
    import httpx2

    event = 'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=event)
    )
    model = anthropic(server, "claude-opus-5-5")
    model.tries = 1  # type: ignore[attr-defined]  # a RemoteModel
    model.client._client = httpx2.Client(transport=transport, base_url=server.url)  # type: ignore[attr-defined]
    with pytest.raises(RateLimited, match="overloaded_error: Overloaded"):
        list(model.stream("Hello"))


def test_thinking_models_decide_by_a_written_letter() -> None:
    with ProviderServer("B") as server:
        decision = anthropic(server).decide("Capital of Italy?", ["Paris", "Rome"])
    assert (decision.protocol, decision.choice) == ("letter", 1)
