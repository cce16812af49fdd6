from __future__ import annotations

import json
import shutil
import time

import pytest
import torch

import llmlab.models.local.source as source
from llmlab.errors import ConnectionFailed, DataError, MissingPackage, UnknownName
from llmlab.models.local import loading
from llmlab.models.local.transformers import TransformersModel
from llmlab.models.registry import model


def test_making_a_model_reads_nothing(tmp_path):
    began = time.perf_counter()
    TransformersModel(f"hf/{tmp_path}/absent")
    assert time.perf_counter() - began < 0.1


def test_a_folder_is_loaded_by_name(folder):
    lm = model(f"hf/{folder('llama')}", max_tokens=4)
    loaded = lm.load()
    assert loaded.context == 256
    assert loaded.dtype is torch.float32
    assert lm.load() is loaded
    assert lm.generate("The river").usage.output_tokens == 4


def test_copies_share_the_weights(folder):
    lm = model(f"hf/{folder('llama')}")
    assert lm.with_options(max_tokens=3).load() is lm.load()


def test_closing_frees_the_weights_and_the_next_use_loads_them_again(folder):
    lm = model(f"hf/{folder('llama')}", max_tokens=4)
    before = lm.generate("The river").text
    first = lm.load()
    lm.close()
    assert lm.generate("The river").text == before
    assert lm.load() is not first


def test_a_folder_that_is_no_model_is_refused_with_what_it_lacks(tmp_path):
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(
        DataError, match=r"no model folder: config.json is missing \(found: notes.md\).*save_pretrained"
    ):
        model(f"hf/{tmp_path}").generate("hi")


def test_a_missing_folder_is_named():
    with pytest.raises(UnknownName, match=r"No folder '/nowhere/at/all'"):
        model("hf//nowhere/at/all").generate("hi")


def test_pickled_weights_are_refused_with_the_way_out(folder, tmp_path):
    shutil.copy(folder("llama") / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match=r"pickled weights only \(pytorch_model.bin\).*safetensors.*save_pretrained"):
        model(f"hf/{tmp_path}").generate("hi")


