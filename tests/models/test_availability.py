from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import llmlab as lab
from llmlab.models import availability


def test_a_key_makes_a_model_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert availability.missing("openai/gpt-6-luna") == "OPENAI_API_KEY is not set"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert availability.missing("openai/gpt-6-luna") == ""


def test_either_of_two_keys_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert availability.missing("google/gemini-3.8-flash") == "GEMINI_API_KEY or GOOGLE_API_KEY is not set"
    monkeypatch.setenv("GOOGLE_API_KEY", "k")
    assert availability.missing("google/gemini-3.8-flash") == ""


def test_a_model_that_was_shut_down_is_not_usable() -> None:
    assert availability.missing("anthropic/claude-3-5-haiku-20241022") == "shut down on 2026-02-19"


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_installed", lambda module: False)
    assert availability.missing("hf/a/b") == "pip install 'llmlab[local]'"
    assert availability.missing("google-legacy/x") == "pip install 'llmlab[google-legacy]'"


def test_weights_must_be_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    name = "hf/HuggingFaceTB/SmolLM2-135M-Instruct"
    assert availability.missing(name) == f"weights are not in the cache: llmlab pull {name}"
    snapshot = tmp_path / "models--HuggingFaceTB--SmolLM2-135M-Instruct" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    assert availability.missing(name) == ""
    assert availability.missing(f"hf/{tmp_path}") == ""


def test_scripted_models_lack_nothing() -> None:
    assert availability.missing("scripted/echo") == ""


def test_the_table_of_models_says_what_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    table = lab.models()
    assert table.loc["anthropic/claude-haiku-5-5", "usable"]
    assert not table.loc["anthropic/claude-3-5-haiku-20241022", "usable"]
    assert next(iter(lab.models(provider="anthropic", usable=True).index)).startswith("anthropic/")


def test_every_name_of_the_overview_resolves() -> None:
    from llmlab.models.registry import resolve

    expected = {
        "gpt-4o-mini": "openai/gpt-4o-mini",
        "gemini-1.5-flash": "google/gemini-1.5-flash",
        "claude-3-5-haiku-20241022": "anthropic/claude-3-5-haiku-20241022",
        "smollm-135m": "hf/HuggingFaceTB/SmolLM2-135M-Instruct",
        "smollm-360m": "hf/HuggingFaceTB/SmolLM2-360M-Instruct",
        "qwen-0.5b": "hf/Qwen/Qwen2.5-0.5B-Instruct",
    }
    assert {name: resolve(name) for name in expected} == expected


def test_finding_out_loads_nothing_heavy() -> None:
    code = (
        "import sys; from llmlab.models import availability; from llmlab.settings import config\n"
        "[availability.missing(n) for n in config('models.yaml')['models']]\n"
        "print([m for m in ('torch', 'transformers', 'openai', 'anthropic', 'google.genai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
