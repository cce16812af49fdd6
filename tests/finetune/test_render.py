"""What is trained on, token by token."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from llmlab.errors import DataError
from llmlab.finetune.base import tokenizer_of
from llmlab.finetune.data import dataset
from llmlab.finetune.formats import Example
from llmlab.finetune.preview import token_texts
from llmlab.finetune.render import Rendered, Renderer
from llmlab.models.local.tokens import Tokens
from llmlab.settings import shipped
from llmlab.testing.tiny import CHATML, tiny_tokenizer
from llmlab.types import Message, Request

TURNS = [
    ("system", "Be kind."),
    ("user", "Hi, naïve 日本!"),
    ("assistant", "Hello."),
    ("user", "Bye"),
    ("assistant", "See you.\nSoon."),
]
MESSAGES = tuple(Message(role, text) for role, text in TURNS)  # type: ignore[arg-type]
TALK = Example(answer=MESSAGES)
# a template that drops what was said before the last question, as some reasoning models' do
FORGETFUL = (
    "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@functools.cache
def chatml() -> Renderer:
    return Renderer(tiny_tokenizer())


def changed(template: str | None) -> Renderer:
    tokenizer: Any = tiny_tokenizer()
    tokenizer.chat_template = template
    return Renderer(tokenizer)


def trained_text(render: Renderer, made: Rendered) -> str:
    return str(render.tokenizer.decode([i for i, t in zip(made.ids, made.trained, strict=True) if t]))


def test_only_answers_and_their_end_tokens_are_trained_on() -> None:
    made = chatml()(TALK)
    assert trained_text(chatml(), made) == "Hello.<|im_end|>See you.\nSoon.<|im_end|>"
    assert chatml().tokenizer.decode(made.ids) == chatml().tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in TURNS], tokenize=False
    )
    assert made.labels == [i if t else -100 for i, t in zip(made.ids, made.trained, strict=True)]


def test_turns_of_the_context_are_not_trained_on() -> None:
    made = chatml()(Example(MESSAGES[:3], MESSAGES[3:]))
    assert trained_text(chatml(), made) == "See you.\nSoon.<|im_end|>"


def test_marks_of_the_template_give_the_same_tokens() -> None:
    tokenizer: Any = tokenizer_of("micro/small")
    for row in list(dataset(shipped("data/finetune/forms_train.jsonl")))[:5]:
        made = Renderer(tokenizer)(row)
        marked = tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in row.answer],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        assert list(made.ids) == marked["input_ids"]
        assert [int(t) for t in made.trained] == marked["assistant_masks"]


def test_prompt_is_what_the_model_reads_when_it_answers() -> None:
    for render in (chatml(), changed(None)):
        prompt = render.prompt((Message("user", "Hi"),))
        assert list(prompt) == Tokens(render.tokenizer).prompt(Request.of("Hi"))
        made = render(Example((Message("user", "Hi"),), (Message("assistant", " there"),)))
        assert made.ids[: len(prompt)] == prompt and not any(made.trained[: len(prompt)])
        assert all(made.trained[len(prompt) : -1])


def test_without_a_template_the_answer_follows_the_prompt_and_ends() -> None:
    render = changed(None)
    made = render(Example((Message("user", "2 + 2 ="),), (Message("assistant", " 4"),)))
    assert render.tokenizer.decode(made.ids) == "2 + 2 = 4<|im_end|>"
    assert trained_text(render, made) == " 4<|im_end|>"


def test_without_a_template_a_conversation_is_refused() -> None:
    with pytest.raises(DataError, match=r"talk:3: this model's tokenizer has no chat template.*this one has 4 turns"):
        changed(None)(Example(answer=MESSAGES, where="talk:3"))


def test_plain_text_is_trained_on_whole_and_ends() -> None:
    made = chatml()(Example(text="Once upon a time"))
    assert all(made.trained) and chatml().tokenizer.decode(made.ids) == "Once upon a time<|im_end|>"


def test_template_that_forgets_is_read_by_its_marks_or_refused() -> None:
    two = tuple(Message(role, "x") for role in ("user", "assistant", "user", "assistant"))  # type: ignore[arg-type]
    made = changed(FORGETFUL)(Example(answer=two))
    assert any(made.trained)
    without = FORGETFUL.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(DataError, match="renders earlier turns differently"):
        changed(without)(Example(answer=two))


def test_template_that_refuses_says_why() -> None:
    render = changed("{{ raise_exception('no system prompts') }}" + CHATML)
    with pytest.raises(DataError, match=r"row 7: the chat template does not take this conversation: no system prompts"):
        render(Example(answer=MESSAGES, where="row 7"))


def test_token_texts_add_up_even_within_characters() -> None:
    ids = chatml().tokenizer("naïve 日本 zwölf")["input_ids"]
    texts = token_texts(chatml(), ids)
    assert len(texts) == len(ids) and "".join(texts) == "naïve 日本 zwölf"


def test_preview_marks_what_is_trained_on_and_what_is_cut() -> None:
    data = dataset([{"prompt": "What <b>?", "completion": "Nothing at all."}])
    shown = data.preview("micro/small")
    assert "«Nothing at all.<|end|>»" in repr(shown)
    html = shown._repr_html_()
    assert "&lt;" in html and "<b>" not in html and "<b<" not in html
    assert "[cut off: " in repr(data.preview("micro/small", length=8))
    assert "«assistant: Nothing at all." in repr(data.preview())


def test_preview_shows_both_sides_of_a_preference() -> None:
    data = dataset([{"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."}])
    assert "«Hello.<|end|>»" in repr(data.preview("micro/small")) and "«Go.<|end|>»" in repr(
        data.preview("micro/small")
    )


def test_lengths_count_what_a_limit_costs() -> None:
    rows = [
        {"prompt": "Hi", "completion": "Yes."},
        {"prompt": "Hi", "completion": "One two three four five six seven."},
    ]
    rows += [{"prompt": "One two three four five six seven eight nine.", "completion": "No."}]
    found = dataset(rows).lengths("micro/small", 9)
    assert (found.truncated, found.cut_answers, found.lost) == (2, 2, 1)
    assert found.summary()["trained"] == found.table["trained"].sum() > 0
    assert dataset(rows).lengths("micro/small").truncated == 0
