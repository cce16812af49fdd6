import math

import pytest

from llmlab.errors import BadRequest, UnknownName
from llmlab.types import Message, Options, Request, Response, Sample, Usage, digest


def test_options_of_the_caller_win() -> None:
    merged = Options(temperature=0.5, max_tokens=10).merged(Options(max_tokens=20))
    assert merged == Options(temperature=0.5, max_tokens=20)


def test_a_single_stop_string_is_one_stop_string() -> None:
    assert Options(stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert Options(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_request_is_made_of_text_messages_or_dicts() -> None:
    expected = (Message("user", "hi"),)
    assert Request.of("hi").messages == expected
    assert Request.of([{"role": "user", "content": "hi"}]).messages == expected
    assert Request.of(Request(expected), temperature=0.0).options.temperature == 0.0


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (5, r"a prompt is text, a list of messages .* or a Request; got int 5"),
        (None, "got NoneType None"),
        ({"role": "user", "content": "hi"}, "got dict"),
        (["hi"], "its item 0 is str 'hi'"),
        ([Message("user", "a"), {"role": "user"}], r"message 1 is dict \{'role': 'user'\}"),
        ([{"role": "user", "content": None}], r"a content \(text\)"),
        ([{"role": "tool", "content": "x"}], r"a role \(system, user, assistant\)"),
        ([{"role": "user", "content": "x", "name": "y" * 99}], "nothing else; .*…$"),
    ],
)
def test_what_is_no_prompt_is_refused_with_what_is(prompt, message) -> None:
    with pytest.raises(BadRequest, match=message):
        Request.of(prompt)


@pytest.mark.parametrize("stop", [5, ["a", 5], {"a": 1}])
def test_stops_that_are_no_text_are_refused(stop: object) -> None:
    with pytest.raises(BadRequest, match="stop is a text or a list of texts; got"):
        Options.of(stop=stop)


def test_unknown_options_are_refused_with_the_closest_ones() -> None:
    for make in (Options.of, Request.of("q").with_options, lambda **options: Request.of("q", **options)):
        with pytest.raises(UnknownName, match=r"No generation option 'max_token'\. Did you mean 'max_tokens'"):
            make(max_token=7)


def test_system_prompts_are_joined_outermost_first() -> None:
    request = Request.of("q").with_system("inner").with_system("outer")
    assert request.messages == (Message("system", "outer\n\ninner"), Message("user", "q"))


def test_revise_ends_with_the_user() -> None:
    request = Request.of("q").revise("a", "shorter, please")
    assert [m.role for m in request.messages] == ["user", "assistant", "user"]
    assert request.prompt == "shorter, please"


def test_prompt_hash_changes_with_what_the_model_reads() -> None:
    base = Request.of("q")
    assert base.prompt_hash == Request.of("q").prompt_hash
    assert base.prompt_hash != base.with_system("s").prompt_hash
    assert base.prompt_hash == base.with_options(temperature=1.0).prompt_hash


def test_digest_is_the_same_in_every_process() -> None:
    assert digest("a", {"b": 1, "a": [None, 2.5]}) == "2f158502823e39fd"


@pytest.mark.parametrize("rows", [[], [["Käse", 1]], [{"b": 1, "a": 2}, None, ["x"]]])
def test_digest_of_an_iterator_is_that_of_its_list(rows: list[object]) -> None:
    assert digest("s", iter(rows), 1) == digest("s", rows, 1)
    assert digest(iter(rows)) == digest(rows)


def test_unknown_usage_stays_unknown_in_a_sum() -> None:
    total = Usage(3, 4) + Usage(1, None, cached_tokens=1)
    assert total == Usage(4, 4, 1, None, None)


def test_sample_gets_an_id_from_its_content() -> None:
    assert Sample("q", target="a").id == Sample("q", target="a").id
    assert Sample("q", target="a").id != Sample("q", target="b").id
    assert Sample("q", id="mine").id == "mine"


def test_unpriced_response_says_so() -> None:
    shown = Response("Hello", cost=math.nan, usage=Usage(3, None), model="m/x")._repr_markdown_()
    assert "unpriced" in shown and "3 + ? tokens" in shown


@pytest.mark.parametrize(("name", "guess"), [("gsm9k", "Did you mean 'gsm8k'?"), ("zzz", "Known: gsm8k, mmlu")])
def test_unknown_name_guesses_or_lists(name: str, guess: str) -> None:
    assert guess in str(UnknownName.among("benchmark", name, ["mmlu", "gsm8k"]))
