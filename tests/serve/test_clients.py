"""What OpenAI's own client and curl get."""

from __future__ import annotations

import json
import shutil
import subprocess

import openai
import pytest

import llmlab as lab

PROMPT = "Question: Where does Mira live?\nAnswer:"
ASK = [{"role": "user", "content": PROMPT}]


def test_a_chat_answers_as_the_model_does_in_process(client):
    answer = client.chat.completions.create(model="micro/base", messages=ASK, max_tokens=12)
    own = lab.model("micro/base").generate(ASK, max_tokens=12)
    assert answer.choices[0].message.content == own.text
    assert answer.choices[0].finish_reason == own.finish_reason
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        own.usage.input_tokens,
        own.usage.output_tokens,
    )
    assert answer.system_fingerprint == own.model_version
    assert answer.llmlab["cost"] > 0


def test_a_stream_is_the_same_answer_in_pieces_with_usage_at_the_end(client):
    whole = client.chat.completions.create(model="micro/base", messages=ASK, max_tokens=12)
    pieces = list(
        client.chat.completions.create(
            model="micro/base", messages=ASK, max_tokens=12, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
    assert text == whole.choices[0].message.content
    assert len(pieces) > 4
    assert pieces[0].choices[0].delta.role == "assistant"
    assert [p.choices[0].finish_reason for p in pieces[:-1]][-1] == whole.choices[0].finish_reason
    assert pieces[-1].choices == [] and pieces[-1].usage == whole.usage
    assert len({p.id for p in pieces}) == 1


def test_choices_of_a_stream_keep_apart(client):
    options = {"model": "micro/base", "messages": ASK, "max_tokens": 10, "temperature": 1.5, "seed": 3, "n": 3}
    whole = client.chat.completions.create(**options)
    texts = ["", "", ""]
    for piece in client.chat.completions.create(**options, stream=True):
        texts[piece.choices[0].index] += piece.choices[0].delta.content or ""
    assert texts == [c.message.content for c in whole.choices]
    assert len(set(texts)) > 1
    one = client.chat.completions.create(**options | {"n": 1})
    assert whole.usage.prompt_tokens == one.usage.prompt_tokens
    assert whole.usage.completion_tokens > one.usage.completion_tokens


def test_seeds_repeat_an_answer_and_stops_end_it(client):
    def ask(**options):
        return client.completions.create(model="micro/base", prompt=PROMPT, max_tokens=12, **options).choices[0]

    assert ask(temperature=1.0, seed=1).text == ask(temperature=1.0, seed=1).text
    assert len({ask(temperature=1.5, seed=seed).text for seed in range(4)}) > 1
    whole = ask().text
    assert ask(stop=[whole[4:7], "zzz"]).text == whole[:4]


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_come_with_the_tokens(client, stream):
    options = {"model": "micro/base", "messages": ASK, "max_tokens": 6, "logprobs": True, "top_logprobs": 3}
    own = lab.model("micro/base").generate(ASK, max_tokens=6, top_logprobs=3).logprobs
    if stream:
        pieces = client.chat.completions.create(**options, stream=True)
        content = [token for p in pieces for token in p.choices[0].logprobs.content]
    else:
        content = client.chat.completions.create(**options).choices[0].logprobs.content
    assert [t.token for t in content] == [t.token for t in own]
    assert [t.logprob for t in content] == pytest.approx([t.logprob for t in own], abs=1e-4)
    assert [len(t.top_logprobs) for t in content] == [3] * len(own)
    assert bytes(content[0].bytes).decode() == content[0].token


def test_completions_stream_with_their_log_probabilities(client):
    options = {"model": "micro/base", "prompt": PROMPT, "max_tokens": 8, "logprobs": 2}
    whole = client.completions.create(**options).choices[0]
    pieces = [p.choices[0] for p in client.completions.create(**options, stream=True)]
    assert "".join(p.text for p in pieces) == whole.text
    assert [t for p in pieces for t in p.logprobs.tokens] == whole.logprobs.tokens
    assert [o for p in pieces for o in p.logprobs.text_offset] == whole.logprobs.text_offset


def test_several_prompts_are_answered_in_order(client):
    prompts = [PROMPT, "The river"]
    both = client.completions.create(model="micro/base", prompt=prompts, max_tokens=5)
    each = [client.completions.create(model="micro/base", prompt=p, max_tokens=5) for p in prompts]
    assert [c.text for c in both.choices] == [one.choices[0].text for one in each]
    assert both.usage.total_tokens == sum(one.usage.total_tokens for one in each)


def test_each_name_is_its_own_model(client):
    assert [m.id for m in client.models.list()] == ["micro/base", "small", "loud", "echo", "broken"]
    assert client.models.retrieve("micro/base").owned_by == "micro"
    texts = {
        name: client.chat.completions.create(model=name, messages=ASK, max_tokens=8).choices[0].message.content
        for name in ("micro/base", "small", "loud", "echo")
    }
    assert texts["loud"] == texts["micro/base"].upper()
    assert texts["echo"] == " ".join(PROMPT.split(" ")[:8])
    assert texts["small"] == lab.model("micro/small").generate(ASK, max_tokens=8).text


def test_notes_of_a_wrapper_reach_the_client(client):
    answer = client.chat.completions.create(model="loud", messages=ASK, max_tokens=4)
    assert "made louder" in answer.llmlab["notes"]


def test_parts_of_text_and_developers_are_understood(client):
    parts = [{"type": "text", "text": "Say"}, {"type": "text", "text": " this"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert client.chat.completions.create(model="echo", messages=messages).choices[0].message.content == "Say this"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty is not supported"),
        ({"logit_bias": {"5": 100}}, "logit_bias is not supported"),
        ({"extra_body": {"grammar": "x"}}, "grammar: this server does not know this field"),
        ({"temperature": 3}, "temperature: Input should be less than or equal to 2; got 3"),
        ({"max_tokens": "9"}, 'max_tokens: Input should be a valid integer; got "9"'),
        ({"top_logprobs": 2}, "top_logprobs is for logprobs=true"),
        ({"stream_options": {"include_usage": True}}, "stream_options is for stream=true"),
        ({"max_tokens": 2000}, "2000 of the answer (max_tokens) do not fit into the context of micro/base, 1024"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "say different things"),
        ({"n": 17}, "n: Input should be less than or equal to 16"),
        ({"stop": ["a", ""]}, "stop: should be a text, or a list of at most 16, none of them empty"),
    ],
)
def test_what_is_not_supported_is_said(client, options, says):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="micro/base", messages=ASK, **options)
    assert says in caught.value.body["message"]
    assert caught.value.body["type"] == "invalid_request_error"


def test_fields_that_change_nothing_are_taken(client):
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [], "store": False}
    plain = client.chat.completions.create(model="echo", messages=ASK)
    found = client.chat.completions.create(
        model="echo", messages=ASK, n=1, response_format={"type": "text"}, service_tier="auto", **neutral
    )
    assert found.choices == plain.choices


