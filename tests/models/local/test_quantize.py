from __future__ import annotations

import importlib.util

import pytest
import torch

from llmlab.errors import DataError, MissingPackage, UnknownName
from llmlab.models.local import room
from llmlab.models.local.int8 import by_row, dynamic
from llmlab.models.local.profile import held_bytes
from llmlab.models.local.quantize import BYTES, FORMATS, multiplies_bytes, settings
from llmlab.models.local.transformers import TransformersModel
from llmlab.models.registry import model
from llmlab.testing.tiny import FAMILIES, tiny_model

QUERY = ("Question: how many apples?\nAnswer:", [" two apples", " she has one"])


BYTES_MULTIPLY = multiplies_bytes()
USABLE = [name for name in FORMATS if BYTES_MULTIPLY or name != "int8-dynamic"]


@pytest.fixture(scope="module")
def quantised(folder):
    return {name: TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1, quantize=name) for name in USABLE}


@pytest.mark.parametrize("name", USABLE)
def test_a_quantised_model_is_near_the_full_one_and_smaller(quantised, lm, name):
    full, small = lm("llama"), quantised[name]
    for a, b in zip(full.logprob(*QUERY), small.logprob(*QUERY), strict=True):
        assert a.logprob != b.logprob
        assert b.logprob == pytest.approx(a.logprob, abs=2.0 * a.tokens)
    weight = small.load().model.model.layers[0].mlp.up_proj.weight
    assert weight.dtype in (torch.int8, torch.uint8)
    assert weight.nbytes <= 64 * 128 * BYTES[name]
    assert small.settings_used["quantize"] == name
    assert small.settings_used["attention"] == "packed"
    assert small.generate("The river").text


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_four_bits_scores_as_transformers_does(folder, family):
    lm = TransformersModel(f"hf/{folder(family)}", device="cpu", threads=1, quantize="nf4")
    loaded, (pair, _) = lm.load(), lm.engine.tokens.pairs(*QUERY)
    with torch.inference_mode():
        logprobs = loaded.model(torch.tensor([pair.input])).logits[0].log_softmax(-1)[-len(pair.continuation) :]
    expected = float(logprobs.gather(1, torch.tensor(pair.continuation)[:, None]).sum())
    assert lm.logprob(*QUERY)[0].logprob == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba"])
def test_a_recurrence_keeps_the_weights_that_it_reads_itself(folder, lm, family):
    path = folder(family)
    small = TransformersModel(f"hf/{path}", device="cpu", threads=1, quantize="int8")
    layers = dict(small.load().model.named_modules())
    kinds = {name.rpartition(".")[2]: type(layer).__name__ for name, layer in layers.items() if "_proj" in name}
    assert kinds.pop("dt_proj") == "Linear"
    assert set(kinds.values()) == {"RowwiseInt8"}
    for a, b in zip(lm(family).logprob(*QUERY), small.logprob(*QUERY), strict=True):
        assert b.logprob == pytest.approx(a.logprob, abs=2.0 * a.tokens)
    assert small.generate("The river").text
    assert room.weights_bytes(path, 4, "int8") == pytest.approx(held_bytes(small.load()), rel=0.05)


def test_layers_of_any_size_are_computed_in_four_bits(tmp_path):
    path = tiny_model(tmp_path, "llama", intermediate_size=72)
    full, small = (TransformersModel(f"hf/{path}", device="cpu", threads=1, quantize=q) for q in (None, "nf4"))
    for a, b in zip(full.logprob(*QUERY), small.logprob(*QUERY), strict=True):
        assert b.logprob == pytest.approx(a.logprob, abs=2.0 * a.tokens)


def test_a_transposed_input_is_read_as_such_in_four_bits(quantised):
    layer = quantised["nf4"].load().model.model.layers[0].mlp.up_proj
    x = torch.randn(1, layer.in_features, 5).transpose(1, 2)
    with torch.inference_mode():
        assert torch.equal(layer(x), layer(x.contiguous()))


@pytest.mark.parametrize("name", [name for name in USABLE if name.startswith("int8")])
def test_what_is_in_the_batch_moves_no_log_likelihood_in_int8(name):
    lm = model("micro/base", quantize=name)
    places = ("The baker sells", "The river runs past the", "Tom has 3 apples and buys 4 more. Tom has", "A red")
    queries = [(place, [" bread", " the old mill", " seven"]) for place in places]
    alone = []
    for query in queries:
        lm.close()  # no prefixes of the call before
        alone += [one.logprob for one in lm.logprob(*query)]
    lm.close()
    together = [one.logprob for found in lm.logprob_batch(queries) for one in found]
    assert together == pytest.approx(alone, abs=1e-3)


