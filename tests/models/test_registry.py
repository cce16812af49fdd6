"""From a name to a model."""

from __future__ import annotations

import pytest

import llmlab as lab
from llmlab.errors import MissingKey, MissingPackage, UnknownName
from llmlab.models import registry
from llmlab.models.scripted import Scripted


@pytest.mark.parametrize(
    "name", ["gpt-4o-mini", "gemini-1.5-flash", "claude-3-5-haiku-20241022", "smollm-135m", "qwen-0.5b"]
)
def test_names_of_the_overview_resolve(name: str) -> None:
    assert "/" in registry.resolve(name)


def test_every_alias_is_a_provider_name_and_unique() -> None:
    for alias, full in registry.aliases().items():
        assert full.partition("/")[0] in registry.PROVIDERS, alias


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scripted/eco", "Did you mean 'scripted/echo'"),
        ("gpt-4o-mni", "Did you mean 'gpt-4o-mini'"),
        ("nobody/model", "a provider of: adapter, anthropic, compatible"),
        ("", "No model ''"),
        ("/tmp", "A path has its provider before it: 'hf//tmp'"),
        ("my/model.gguf", "A path has its provider before it: 'gguf/my/model.gguf'"),
    ],
)
def test_unknown_name_says_what_is_known(name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        lab.model(name)


def test_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"'temprature'. Did you mean 'temperature'"):
        lab.model("scripted/echo", temprature=0)
    with pytest.raises(UnknownName, match="No generation option 'seconds'"):
        lab.model(Scripted("x"), seconds=1)


def test_missing_key_is_named_with_what_runs_without() -> None:
    with pytest.raises(MissingKey, match=r"OPENAI_API_KEY .*scripted/echo"):
        lab.model("openai/gpt-4o-mini")


def test_missing_package_comes_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PROVIDERS, "absent", "torch_that_is_absent.module:Model")
    registry.providers.cache_clear()
    with pytest.raises(MissingPackage, match="pip install 'torch_that_is_absent'"):
        lab.model("absent/x")
    monkeypatch.undo()
    registry.providers.cache_clear()


def test_generation_options_and_settings_are_told_apart() -> None:
    model = lab.model("scripted/echo", max_tokens=1, seconds=0.001)
    assert model.options.max_tokens == 1 and model.seconds == 0.001
    assert model.generate("one two").text == "one"
    again = lab.model(model, max_tokens=2)
    assert again.generate("one two").text == "one two" and model.options.max_tokens == 1


def test_table_of_models_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = lab.models()
    assert not table.loc["openai/gpt-4o-mini", "usable"]
    assert "OPENAI_API_KEY" in table.loc["openai/gpt-4o-mini", "missing"]
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert lab.models("openai", usable=True).loc["openai/gpt-4o-mini", "usable"]
    assert set(lab.models("micro").index) >= {"micro/small", "micro/base"}
