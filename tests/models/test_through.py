"""Wrapping a model: interceptors, their order, trace, cost and identity."""

from __future__ import annotations

import math

import pytest

import llmlab as lab
from llmlab.errors import BadRequest
from llmlab.models.scripted import Scripted
from llmlab.types import Call, Request, Response


def polite(request: Request, call: Call) -> Response:
    response = call(request)
    return response if "please" in response.text else call(request.revise(response.text, "Say please."))


def shout(request: Request, call: Call) -> Response:
    response = call(request)
    return response.edited(response.text.upper(), "in capitals")


def block(request: Request, call: Call) -> Response:
    return Response("No.", finish_reason="refusal")


def test_first_interceptor_is_the_outermost() -> None:
    order: list[str] = []

    def named(name: str):
        def interceptor(request: Request, call: Call) -> Response:
            order.append(f"{name} in")
            response = call(request)
            order.append(f"{name} out")
            return response

        return interceptor

    Scripted("x").through(named("a"), named("b")).generate("q")
    assert order == ["a in", "b in", "b out", "a out"]


def test_every_inner_call_is_in_the_trace_and_in_the_cost() -> None:
    model = Scripted(["no", "yes, please"], cost=0.1)
    with lab.ledger() as spending:
        response = model.through(polite).generate("hi")
    assert response.text == "yes, please" and [r.text for r in response.trace] == ["no", "yes, please"]
    assert response.cost == pytest.approx(0.2) == spending.spent
    assert response.usage.output_tokens == 3


def test_block_costs_nothing_and_asks_nothing() -> None:
    model = Scripted("x", cost=1.0)
    response = model.through(block).generate("hi")
    assert (model.calls, response.cost, response.finish_reason) == (0, 0.0, "refusal")


def test_unpriced_inner_call_makes_the_whole_unpriced() -> None:
    model = Scripted(lambda r: Response("x", cost=math.nan))
    assert math.isnan(model.through(shout).generate("q").cost)


def test_stream_without_a_streaming_form_is_the_finished_answer_and_says_so() -> None:
    *_, last = Scripted("a b c").through(shout).stream("q")
    assert last.response is not None and last.response.text == "A B C"
    assert any("one piece" in note for note in last.response.notes)


def test_streaming_form_is_used() -> None:
    class Dashes:
        def __call__(self, request: Request, call: Call) -> Response:
            return call(request)

        def stream(self, request, stream):
            yield from stream(request)

    texts = [c.text for c in Scripted("a b c").through(Dashes()).stream("q")]
    assert "".join(texts) == "a b c" and len(texts) == 3


def test_identity_depends_on_the_code_and_on_what_it_closes_over() -> None:
    def prefix(text: str):
        return lambda request, call: call(request.with_system(text))

    model = Scripted("x")
    one, other = model.through(prefix("a")), model.through(prefix("b"))
    assert one.identity() == model.through(prefix("a")).identity() != other.identity()
    assert one.identity() != model.through(shout).identity()


def test_options_of_the_inner_model_still_win_over_a_benchmark() -> None:
    assert Scripted("x").with_options(max_tokens=7).through(shout).options.max_tokens == 7


def test_batch_keeps_errors_in_place() -> None:
    def fussy(request: Request, call: Call) -> Response:
        if request.prompt == "bad":
            raise BadRequest("not this one")
        return call(request)

    good, bad = lab.model("scripted/echo").through(fussy).generate_batch([Request.of("a"), Request.of("bad")])
    assert str(good) == "a" and isinstance(bad, BadRequest)