def test_a_row_in_int8_is_the_published_product_of_that_row_alone():
    import bitsandbytes as bnb

    published, x = bnb.nn.Linear8bitLt(32, 16, has_fp16_weights=False, threshold=6.0), torch.randn(5, 32)
    published.weight = bnb.nn.Int8Params(torch.randn(16, 32), requires_grad=False, has_fp16_weights=False)
    published.to("cpu").eval().requires_grad_(False)
    x[0, 3], x[2, 7], x[4] = 40, -9, 0
    rows = torch.cat([published(row[None]) for row in x])
    assert not torch.allclose(published(x), rows, atol=1e-4)
    by_row(published)
    assert torch.allclose(published(x), rows, atol=1e-4)
    assert published(x[None]).shape == (1, 5, 16)


@pytest.mark.skipif(not BYTES_MULTIPLY, reason="this processor has no products of bytes (VNNI)")
@pytest.mark.parametrize("bias", [True, False])
def test_dynamic_int8_is_the_product_of_what_was_rounded(bias):
    import bitsandbytes as bnb

    torch.manual_seed(0)
    weight, x = torch.randn(40, 96), torch.randn(2, 5, 96)
    x[0, 1] = 0
    layer = bnb.nn.Linear8bitLt(96, 40, bias=bias, has_fp16_weights=False)
    layer.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer.to("cpu").eval().requires_grad_(False)
    kept = layer.weight.CB * layer.weight.SCB[:, None] / 127
    assert torch.allclose(kept, weight, atol=0.02)
    dynamic(layer)
    steps = x.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    expected = ((x / steps).round() * steps) @ kept.T + (layer.bias if bias else 0)
    assert torch.allclose(layer(x), expected, atol=1e-3)
    assert layer(x[:0]).shape == (0, 5, 40)
    assert layer.weight.numel() == 0 and layer.packed_bytes == 40 * 96
    with pytest.raises(DataError, match="has no gradients; take 'int8'"):
        layer(x.requires_grad_())
    with pytest.raises(DataError, match=r"VNNI\), and it is to run on 'cuda'; take 'int8'"):
        settings("int8-dynamic", torch.device("cuda"), torch.float32, "hf/some")


def test_answers_are_not_shared_with_the_full_model(quantised, lm):
    names = {str(one.identity()) for one in (lm("llama"), *quantised.values())}
    assert len(names) == 1 + len(USABLE)
    assert "quantize" not in lm("llama").identity()


def test_embedded_models_can_be_quantised():
    small = model("micro/small", quantize="nf4", max_tokens=4)
    assert small.generate("The").text
    assert small.settings_used["quantize"] == "nf4"


def test_an_unknown_format_lists_the_known_ones(folder):
    with pytest.raises(
        UnknownName, match=r"No quantisation 'int3'.*Known: fp4, int8, int8-dynamic, nf4.*gguf/path.gguf"
    ):
        model(f"hf/{folder('llama')}", quantize="int3")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"bitsandbytes.*pip install 'llmlab\[train\]'"):
        settings("int8", torch.device("cpu"), torch.float32, "hf/some")


def test_a_device_without_kernels_is_refused():
    with pytest.raises(DataError, match=r"no kernels for 'mps'.*device='cpu'"):
        settings("nf4", torch.device("mps"), torch.float32, "hf/some")


def test_weights_are_counted_before_they_are_read(folder, lm):
    loaded = lm("llama").load().model
    assert room.weights_bytes(folder("llama"), 4) == sum(p.nbytes for p in loaded.parameters())


def test_quantised_weights_are_counted_as_they_will_be(folder, quantised):
    import bitsandbytes as bnb

    layers = [m for m in quantised["int8"].load().model.modules() if isinstance(m, bnb.nn.Linear8bitLt)]
    saved = sum(3 * m.weight.numel() for m in layers)
    assert room.weights_bytes(folder("llama"), 4, "int8") == room.weights_bytes(folder("llama"), 4) - saved


def test_a_model_larger_than_memory_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: 1e5)
    with pytest.raises(
        DataError, match=r"needs 0.0 GB for its weights and 0.0 GB are free on 'cpu'; take quantize='nf4'"
    ):
        model(f"hf/{folder('llama')}", device="cpu").generate("hi")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks by the old name
def test_a_quantised_base_keeps_its_adapter_beside_it(folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder("llama")),
        LoraConfig(target_modules=["q_proj"], init_lora_weights=False),
    )
    tuned.save_pretrained(tmp_path)
    settings = {"base": f"hf/{folder('llama')}", "device": "cpu", "threads": 1}
    merged, beside = (model(f"adapter/{tmp_path}", **settings, quantize=q) for q in (None, "nf4"))
    plain = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1, quantize="nf4")
    a, b, base = (one.logprob(*QUERY)[0].logprob for one in (merged, beside, plain))
    assert b == pytest.approx(a, abs=4.0)
    assert abs(b - base) > 1e-3
    assert beside.generate("The river").text
