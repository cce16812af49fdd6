from __future__ import annotations

import pytest

import llmlab.models.micro as micro
from llmlab.errors import UnknownName
from llmlab.models.registry import model


def test_an_unknown_embedded_model_lists_the_known_ones():
    with pytest.raises(UnknownName, match="No embedded model 'micro/huge'"):
        model("micro/huge")


def test_an_embedded_model_is_a_folder_that_ships(monkeypatch, tmp_path):
    from llmlab.testing.tiny import tiny_model

    tiny_model(tmp_path / "micro-dot", "llama")
    monkeypatch.setattr(micro, "shipped", lambda name: tmp_path)
    assert micro.known() == ["micro/dot"]
    lm = model("micro/dot", max_tokens=4, device="cpu")
    response = lm.generate("The river")
    assert response.model == "micro/dot"
    assert response.usage.output_tokens == 4
    assert lm.logprob("The river", [" runs"])[0].logprob < 0
