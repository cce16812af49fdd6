"""Adapters: beside one base or merged into it, equal to PEFT's own forward pass."""

from __future__ import annotations

import gc
import threading
import warnings

import pytest

peft = pytest.importorskip("peft")
torch = pytest.importorskip("torch")

import llmlab as lab  # noqa: E402
from llmlab.errors import BadRequest, DataError  # noqa: E402
from llmlab.finetune.methods import quiet  # noqa: E402
from llmlab.models.local.engine import Engine  # noqa: E402
from llmlab.models.local.lowrank import not_beside  # noqa: E402
from llmlab.testing.tiny import tiny_model  # noqa: E402

PROMPTS = ["The river runs past", "The baker sells bread to every", "The"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def make(base, tmp_path_factory):
    """Makes an adapter that changes the answers; gives its folder."""

    def made(seed: int = 0, of=base, **settings):
        from transformers import AutoModelForCausalLM

        folder = tmp_path_factory.mktemp("adapter")
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_pretrained(of, dtype=torch.float32)
            settings = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False} | settings
            model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
            for name, weight in model.named_parameters():
                if "magnitude" in name:
                    weight.data *= 1.5
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*save_embedding_layers.*")
                model.save_pretrained(folder)
        return folder

    return made


@pytest.fixture(scope="module")
def several(make):
    return [make(seed) for seed in range(3)]


def beside(base, adapter, **options):
    return lab.model(f"hf/{base}+{adapter}", device="cpu", max_tokens=12, **options)


def merged(base, adapter):
    return lab.model(f"adapter/{adapter}", base=f"hf/{base}", device="cpu", max_tokens=12)


def scores(model):
    return [x.logprob for x in model.logprob("The river runs", [" past", " past the old mill", " to the baker"])]


def by_peft(base, adapter, ids):
    """Logits of PEFT's own forward pass."""
    from transformers import AutoModelForCausalLM

    with quiet(), torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return peft.PeftModel.from_pretrained(model, str(adapter)).eval()(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.0.mlp.up_proj": 30, "o_proj": 1}},
        {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]},
    ],
    ids=["plain", "rslora", "patterns", "some layers"],
)
def test_an_adapter_beside_its_base_computes_what_peft_computes(base, make, settings):
    adapter = make(**settings)
    model = beside(base, adapter)
    ids = model.engine.tokens.encode("The river runs past the old mill")
    with torch.inference_mode(), model.engine.held() as loaded:
        ours = loaded.model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(ours, by_peft(base, adapter, ids), atol=2e-5, rtol=1e-4)
    assert model.settings_used["adapter"] == "beside the base"


def test_answers_and_log_likelihoods_equal_those_of_the_merged_model(base, several):
    for adapter in several:
        one, other = beside(base, adapter), merged(base, adapter)
        assert [one.generate(p).text for p in PROMPTS] == [other.generate(p).text for p in PROMPTS]
        assert scores(one) == pytest.approx(scores(other), abs=1e-4)