def test_a_folder_without_weights_is_refused(folder, tmp_path):
    shutil.copy(folder("llama") / "config.json", tmp_path)
    with pytest.raises(DataError, match=r"no \*.safetensors weights"):
        model(f"hf/{tmp_path}").generate("hi")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "model.safetensors is no safetensors file, or a broken one; download"),
        (b"\x00" * 100, "is no safetensors file"),
        (b"\xff" * 100, "is no safetensors file"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00[1,2]", "is no safetensors file"),
        (b"<!DOCTYPE html><html>Not found</html>", "is no safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 269060552\n", "git lfs pull"),
    ],
)
def test_broken_weights_are_a_data_error(folder, tmp_path, content, says):
    shutil.copytree(folder("llama"), tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=says):
        model(f"hf/{tmp_path / 'm'}").generate("hi")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "vit"}, r"ViTConfig.*AutoModelForCausalLM.$"),
        ({"model_type": "nosuch"}, r"model type `nosuch`.*your version of Transformers is out of date.$"),
        ({"hidden_size": 128}, r"its weights have other shapes than config.json says"),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "m.X", "AutoConfig": "m.C"}},
            "trust_remote_code=T",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_another_architecture_is_said_in_a_line(folder, tmp_path, change, says):
    shutil.copytree(folder("llama"), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(DataError, match=says) as caught:
        model(f"hf/{tmp_path / 'm'}").generate("hi")
    assert "\n" not in str(caught.value)


def test_a_broken_config_is_not_taken_for_a_missing_tokenizer(folder, tmp_path):
    shutil.copytree(folder("llama"), tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{oops")
    with pytest.raises(DataError, match=r"config.json cannot be read \(Expecting property name.*download or save"):
        model(f"hf/{tmp_path / 'm'}").generate("hi")


@pytest.mark.parametrize("name", ["hf/", "gguf/"])
def test_a_name_without_a_place_is_refused(name, monkeypatch, folder):
    monkeypatch.chdir(folder("llama"))
    with pytest.raises(UnknownName, match=r"No (folder|file) ''"):
        model(name).generate("hi")


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(folder, device):
    with pytest.raises(UnknownName, match=rf"No device '{device}'.*Known: cpu.*torch \d"):
        model(f"hf/{folder('llama')}", device=device).generate("hi")


@pytest.mark.parametrize("kept", ["", "not json"])
def test_a_missing_or_broken_tokenizer_says_how_to_save_one(folder, tmp_path, kept):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder("llama") / name, tmp_path)
    if kept:
        (tmp_path / "tokenizer.json").write_text(kept)
    with pytest.raises(DataError, match=r"has no tokenizer that transformers can read.*tokenizer.save_pretrained"):
        model(f"hf/{tmp_path}").generate("hi")


def test_weights_that_were_cut_short_are_a_data_error(folder, tmp_path):
    shutil.copytree(folder("llama"), tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"model.safetensors has [\d,]+ bytes and should have [\d,]+: it was cut short"):
        model(f"hf/{tmp_path / 'm'}").generate("hi")


def test_missing_weights_are_an_error_not_random_numbers(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder("llama"), tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    weights = load_file(path)
    del weights["model.norm.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lacks weights of its architecture \(model.norm.weight"):
        model(f"hf/{tmp_path / 'm'}").generate("hi")


def test_a_model_that_is_neither_here_nor_reachable_says_what_to_do(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(repo_id, *, local_files_only=False, **_):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ConnectionFailed, match=r"hub cannot be reached.*hf download some/model.*micro/base"):
        model("hf/some/model").generate("hi")


def test_a_cached_snapshot_needs_no_network(monkeypatch, folder, tmp_path):
    import huggingface_hub

    snapshot = tmp_path / "snapshots" / "0123abcd"
    shutil.copytree(folder("llama"), snapshot)

    def cached(repo_id, *, local_files_only=False, **_):
        assert local_files_only
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    lm = model("hf/some/model", max_tokens=2)
    assert lm.generate("The").model_version == "0123abcd"


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'llmlab\[local\]'"):
        model("hf/some/model")


def test_unknown_settings_and_dtypes_list_the_known_ones(folder):
    with pytest.raises(UnknownName, match=r"Did you mean 'device'"):
        model(f"hf/{folder('llama')}", devise="cpu")
    with pytest.raises(UnknownName, match="Known: bfloat16, float16, float32"):
        model(f"hf/{folder('llama')}", dtype="int3").generate("hi")


def test_the_fingerprint_follows_the_content_not_the_place(folder, tmp_path):
    here = source.fingerprint(folder("llama"))
    shutil.copytree(folder("llama"), tmp_path / "copy")
    assert source.fingerprint(tmp_path / "copy") == here
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"rope_scaling": None, "extra": 1}))
    assert source.fingerprint(tmp_path / "copy") != here


def test_the_fingerprint_of_large_weights_sees_training(monkeypatch, folder, tmp_path):
    from safetensors.torch import load_file, save_file

    monkeypatch.setattr(source, "_HASHED_WHOLE", 0)
    here = source.fingerprint(folder("llama"))
    shutil.copytree(folder("llama"), tmp_path / "tuned")
    path = tmp_path / "tuned" / "model.safetensors"
    weights = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(weights | {name: weights[name] + 1e-3}, path, metadata={"format": "pt"})
    assert source.fingerprint(tmp_path / "tuned") != here


def test_identity_has_what_an_answer_depends_on(folder):
    identity = model(f"hf/{folder('llama')}", device="cpu").identity()
    assert identity["dtype"] == "float32"
    assert identity["weights"] == source.fingerprint(folder("llama"))


@pytest.mark.parametrize(
    ("changes", "window"),
    [({}, None), ({"sliding_window": 16}, 16), ({"sliding_window": 16, "use_sliding_window": False}, None)],
)
def test_the_attention_window_is_read_from_the_configuration(changes, window):
    from transformers import MistralConfig

    assert loading._window(MistralConfig(**{"sliding_window": None} | changes)) == window
