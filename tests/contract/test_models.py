"""What every model promises, whatever answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

import llmlab as lab
from llmlab.errors import BadRequest, BudgetExceeded, DataError, NeedsLocalModel, UnknownName
from llmlab.models.base import Model
from llmlab.testing import ProviderServer
from llmlab.types import Options, Request
from tests.contract.models import ANSWER, EVERY, asked, billed, make

QUESTION = "Which colour has the river?"
CHOICES = ("red", "blue", "green")


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(ANSWER) as running:
        yield running


@pytest.fixture(params=EVERY)
def model(request: pytest.FixtureRequest, server: ProviderServer, keys: dict[str, str]) -> Iterator[Model]:
    made = make(request.param, server, temperature=0.0)
    yield made
    made.close()


def test_generate_answers_with_its_account(model: Model) -> None:
    response = model.generate(QUESTION)
    assert response.text
    assert response.model == model.name
    assert response.requested == model.options
    assert response.finish_reason in ("stop", "length")
    assert (response.usage.input_tokens or 0) > 0
    assert (response.usage.output_tokens or 0) > 0
    assert response.seconds >= 0
    assert response.cost >= 0 or math.isnan(response.cost)
    assert not response.cached


def test_text_messages_and_request_are_the_same_prompt(model: Model) -> None:
    text = model.generate(QUESTION).text
    assert model.generate([{"role": "user", "content": QUESTION}]).text == text
    assert model.generate(Request.of(QUESTION)).text == text


def test_a_conversation_with_a_system_prompt_is_accepted(model: Model) -> None:
    turns = [("system", "Be brief."), ("user", "Hello."), ("assistant", "Good day."), ("user", QUESTION)]
    assert model.generate([{"role": role, "content": text} for role, text in turns]).text


def test_what_cannot_be_asked_is_refused_with_what_can(model: Model) -> None:
    for ask in (model.generate, lambda *a, **k: list(model.stream(*a, **k)), model.with_options):
        with pytest.raises(UnknownName, match=r"No generation option 'max_token'\. Did you mean 'max_tokens'"):
            ask(*(() if ask == model.with_options else (QUESTION,)), max_token=7)
    for ask in (model.generate, lambda prompt: list(model.stream(prompt))):
        with pytest.raises(BadRequest, match=r"message 0 is dict \{'role': 'user'\}"):
            ask([{"role": "user"}])
    with pytest.raises(BadRequest, match=r"a prompt is text, .* got int 5"):
        model.decide(5, CHOICES)  # type: ignore[arg-type]


def test_a_stream_is_the_answer_in_pieces(model: Model) -> None:
    chunks = list(model.stream(QUESTION))
    whole = model.generate(QUESTION)
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [chunk.response is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    last = chunks[-1].response
    assert last is not None
    assert (last.text, last.finish_reason) == (whole.text, whole.finish_reason)
    assert (last.usage, last.model, last.requested) == (whole.usage, whole.model, whole.requested)


def test_a_stream_can_be_left_early(model: Model) -> None:
    pieces = model.stream(QUESTION)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # generators have it
    assert model.generate(QUESTION).text


def test_max_tokens_cuts_the_answer_and_says_so(model: Model) -> None:
    response = model.generate(QUESTION, max_tokens=2)
    assert response.finish_reason == "length"
    assert response.usage.output_tokens == 2 * asked(model)
    assert model.generate(QUESTION).text.startswith(response.text)


def test_options_of_the_call_overrule_those_of_the_model(model: Model) -> None:
    response = model.with_options(max_tokens=1).generate(QUESTION, max_tokens=3)
    assert response.requested.max_tokens == 3
    assert response.usage.output_tokens == 3 * asked(model)


def test_with_options_leaves_the_model_as_it_was(model: Model) -> None:
    before = model.options
    assert model.with_options(max_tokens=1).options.max_tokens == 1
    assert model.options == before


def test_a_stop_sequence_ends_the_answer_and_is_not_part_of_it(model: Model) -> None:
    full = model.generate(QUESTION).text
    stop = full[len(full) // 2 :][:2]
    expected = full[: full.find(stop)]
    assert model.generate(QUESTION, stop=[stop]).text == expected
    assert "".join(chunk.text for chunk in model.stream(QUESTION, stop=[stop])) == expected


def test_a_batch_answers_like_single_calls(model: Model) -> None:
    prompts = [QUESTION, "How many apples does Mira have?", "The river runs"]
    batch = model.generate_batch([Request.of(p) for p in prompts])
    assert [r.text for r in batch if not isinstance(r, Exception)] == [model.generate(p).text for p in prompts]


def test_decide_picks_one_of_the_choices(model: Model) -> None:
    decision = model.decide(QUESTION, CHOICES)
    assert decision.choices == CHOICES
    assert decision.protocol in model.protocols
    if decision.choice is not None:
        assert decision.text == CHOICES[decision.choice]
    if not any(math.isnan(p) for p in decision.probabilities):
        assert math.isclose(sum(decision.probabilities), 1)
        assert decision.choice == max(range(3), key=decision.probabilities.__getitem__)


def test_decide_by_letter_reads_the_answer(model: Model) -> None:
    decision = model.decide(QUESTION, CHOICES, protocol="letter")
    assert decision.protocol == "letter"
    assert decision.response is not None
    if decision.response.text == ANSWER:
        assert decision.choice == 1


def test_decide_needs_two_different_choices(model: Model) -> None:
    with pytest.raises(DataError, match="at least two different choices"):
        model.decide(QUESTION, ["same", "same"])


def test_decide_by_a_protocol_it_lacks_says_which_it_has(model: Model) -> None:
    lacking = next(
        p for p in ("loglikelihood", "decision", "letter_logprob", "generate") if p not in model.protocols[:-1]
    )
    with pytest.raises(UnknownName, match=r"Known: .*letter"):
        model.decide(QUESTION, CHOICES, protocol=lacking)


def test_logprob_gives_nats_or_says_what_to_do(model: Model) -> None:
    try:
        found = model.logprob("The river", [" runs", " sleeps deeply"])
    except NeedsLocalModel as error:
        assert model.name in str(error)
        assert "'micro/base'" in str(error)
        return
    assert len(found) == 2
    assert all(f.logprob < 0 and f.tokens >= 1 for f in found)


def test_repr_and_identity_tell_the_model_and_no_secret(model: Model, keys: dict[str, str]) -> None:
    shown = repr(model) + json.dumps(model.identity(), default=str) + str(vars(model))
    assert model.name in repr(model)
    assert not any(value in shown for value in keys.values())


def test_identity_is_the_same_for_the_same_model(model: Model) -> None:
    assert json.dumps(model.identity()) == json.dumps(model.with_options(max_tokens=1).identity())


def test_calls_are_counted_on_the_ledger(model: Model) -> None:
    with lab.ledger() as spending:
        model.generate(QUESTION)
        list(model.stream(QUESTION))
    assert spending.calls == (2 * asked(model) if billed(model) else 0)


def test_a_budget_of_nothing_forbids_what_costs(model: Model) -> None:
    cost = model.generate(QUESTION).cost
    if cost == 0 or not billed(model):
        return
    with lab.ledger(budget=0), pytest.raises(BudgetExceeded):
        model.generate(QUESTION, max_tokens=5)


def test_a_closed_model_opens_again(model: Model) -> None:
    text = model.generate(QUESTION).text
    model.close()
    assert model.generate(QUESTION).text == text


def test_unknown_options_are_refused(model: Model) -> None:
    with pytest.raises((TypeError, UnknownName), match="temprature"):
        model.generate(QUESTION, temprature=0.5)


def test_options_are_reported_as_applied_or_dropped(model: Model) -> None:
    response = model.generate(QUESTION, seed=3, top_k=5, max_tokens=4)
    applied = response.applied if not response.trace else response.trace[-1].applied
    dropped = response.dropped if not response.trace else response.trace[-1].dropped
    for name, value in Options(seed=3, top_k=5, max_tokens=4, temperature=0.0).set().items():
        assert (getattr(applied, name) == value) != (name in dropped), name