def test_gpt2s_layers_take_adapters(make, tmp_path):
    from transformers import AutoModelForCausalLM, GPT2Config

    from llmlab.testing.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": len(tokenizer)}
    with quiet():
        AutoModelForCausalLM.from_config(GPT2Config(**sizes, initializer_range=0.3)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    adapter = make(of=tmp_path, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    assert scores(beside(tmp_path, adapter)) == pytest.approx(scores(merged(tmp_path, adapter)), abs=1e-4)


def test_the_base_is_in_memory_once_and_stays_as_it_is(base, several, monkeypatch):
    gc.collect()
    loads = []
    load = Engine.loaded.fget
    monkeypatch.setattr(Engine, "loaded", property(lambda self: (loads.append(self._loaded is None), load(self))[1]))
    adapters = [beside(base, adapter) for adapter in several]
    before = adapters[0].load()
    kept = {name: weight.clone() for name, weight in before.model.state_dict().items()}
    alone = lab.model(f"hf/{base}", device="cpu", max_tokens=12)
    own = scores(alone)
    found = [scores(model) for model in adapters]
    assert all(model.load().model is alone.load().model for model in adapters)
    assert sum(loads) == 1
    assert len({tuple(one) for one in (own, *found)}) == 4
    # in another order, the same numbers
    assert [scores(model) for model in reversed(adapters)] == found[::-1]
    assert scores(alone) == own
    after = alone.load().model
    assert all(torch.equal(weight, kept[name]) for name, weight in after.state_dict().items())
    assert not any("forward" in vars(module) for module in after.modules())


def test_weights_go_with_the_last_model_that_needs_them(base, several):
    import weakref

    gc.collect()
    gc.disable()
    try:
        one, other = beside(base, several[0]), beside(base, several[1])
        one.generate("The"), other.generate("The")
        weights = weakref.ref(one.engine._core)
        del one
        assert weights() is not None
        del other
        assert weights() is None
    finally:
        gc.enable()


def test_calls_of_several_adapters_at_the_same_time_do_not_mix(base, several):
    models = [lab.model(f"hf/{base}", device="cpu", max_tokens=12), *(beside(base, a) for a in several)]
    expected = [[model.generate(p).text for p in PROMPTS] for model in models]
    found: dict[tuple[int, int], str] = {}

    def ask(i: int, j: int) -> None:
        found[i, j] = "".join(chunk.text for chunk in models[i].stream(PROMPTS[j]))

    threads = [threading.Thread(target=ask, args=(i, j)) for i in range(4) for j in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[found[i, j] for j in range(3)] for i in range(4)] == expected
    assert len({tuple(one) for one in expected}) == 4


def test_prefixes_are_kept_by_adapter(base, several):
    shared = "The river runs past the old mill and the baker sells bread to every traveller who crosses the bridge " * 2
    models = [lab.model(f"hf/{base}", device="cpu"), *(beside(base, a) for a in several[:2])]
    queries = [(shared + word, [" past", " bread"]) for word in ("river", "mill", "baker")]
    first = [model.logprob_batch(queries) for model in models]
    again = [model.logprob_batch(queries) for model in models]
    for one, two, adapter in zip(first, again, [None, *several], strict=False):
        values = [x.logprob for row in two for x in row]
        assert values == pytest.approx([x.logprob for row in one for x in row], abs=1e-5)
        if adapter is not None:
            plain = [x.logprob for row in merged(base, adapter).logprob_batch(queries) for x in row]
            assert values == pytest.approx(plain, abs=1e-4)


def test_an_expert_on_the_same_weights_reads_without_the_writers_adapter(base, several):
    from llmlab.alignment.decoding import contrastive

    alone = lab.model(f"hf/{base}", device="cpu", max_tokens=12)
    apart = lab.model(f"hf/{base}", device="cpu", dtype="float32", max_tokens=12)
    texts = [
        beside(base, several[0]).through(contrastive(expert)).generate(PROMPTS[0]).text for expert in (alone, apart)
    ]
    assert alone.load().model is not apart.load().model
    assert texts[0] == texts[1]


def test_standing_changes_of_the_base_do_not_reach_its_adapters(base, several):
    import numpy as np

    from llmlab.alignment.vectors import Steering

    alone, adapted = lab.model(f"hf/{base}", device="cpu", max_tokens=12), beside(base, several[0])
    width = alone.load().model.config.hidden_size
    push = Steering({0: np.full(width, 3.0, dtype=np.float32)})
    plain = [scores(alone), scores(adapted)]
    with push.on(alone):
        assert scores(alone) != plain[0]
        assert scores(adapted) == plain[1]
    with push.on(adapted):
        assert scores(alone) == plain[0]
        assert scores(adapted) != plain[1]
    assert [scores(alone), scores(adapted)] == plain


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "biases of its own"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
    ids=["dora", "bias", "embeddings", "whole modules"],
)
def test_what_cannot_stay_beside_is_merged_and_says_why(base, make, settings, why):
    adapter = make(**settings)
    model = beside(base, adapter)
    assert why in not_beside(adapter)
    assert why in model.settings_used["adapter"]
    assert scores(model) == pytest.approx(scores(merged(base, adapter)), abs=1e-5)


def test_what_is_exported_has_the_adapter(base, several, tmp_path):
    pytest.importorskip("gguf")
    from llmlab.finetune import gguf

    model = beside(base, several[0])
    file = gguf.write(model, tmp_path / "m.gguf", "float32")
    assert scores(lab.model(f"gguf/{file}", device="cpu")) == pytest.approx(scores(model), abs=1e-3)


def test_an_adapter_for_another_shape_is_refused(make, tmp_path, several):
    wide = tiny_model(tmp_path / "wide", hidden_size=128)
    with pytest.raises(DataError, match=r"does not fit its base: .* is a matrix .* what is added to it"):
        beside(wide, several[0]).generate("The")
    with pytest.raises(BadRequest, match="names its base"):
        lab.model(f"hf/{wide}+{several[0]}", base="micro/base")


def test_an_adapter_for_other_weights_is_refused_by_their_fingerprint(base, make, tmp_path):
    import json

    adapter = make()
    other = tiny_model(tmp_path / "other", seed=1)
    own = lab.model(f"hf/{base}").source.fingerprint
    (adapter / "llmlab.json").write_text(json.dumps({"base": f"hf/{base}", "weights": own}))
    assert beside(base, adapter).generate("The").text
    with pytest.raises(DataError, match="On another base an adapter means nothing"):
        beside(other, adapter).generate("The")


def test_a_server_has_the_base_and_its_adapters_by_name(base, several):
    openai = pytest.importorskip("openai")
    names = [f"hf/{base}+{several[0]}", f"hf/{base}", f"hf/{base}+{several[1]}"]
    models = [lab.model(name, max_tokens=12) for name in names]
    expected = [model.generate(PROMPTS[0]).text for model in models]
    with (
        lab.serve(models, store="sqlite://") as server,
        openai.OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client,
    ):
        assert [one.id for one in client.models.list()] == names
        asked = [{"role": "user", "content": PROMPTS[0]}]
        replies = [client.chat.completions.create(model=name, messages=asked, max_tokens=12) for name in names]
        found = [reply.choices[0].message.content for reply in replies]
        weights = {id(model.load().model) for model in server.models.values()}
    assert found == expected
    assert len(set(expected)) == 3
    assert len(weights) == 1


def test_a_folder_with_a_plus_in_its_name_is_a_model(tmp_path):
    folder = tiny_model(tmp_path / "a+b")
    assert lab.model(f"hf/{folder}", device="cpu", max_tokens=2).generate("The").text is not None
    with pytest.raises(DataError, match="holds no adapter"):
        lab.model(f"hf/{folder}+{tmp_path}").load()
