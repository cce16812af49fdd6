from __future__ import annotations

import functools
import json
import sys

import jsonschema
import pytest
import torch

import llmlab as lab
from llmlab.errors import BadRequest, MissingPackage
from llmlab.models.local.transformers import TransformersModel
from llmlab.testing.tiny import tiny_tokenizer
from llmlab.types import Message, Options, Request

pytest.importorskip("llguidance", reason="an extra")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b\n", "ü"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SCHEMAS = {
    "object": PERSON,
    "choice": {"enum": ["red", "green", {"mix": [1, 2]}]},
    "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}, {"const": 3}]},
    "reference": {
        "$defs": {"point": {"type": "array", "prefixItems": [{"enum": [0, 1]}, {"type": "boolean"}], "minItems": 2}},
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/point", "maxItems": 2}},
        "required": ["at"],
        "additionalProperties": False,
    },
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "date": {"type": "string", "format": "date"},
}


def asked(schema, repeat=0, text="The river", **options):
    return Request((Message("user", text),), Options(schema=schema, **options), template=False, repeat=repeat)


def follows(response, schema):
    jsonschema.validate(json.loads(response.text), schema, format_checker=jsonschema.FormatChecker())
    return response.finish_reason == "stop" and not response.notes


# packed attention, a window, a vocabulary wider than the tokenizer, no attention
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "mamba"])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_answers_of_random_models_follow_the_schema(lm, family, schema):
    requests = [asked(schema, i, max_tokens=220, temperature=t) for i, t in enumerate((0.0, 0.7, 1.0, 2.0))]
    for response in lm(family).generate_batch(requests):
        assert follows(response, schema), response.text
        assert "schema" not in response.dropped


@pytest.mark.parametrize("model", ["micro/small", "micro/base"])
def test_embedded_models_follow_the_schema_in_chat(model):
    lm = lab.model(model)
    responses = lm.generate_batch(
        [Request.of("Tell me about Mira.", schema=PERSON, temperature=1.0, seed=seed) for seed in range(8)]
    )
    assert all(follows(response, PERSON) for response in responses)
    assert len({response.text for response in responses}) > 1


def test_a_greedy_answer_takes_the_likeliest_token_that_is_allowed(lm):
    """By hand: of two letters the one with the higher logit, after each prompt."""
    loaded = lm().load()
    first, second = (loaded.tokenizer.encode(letter)[0] for letter in "17")
    found = set()
    for text in ("The river", "A. red", "Question: how", "bread", "mill", "1", "7"):
        ids = torch.tensor([loaded.tokenizer.encode(text)])
        with torch.inference_mode():
            logits = loaded.model(ids).logits[0, -1]
        expected = 1 if logits[first] > logits[second] else 7
        assert json.loads(lm().generate(asked({"enum": [1, 7]}, text=text)).text) == expected
        found.add(expected)
    assert found == {1, 7}


def test_logprobs_are_over_all_tokens(lm):
    response = lm().generate(asked({"const": True}, top_logprobs=1))
    assert response.text == "true"
    assert all(token.logprob < 0 for token in response.logprobs)
    assert any(token.top[0][0] != token.token for token in response.logprobs)


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_free_rows_of_a_batch_are_as_they_are_alone(lm, family):
    free = [asked(None, i, text, max_tokens=30, temperature=t) for i, (text, t) in enumerate([("A", 0), ("The", 1)])]
    held = [asked(PERSON, i, text, max_tokens=220, temperature=t) for i, (text, t) in enumerate([("A", 0), ("So", 1)])]
    ask = lm(family)
    alone = [ask.generate(request) for request in (*free, *held)]
    mixed = [free[0], held[0], free[1], held[1]]
    together = ask.generate_batch(mixed)
    assert [r.text for r in together] == [alone[i].text for i in (0, 2, 1, 3)]
    assert [r.usage for r in together] == [alone[i].usage for i in (0, 2, 1, 3)]


def test_a_stream_is_the_same_answer(lm):
    request = asked(PERSON, max_tokens=220, temperature=1.0)
    *chunks, last = lm().stream(request)
    assert "".join(chunk.text for chunk in (*chunks, last)) == last.response.text == lm().generate(request).text
    assert len(chunks) > 5


def test_interceptors_pass_a_schema_on(lm):
    def plain(request, call):
        return call(request)

    assert follows(lm().through(plain).generate(asked(PERSON, max_tokens=220)), PERSON)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strin"}, "Invalid type: strin"),
        ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum (3)"),
        ({"type": "object", "properties": 3}, "properties must be an object"),
        ({"$ref": "http://example.org/x"}, "fetch"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"const": {1, 2}}, "not JSON serializable"),
        ({"$defs": {"n": {"$ref": "#/$defs/n"}}, "$ref": "#/$defs/n"}, "no token can go on"),
        (functools.reduce(lambda inner, _: {"anyOf": [inner]}, range(2000), {}), "recursion"),
    ],
)
def test_a_schema_that_cannot_be_followed_says_why(lm, schema, says):
    good, bad = lm().generate_batch([asked({"enum": [1]}), asked(schema)])
    assert good.text == "1"
    assert isinstance(bad, BadRequest)
    assert says in str(bad)
    with pytest.raises(BadRequest, match="schema"):
        list(lm().stream(asked(schema)))


def test_an_answer_that_is_cut_says_so(lm):
    response = lm().generate(asked({"type": "string", "minLength": 30}, max_tokens=5))
    assert response.finish_reason == "length"
    assert any("before its JSON was whole" in note for note in response.notes)
    whole = lm().generate(asked({"type": "integer", "minimum": 100}, max_tokens=3))
    assert whole.notes == ()


def test_a_schema_holds_after_the_thinking(lm):
    from llmlab.models.local.structured import Form

    engine = lm().engine
    form = Form({"enum": ["yes"]}, engine.vocabulary, engine.tokens, thinking=True)
    logits = torch.zeros(400)
    for token in engine.tokens.encode('two and "one"</thin'):
        assert torch.equal(form.allowed(logits), logits)
        assert not form.take(token)
    assert not form.whole
    for token in engine.tokens.encode("k>"):
        form.take(token)
    written = ""
    while not form.whole:
        token = int(form.allowed(logits).argmax())
        written += engine.tokens.raw([token])
        form.take(token)
    assert written == '"yes"'
    form.restart()
    assert torch.equal(form.allowed(logits), logits)


def test_a_model_that_never_stops_thinking_answers_nothing(folder, tmp_path):
    from shutil import copytree

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>{% endif %}"
    path = copytree(folder("llama"), tmp_path / "thinker")
    tokenizer.save_pretrained(path)
    thinker = TransformersModel(f"hf/{path}", device="cpu", threads=1)
    response = thinker.generate("How many?", schema=PERSON, max_tokens=20)
    assert (response.text, bool(response.reasoning)) == ("", True)
    assert any("thinking block" in note for note in response.notes)


def test_without_the_package_it_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    fresh = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1)
    with pytest.raises(MissingPackage, match=r"pip install 'llmlab\[local\]'"):
        fresh.generate("x", schema=PERSON)
    assert fresh.generate("x", max_tokens=2).usage.output_tokens == 2
