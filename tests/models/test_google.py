"""What is sent to Google and how its answers are read, by the current package and by the one that has ended."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

import llmlab as lab
from llmlab.errors import MissingPackage, Unauthorized
from llmlab.models import faults, google
from llmlab.models.base import Model
from llmlab.testing import Answer, ProviderServer
from llmlab.types import TokenLogprob, Usage


@pytest.fixture(autouse=True)
def known_keys(keys: dict[str, str]) -> None:
    pass


def gemini(server: ProviderServer, name: str = "google/gemini-2.5-flash", **options: Any) -> Model:
    if name.startswith("google-legacy/"):
        pytest.importorskip("google.generativeai", reason="an extra")
    return lab.model(name, base_url=server.url, **options)


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "More"},
]
TURNS = [
    {"role": "user", "parts": [{"text": "Hello"}]},
    {"role": "model", "parts": [{"text": "Hi"}]},
    {"role": "user", "parts": [{"text": "More"}]},
]


def test_what_is_sent(server: ProviderServer, keys: dict[str, str]) -> None:
    options: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "top_k": 4, "seed": 7, "max_tokens": 9}
    schema = {"type": "object"}
    gemini(server, **options, stop=["END"], effort="low", top_logprobs=2, schema=schema).generate(TALK)
    assert server.last.path.endswith("/models/gemini-2.5-flash:generateContent")
    assert server.last.headers["x-goog-api-key"] == keys["GEMINI_API_KEY"]
    assert server.last.body["contents"] == TURNS
    assert server.last.body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert server.last.body["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 4,
        "seed": 7,
        "maxOutputTokens": 9,
        "stopSequences": ["END"],
        "thinkingConfig": {"thinking_level": "LOW"},
        "responseLogprobs": True,
        "logprobs": 2,
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }


def test_what_the_legacy_package_sends(server: ProviderServer, keys: dict[str, str]) -> None:
    model = gemini(server, "google-legacy/gemini-1.5-flash", temperature=0.5, max_tokens=9, stop=["END"], seed=3)
    response = model.generate(TALK)
    assert server.last.headers["x-goog-api-key"] == keys["GEMINI_API_KEY"]
    assert server.last.body["contents"] == [{"parts": t["parts"], "role": t["role"]} for t in TURNS]
    assert server.last.body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert server.last.body["generationConfig"] == {
        "temperature": 0.5,
        "maxOutputTokens": 9,
        "stopSequences": ["END"],
    }
    assert response.dropped == ("seed",)


def test_two_legacy_models_keep_their_own_addresses() -> None:
    with ProviderServer("first") as one, ProviderServer("second") as two:
        first, second = (gemini(s, "google-legacy/gemini-1.5-flash") for s in (one, two))
        assert [first.generate("x").text, second.generate("x").text, first.generate("x").text] == [
            "first",
            "second",
            "first",
        ]


@pytest.mark.parametrize("name", ["google/gemini-2.5-flash", "google-legacy/gemini-1.5-flash"])
def test_thoughts_are_added_to_the_output(name: str) -> None:
    said = Answer("four", reasoning="two and two", cached_tokens=2)
    with ProviderServer(lambda messages: said) as server:
        model = gemini(server, name)
        whole, streamed = model.generate("what is two and two"), list(model.stream("what is two and two"))[-1].response
    assert streamed is not None
    assert streamed.usage == whole.usage
    # the legacy package has no count of them, and does not mark their text
    legacy = name.startswith("google-legacy/")
    assert whole.usage == Usage(5, 4, 2, None, None if legacy else 3)
    if not legacy:
        assert whole.text == streamed.text == "four"
        assert whole.reasoning == streamed.reasoning == "two and two"


def test_usage_as_the_api_documents_it() -> None:
    wire = {"promptTokenCount": 100, "candidatesTokenCount": 200, "thoughtsTokenCount": 150, "totalTokenCount": 450}
    assert google.usage(wire) == Usage(100, 350, None, None, 150)
    assert google.usage(None) == Usage()


@pytest.mark.parametrize("name", ["google/gemini-2.5-flash", "google-legacy/gemini-1.5-flash"])
def test_a_blocked_prompt_is_a_refusal_without_words(server: ProviderServer, name: str) -> None:
    server.fail("blocked")
    response = gemini(server, name).generate("Hello")
    assert (response.text, response.finish_reason) == ("", "refusal")
    assert response.notes == ("the prompt was blocked: SAFETY",)


def test_log_probabilities_come_with_their_alternatives() -> None:
    said = Answer("B", top={"B": 0.5, "A": 0.25})
    with ProviderServer(lambda messages: said) as server:
        response = gemini(server, top_logprobs=2).generate("Hello")
    half, quarter = math.log(0.5), math.log(0.25)
    assert response.logprobs == (TokenLogprob("B", half, (("B", half), ("A", quarter))),)


def test_a_typed_decision() -> None:
    with ProviderServer(lambda messages: Answer("", probabilities=[0.2, 0.8])) as server:
        decision = gemini(server, "google/decisions-prerelease").decide("Capital of Italy?", ["Paris", "Rome"])
    assert (decision.protocol, decision.choice) == ("decision", 1)
    assert decision.probabilities == pytest.approx((0.2, 0.8))
    assert server.last.body["questions"]["choice"]["criteria"] == {"0": "Paris", "1": "Rome"}
    assert decision.response is not None
    assert decision.response.usage.input_tokens == 3


def test_a_decision_about_a_blocked_prompt_has_no_choice(server: ProviderServer) -> None:
    server.fail("blocked")
    decision = gemini(server, "google/decisions-prerelease").decide("Which?", ["a", "b"])
    assert decision.choice is None
    assert decision.response is not None
    assert decision.response.finish_reason == "refusal"


def test_a_failed_decision_is_tried_again_by_us_alone(server: ProviderServer) -> None:
    server.fail("server_error")
    decision = gemini(server, "google/decisions-prerelease").decide("Which?", ["a", "b"])
    assert decision.response is not None
    assert [bool(a.error) for a in decision.response.attempts] == [True, False]
    assert len(server.requests) == 2


def test_a_wrong_key_is_told_from_a_bad_request() -> None:
    words = "API key not valid. Please pass a valid API key."
    assert isinstance(faults.failure("google/x", 400, words), Unauthorized)


def test_the_wait_that_the_details_ask_for(server: ProviderServer) -> None:
    assert google._retry_delay({"details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "21.5s"}]}) == 21.5
    assert google._retry_delay({"details": [{"@type": "x/google.rpc.Help"}]}) is None


@pytest.mark.parametrize("name", ["google/gemini-2.5-flash", "google-legacy/gemini-1.5-flash"])
def test_the_other_name_of_the_key_is_taken_too(
    server: ProviderServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    gemini(server, name).generate("Hello")
    assert server.last.headers["x-goog-api-key"] == "another"


def test_without_the_legacy_package_the_way_out_is_named(
    server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.generativeai", None)
    with pytest.raises(MissingPackage, match=r"llmlab\[google-legacy\]"):
        lab.model("google-legacy/gemini-1.5-flash", base_url=server.url)


def test_an_effort_that_does_not_exist_is_not_sent(server: ProviderServer) -> None:
    gemini(server, extra={"candidate_count": 1}).generate("Hello")
    assert server.last.body["generationConfig"] == {"candidateCount": 1}
