from __future__ import annotations

import pytest

from llmlab.errors import BadRequest
from llmlab.models.local.tokens import Tokens
from llmlab.testing.tiny import tiny_tokenizer
from llmlab.types import Message, Request


@pytest.fixture
def tokens():
    return Tokens(tiny_tokenizer())


def with_bos(tokenizer):
    from tokenizers.processors import TemplateProcessing

    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    return tokenizer


def test_a_pair_is_split_after_the_tokens_of_the_context(tokens):
    (pair,) = tokens.pairs("Question: how many?\nAnswer:", [" two apples"])
    whole = tokens.encode("Question: how many?\nAnswer: two apples")
    assert pair.context == tuple(tokens.encode("Question: how many?\nAnswer:"))
    assert pair.context + pair.continuation == tuple(whole)
    assert pair.input == tuple(whole[:-1])


@pytest.mark.parametrize("space", [" ", "  ", "\n", " \n "])
def test_trailing_white_space_moves_to_the_continuation(tokens, space):
    assert tokens.pairs("The river" + space, ["runs"]) == tokens.pairs("The river", [space + "runs"])


def test_an_empty_context_is_one_bos(tokens):
    (pair,) = tokens.pairs("", ["The river"])
    assert pair.context == (0,)
    assert pair.continuation == tuple(tokens.encode("The river"))


def test_an_empty_context_does_not_double_a_bos_in_the_continuation(tokens):
    (pair,) = tokens.pairs("", ["<|endoftext|>The"])
    assert (pair.context, pair.continuation) == ((0,), tuple(tokens.encode("The")))


def test_without_bos_an_empty_context_is_eos():
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    (pair,) = Tokens(tokenizer).pairs("", ["The"])
    assert pair.context == (2,)


def test_a_continuation_that_merges_with_the_context_is_what_follows_their_common_beginning(tokens):
    # "app" alone takes more tokens than "apples" whole
    context, continuation = "three appl", "es"
    (pair,) = tokens.pairs(context, [continuation])
    whole = tokens.encode(context + continuation)
    assert len(whole) <= len(tokens.encode(context))
    assert pair.context + pair.continuation == tuple(whole)
    assert pair.continuation


def test_an_empty_continuation_is_refused(tokens):
    with pytest.raises(BadRequest, match=r"continuation 1 .* is empty"):
        tokens.pairs("The river", [" runs", ""])


def test_bos_is_added_where_the_tokenizer_does_and_never_twice():
    tokens = Tokens(with_bos(tiny_tokenizer()))
    assert tokens.encode("The")[0] == 0
    assert tokens.encode("<|endoftext|>The") == tokens.encode("The")
    (pair,) = tokens.pairs("The river", [" runs"])
    assert pair.context.count(0) == 1
    chat = tokens.prompt(Request.of("hi"))
    assert 0 not in chat  # the template writes BOS itself or means none


def test_a_prompt_takes_the_chat_template_unless_told_otherwise(tokens):
    request = Request.of("hi")
    chat = tokens.encode("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert tokens.prompt(request) == chat
    assert tokens.prompt(Request(request.messages, template=True)) == chat
    assert tokens.prompt(Request(request.messages, template=False)) == tokens.encode("hi")


def test_without_a_template_text_is_plain_and_asking_for_one_is_an_error():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokens = Tokens(tokenizer)
    assert tokens.prompt(Request.of("hi")) == tokens.encode("hi")
    with pytest.raises(BadRequest, match="no chat template"):
        tokens.prompt(Request((Message("user", "hi"),), template=True))
    talk = Request(
        (Message("system", "Be kind."), Message("user", "hi"), Message("assistant", "hello"), Message("user", "?"))
    )
    assert tokens.prompt(talk) == tokens.encode("Be kind.\n\nUser: hi\n\nAssistant: hello\n\nUser: ?\n\nAssistant:")


@pytest.mark.parametrize(
    "guard",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
        "{% if messages[0].role == 'system' %}{% set messages = messages[1:] %}{% endif %}",
    ],
    ids=["raises", "ignores"],
)
def test_a_system_message_the_template_does_not_know_joins_the_first_user_turn(guard):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = guard + tokenizer.chat_template
    text = Tokens(tokenizer).chat([Message("system", "Be kind."), Message("user", "hi")])
    assert text == "<|im_start|>user\nBe kind.\n\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_refuses_is_reported(tokens):
    tokens.tokenizer.chat_template = "{{ raise_exception('turns must alternate') }}"
    with pytest.raises(BadRequest, match="turns must alternate"):
        tokens.prompt(Request.of("hi"))


def test_a_template_that_is_broken_is_told_from_one_that_refuses(tokens):
    tokens.tokenizer.chat_template = "{% for m in messages %}\n{{ m.content }"
    for role in ("user", "system"):
        with pytest.raises(BadRequest, match=r"template is broken: unexpected '}' \(line 2\).*template=False"):
            tokens.prompt(Request((Message(role, "hi"),)))


def test_a_last_assistant_turn_is_continued(tokens):
    text = tokens.chat([Message("user", "Which?"), Message("assistant", "The best answer is")])
    assert text.endswith("<|im_start|>assistant\nThe best answer is")


def test_special_tokens_are_no_part_of_an_answer_but_can_stop_one(tokens):
    ids = tokens.encode("two<|im_end|>")
    assert tokens.answer(ids) == "two"
    assert tokens.raw(ids) == "two<|im_end|>"


def test_a_merged_system_message_is_told(tokens):
    request = Request((Message("system", "Be kind."), Message("user", "hi")))
    assert not tokens.read(request).folded
    tokens.tokenizer.chat_template = (
        "{% set messages = messages[1:] if messages[0].role == 'system' else messages %}"
        + (tokens.tokenizer.chat_template)
    )
    assert tokens.read(request).folded
    assert not tokens.read(Request.of("hi")).folded


def test_a_template_that_begins_to_think_is_noticed(tokens):
    assert not tokens.read(Request.of("hi")).opened
    tokens.tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    assert tokens.read(Request.of("hi")).opened
    tokens.tokenizer.chat_template += "{% if add_generation_prompt %}\n</think>\n\n{% endif %}"
    assert not tokens.read(Request.of("hi")).opened
