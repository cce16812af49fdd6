from __future__ import annotations

import shutil

import pytest

import llmlab as lab
from llmlab.errors import ConnectionFailed, DataError, UnknownName
from llmlab.models.local import known, room
from llmlab.settings import config


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def test_known_sizes_are_those_of_the_files():
    for name in ("small", "base"):
        entry = config("models.yaml")["models"][f"micro/{name}"]
        assert known.needs(entry)["float32"] * 1e9 == room.weights_bytes(known.pull(f"micro/{name}"), 4)
        assert known.needs(entry)["nf4"] * 1e9 == pytest.approx(
            room.weights_bytes(known.pull(f"micro/{name}"), 2, "nf4"), rel=0.01
        )


def test_what_fits_is_told_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: 5e9)
    table = lab.models(local=True)
    assert table.loc["micro/base", ["fits", "here"]].tolist() == ["float32", True]
    assert table.loc["hf/Qwen/Qwen2.5-0.5B-Instruct", ["fits", "here"]].tolist() == ["float32", False]
    assert table.loc["hf/HuggingFaceTB/SmolLM3-3B", "fits"] == "int8"
    assert table.loc["hf/microsoft/phi-4", "fits"] == ""
    assert table["parameters"].is_monotonic_increasing
    assert lab.models(local=True, usable=True).index.tolist() == ["micro/tiny", "micro/small", "micro/base"]


def test_pulling_takes_the_hub_files_by_alias_and_needs_no_second_look(monkeypatch, folder, tmp_path):
    import huggingface_hub

    asked = []
    snapshot = tmp_path / "snapshots" / "0123abcd"

    def download(repo_id, *, local_files_only=False, **settings):
        asked.append((repo_id, local_files_only))
        if not snapshot.exists():
            if local_files_only:
                raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
            shutil.copytree(folder("llama"), snapshot)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert known.pull("qwen-0.5b") == snapshot
    assert asked[1] == ("Qwen/Qwen2.5-0.5B-Instruct", False)
    assert known.pull("Qwen/Qwen2.5-0.5B-Instruct") == snapshot
    asked.clear()
    assert lab.model("qwen-0.5b", max_tokens=2).generate("hi").text
    assert asked == [("Qwen/Qwen2.5-0.5B-Instruct", True)]


def test_a_repository_of_pickled_weights_names_the_way_out(monkeypatch, folder, tmp_path):
    import huggingface_hub

    snapshot = tmp_path / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    shutil.copy(folder("llama") / "config.json", snapshot)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo_id, **_: str(snapshot))
    with pytest.raises(DataError, match=r"pickled weights are not loaded.*revision='refs/pr/1'"):
        known.pull("some/model")


def test_what_cannot_be_pulled_is_told(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnknownName, match=r"No local model 'qwen-0.6b'. Did you mean 'qwen3-0.6b'"):
        known.pull("qwen-0.6b")
    with pytest.raises(DataError, match="openai/gpt-4o has nothing to fetch"):
        known.pull("gpt-4o")


def test_memory_of_a_known_model_needs_no_download(monkeypatch):
    def download(*_, **__):
        raise ConnectionFailed("a download")

    monkeypatch.setattr("llmlab.models.local.source.snapshot", download)
    found = lab.memory("smollm-135m", "lora", length=64, batch=1, precision="float32")
    assert found.name == "hf/HuggingFaceTB/SmolLM2-135M-Instruct"
    assert found.weights == pytest.approx(4 * 134515008, rel=0.05)
    with pytest.raises(ConnectionFailed):
        lab.memory("hf/some/model")
