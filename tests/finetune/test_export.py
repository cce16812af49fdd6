"""What others can load without us."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import llmlab as lab
from llmlab.errors import DataError, NeedsLocalModel, UnknownName
from llmlab.finetune import gguf
from llmlab.finetune.tuned import FineTune
from llmlab.testing.tiny import tiny_model

TEXT = "Ticket from Tina: I want my money back for the spoon"


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(tokenizer(TEXT, return_tensors="pt").input_ids).logits
    return found


def ours(tuned: FineTune) -> torch.Tensor:
    loaded = tuned.model.load()  # type: ignore[attr-defined]
    return logits(loaded.model, loaded.tokenizer)


def test_merged_export_is_a_whole_model_for_transformers(trained: Callable[..., FineTune], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tuned = trained("lora")
    before = ours(tuned)
    place = tuned.export(tmp_path / "merged", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    torch.testing.assert_close(logits(model, AutoTokenizer.from_pretrained(place)), before, atol=1e-5, rtol=1e-5)
    assert (place / "README.md").read_text().startswith("---") and not (place / "adapter_config.json").exists()
    small = tuned.export(tmp_path / "small")
    assert (small / "model.safetensors").stat().st_size < 0.6 * (place / "model.safetensors").stat().st_size
    assert lab.model(f"hf/{small}").generate("Hi", max_tokens=2).text is not None
    assert torch.equal(ours(tuned), before)


@pytest.mark.parametrize("dtype", ["q8_0", "int8", "manual_seed"])
def test_another_dtype_than_the_kind_has_is_refused(
    trained: Callable[..., FineTune], tmp_path: Path, dtype: str
) -> None:
    with pytest.raises(UnknownName, match=f"No dtype of merged weights '{dtype}'.*kind='gguf'"):
        trained().export(tmp_path / "m", dtype=dtype)
    with pytest.raises(DataError, match=f"leave dtype='{dtype}' out"):
        trained().export(tmp_path / "a", "adapter", dtype=dtype)


def test_adapter_export_is_one_for_peft(trained: Callable[..., FineTune], tmp_path: Path) -> None:
    from peft import PeftConfig

    place = trained("qlora").export(tmp_path / "adapter", "adapter")
    assert PeftConfig.from_pretrained(place).r == 4
    assert "4 bits" in (place / "README.md").read_text()
    with pytest.raises(DataError, match="method 'full' has no adapter"):
        trained("full").export(tmp_path / "none", "adapter")


def test_gguf_export_gives_the_same_logits(trained: Callable[..., FineTune], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tuned = trained("lora")
    path = tuned.export(tmp_path / "tuned.gguf", "gguf", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    torch.testing.assert_close(logits(model, tuned.model.load().tokenizer), ours(tuned), atol=1e-4, rtol=1e-4)  # type: ignore[attr-defined]
    small = tuned.export(tmp_path / "q8", "gguf", dtype="q8_0")
    assert small.stat().st_size < 0.5 * path.stat().st_size


def test_gguf_file_has_the_tokenizer(trained: Callable[..., FineTune], tmp_path: Path) -> None:
    import gguf as reader

    path = trained("lora").export(tmp_path / "t.gguf", "gguf")
    fields = reader.GGUFReader(path).fields
    assert fields["tokenizer.ggml.tokens"].data.__len__() == 2048
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert "{% generation" not in fields["tokenizer.chat_template"].contents()
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 2


def test_other_architectures_are_refused_with_the_way_out(tmp_path: Path) -> None:
    model = lab.model(f"hf/{tiny_model(tmp_path / 'gpt2', 'gpt2')}")
    with pytest.raises(DataError, match=r"'gpt2'; GGUF is written for llama, .*convert_hf_to_gguf.py"):
        gguf.write(model, tmp_path / "x.gguf")


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama.cpp is here and makes them")
@pytest.mark.parametrize("dtype", ["q4_k_m", "Q6_K"])
def test_k_quants_are_refused_with_the_way_to_them(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(
        UnknownName,
        match=rf"GGUF '{dtype}'.*llama.cpp alone: pip install .* or write 'float16' and run `llama-quantize",
    ):
        gguf.write(lab.model("micro/small"), tmp_path / "x.gguf", dtype)
    assert not list(tmp_path.iterdir())


def test_ggufs_own_names_of_formats_are_understood(tmp_path: Path) -> None:
    model = lab.model("micro/small")
    ours, theirs = gguf.write(model, tmp_path / "a.gguf", "float16"), gguf.write(model, tmp_path / "b.gguf", "F16")
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_model_without_weights_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeedsLocalModel, match="scripted/echo has no weights here"):
        gguf.write(lab.model("scripted/echo"), tmp_path / "x.gguf")


def test_taken_place_and_unknown_kind_are_refused(trained: Callable[..., FineTune], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is already there"):
        trained("lora").export(tmp_path)
    with pytest.raises(UnknownName, match="kind of export 'onnx'"):
        trained("lora").export(tmp_path / "new", "onnx")


ALONE = """
import sys
sys.modules["llmlab"] = None  # importing it would fail
import torch, transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, merged, text = sys.argv[1:]
whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
for model, folder in ((whole, merged), (adapted, adapter)):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    said = model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1]:]
    print("SAID", repr(tokenizer.decode(said, skip_special_tokens=True)))
"""


@pytest.mark.slow
def test_merged_model_and_adapter_answer_alike_in_a_process_without_llmlab(
    trained: Callable[..., FineTune], tmp_path: Path
) -> None:
    import subprocess
    import sys

    from llmlab.settings import shipped

    tuned = trained("lora")
    merged, adapter = tuned.export(tmp_path / "merged", dtype="float32"), tuned.export(tmp_path / "adapter", "adapter")
    places = [str(p) for p in (shipped("checkpoints/micro-small"), adapter, merged)]
    command = [sys.executable, "-W", "ignore", "-c", ALONE, *places, TEXT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    expected = tuned.model.generate(TEXT, max_tokens=12, temperature=0).text
    assert said == [f"SAID {expected!r}"] * 2 and expected
