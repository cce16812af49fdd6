"""Answers in a form: `response_format` as OpenAI's own client sends it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import openai
import pytest
from pydantic import BaseModel, Field

import llmlab as lab
from llmlab.serve.server import serve
from llmlab.testing import ProviderServer

pytest.importorskip("llguidance", reason="an extra")

ASK = [{"role": "user", "content": "Question: Who bought apples?\nAnswer:"}]


class Kind(Enum):
    red = "red"
    green = "green"


class Apple(BaseModel):
    kind: Kind
    ripe: bool


class Basket(BaseModel):
    """What was bought."""

    owner: str | None = Field(pattern="^[A-Z][a-z]{1,5}$")
    apples: list[Apple] = Field(min_length=1, max_length=2)


def form(schema):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


def test_parse_gives_objects(client):
    options = {"model": "micro/base", "messages": ASK, "response_format": Basket, "temperature": 1.0, "n": 3}
    for choice in client.chat.completions.parse(**options).choices:
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Basket)


def test_a_stream_gives_the_same_object(client):
    options = {"model": "micro/base", "messages": ASK, "response_format": Basket}
    whole = client.chat.completions.parse(**options).choices[0].message
    with client.chat.completions.stream(**options) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        assert stream.get_final_completion().choices[0].message.parsed == whole.parsed
    assert len(pieces) > 3
    assert "".join(pieces) == whole.content


def test_json_object_is_some_object(client):
    for seed in range(4):
        answer = client.chat.completions.create(
            model="small",
            messages=ASK,
            response_format={"type": "json_object"},
            temperature=1.0,
            seed=seed,
            max_tokens=600,
        )
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(answer.choices[0].message.content), dict)
        else:
            assert answer.choices[0].message.content.startswith("{")
            assert "before its JSON was whole" in answer.llmlab["notes"][0]


def test_other_requests_are_answered_as_ever(client):
    def free(_):
        return (
            client.chat.completions.create(model="micro/base", messages=ASK, max_tokens=30).choices[0].message.content
        )

    def held(_):
        return client.chat.completions.parse(model="micro/base", messages=ASK, response_format=Basket)

    expected = lab.model("micro/base").generate(ASK, max_tokens=30).text
    with ThreadPoolExecutor(8) as pool:
        answers, objects = pool.map(free, range(4)), pool.map(held, range(4))
        assert set(answers) == {expected}
        assert len({o.choices[0].message.content for o in objects}) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "wanted", "says"),
    [
        ("micro/base", form({"type": "strin"}), "Invalid type: strin"),
        ("micro/base", form({"type": "array", "uniqueItems": True}), 'Unimplemented keys: ["uniqueItems"]'),
        ("loud", form({"type": "object", "properties": 3}), "properties must be an object"),
        ("echo", form({}), "scripted/echo cannot be held to a schema"),
        ("micro/base", {"type": "json_schema"}, "json_schema goes with type 'json_schema'"),
        ("micro/base", {"type": "json_schema", "json_schema": {"name": "x", "schema": []}}, "valid dictionary"),
        ("micro/base", {"type": "grammar"}, "json_object"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(client, model, wanted, says, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=ASK, response_format=wanted, stream=stream)
    assert says in caught.value.body["message"]


@pytest.fixture
def cloud(keys):
    """Clients of a server whose models are the providers', and what these were asked."""
    with ProviderServer('{"owner": "Mira"}') as provider:
        models = {
            "openai": lab.model("openai/gpt-4o-mini", base_url=provider.openai_url),
            "google": lab.model("google/gemini-2.5-flash", base_url=provider.url),
            "anthropic": lab.model("anthropic/claude-haiku-4-5", base_url=provider.url),
        }
        with (
            serve(models, store="sqlite://") as running,
            openai.OpenAI(base_url=running.openai_url, api_key="none", max_retries=0) as client,
        ):
            yield client, provider


def config(body):
    return body["generationConfig"]


@pytest.mark.parametrize(
    ("model", "sent", "any_object"),
    [
        ("openai", lambda body: body["response_format"]["json_schema"]["schema"], True),
        ("google", lambda body: config(body)["responseJsonSchema"], True),
        ("anthropic", lambda body: body["output_config"]["format"]["schema"], False),
    ],
)
def test_providers_are_asked_for_the_form_in_their_own_words(cloud, model, sent, any_object):
    client, provider = cloud
    asked = {"model": model, "messages": ASK, "max_tokens": 99}
    schema = {"type": "object", "properties": {"owner": {"type": "string"}}, "required": ["owner"]}
    answer = client.chat.completions.create(**asked, response_format=form(schema))
    assert json.loads(answer.choices[0].message.content) == {"owner": "Mira"}
    assert sent(provider.last.body) == schema
    if any_object:
        answer = client.chat.completions.create(**asked, response_format={"type": "json_object"})
        assert json.loads(answer.choices[0].message.content) == {"owner": "Mira"}
    else:
        with pytest.raises(openai.BadRequestError, match=r"anthropic/.* needs more than json_object: give a schema"):
            client.chat.completions.create(**asked, response_format={"type": "json_object"})