def test_images_and_tool_turns_are_refused(client):
    image = [{"type": "image_url", "image_url": {"url": "data:"}}]
    with pytest.raises(openai.BadRequestError, match=r"messages\.0\.content: .*images.*not supported.*'image_url'"):
        client.chat.completions.create(model="echo", messages=[{"role": "user", "content": image}])
    with pytest.raises(openai.BadRequestError, match=r"messages\.0\.role: .*; got .*tool"):
        client.chat.completions.create(model="echo", messages=[{"role": "tool", "content": "x", "tool_call_id": "y"}])


@pytest.mark.parametrize("prompt", [[], ["a", 1], [-1], [[]], None])
def test_a_prompt_of_no_known_form_is_told_all_that_there_are(client, prompt):
    with pytest.raises(
        openai.BadRequestError, match=r"prompt: should be a text, a list of token ids, or a list of 1 to"
    ):
        client.completions.create(model="echo", prompt=prompt)


def test_an_unknown_model_is_named_with_the_known_ones(client):
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-9' here; there are: micro/base, small") as caught:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert caught.value.code == "model_not_found"


def test_a_model_that_fails_is_a_server_error_that_tells_no_secrets(client, caplog):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="broken", messages=ASK)
    assert "division" not in str(caught.value)
    assert "ZeroDivisionError" in caplog.text


def test_log_probabilities_of_a_wrapper_are_refused_as_they_could_tell_what_it_took_out(client):
    with pytest.raises(openai.BadRequestError, match="wraps other models"):
        client.chat.completions.create(model="loud", messages=ASK, logprobs=True)
    with pytest.raises(openai.BadRequestError, match="needs a model whose weights run in this server"):
        client.completions.create(model="loud", prompt="x", echo=True)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_answers_and_reasons(server):
    def curl(body, *options):
        done = subprocess.run(
            ["curl", "-sS", f"{server.openai_url}/chat/completions", "-d", body, *options],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return json.loads(done.stdout)

    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "Grüß Gott"}]})
    as_json = ("-H", "content-type: application/json")
    assert curl(body, *as_json)["choices"][0]["message"]["content"] == "Grüß Gott"
    assert "content-type: application/json" in curl(body)["error"]["message"]
    assert "not JSON" in curl('{"model": ', *as_json)["error"]["message"]
