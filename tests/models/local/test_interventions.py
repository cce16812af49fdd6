from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from llmlab.types import Message, Options, Request


@dataclass(frozen=True)
class Push:
    """Adds a constant to what a block puts out, at every position."""

    layer: int
    by: float

    @contextmanager
    def applied(self, model):
        handle = model.model.layers[self.layer].register_forward_hook(lambda m, args, out: out + self.by)
        try:
            yield
        finally:
            handle.remove()


@dataclass(frozen=True)
class Broken:
    @contextmanager
    def applied(self, model):
        raise RuntimeError("no such layer")
        yield


def ask(*interventions, text="The river runs"):
    return Request((Message("user", text),), Options(max_tokens=12), template=False, interventions=interventions)


def test_an_intervention_changes_its_own_call_and_leaves_the_model_as_it_was(lm):
    before = lm("llama").generate(ask()).text
    pushed = lm("llama").generate(ask(Push(1, 3.0))).text
    assert pushed != before
    assert lm("llama").generate(ask()).text == before
    assert not lm("llama").load().model.model.layers[1]._forward_hooks


def test_only_equal_interventions_share_a_batch(lm):
    requests = [ask(), ask(Push(1, 3.0)), ask(Push(0, 2.0)), ask(Push(1, 3.0), text="A"), ask(text="A")]
    together = [r.text for r in lm("llama").generate_batch(requests)]
    assert together == [lm("llama").generate(r).text for r in requests]


def test_a_stream_is_changed_too(lm):
    text = lm("llama").generate(ask(Push(1, 3.0))).text
    assert "".join(c.text for c in lm("llama").stream(ask(Push(1, 3.0)))) == text


def test_an_intervention_that_fails_fails_its_own_request(lm):
    good, bad = lm("llama").generate_batch([ask(), ask(Broken())])
    assert good.text
    assert "no such layer" in str(bad)
    with pytest.raises(Exception, match="no such layer"):
        lm("llama").generate(ask(Broken()))
