from __future__ import annotations

import math
import random

import pytest
import torch

from llmlab.errors import BadRequest, ProviderError
from llmlab.models.local import attention, forward, scoring
from llmlab.models.local.forward import Prefixes
from llmlab.models.local.tokens import Pair
from llmlab.models.local.transformers import TransformersModel
from llmlab.testing.tiny import FAMILIES, WORDS

SHOTS = "".join(f"Question: how many is {i}?\nAnswer: {i} apples\n\n" for i in range(4))


def direct(reference, context, continuation, limit=256):
    """One pair scored alone by transformers' own forward pass."""
    model, tokenizer = reference
    head, whole = tokenizer.encode(context), tokenizer.encode(context + continuation)
    target = whole[len(head) :]
    ids = (head + target)[-(limit + 1) :]
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)[-len(target) :]
    picked = logprobs.gather(1, torch.tensor(target)[:, None])
    return float(picked.sum()), logprobs.argmax(-1).tolist() == target


def questions(n=6, seed=0):
    rng = random.Random(seed)
    words = WORDS.split()
    made = []
    for _ in range(n):
        question = " ".join(rng.choices(words, k=rng.randint(3, 20)))
        options = [" " + " ".join(rng.choices(words, k=rng.randint(1, 6))) for _ in range(4)]
        made.append((f"{SHOTS}Question: {question}\nAnswer:", options))
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_its_own_forward_pass(lm, reference, family):
    queries = questions()
    for (context, options), got in zip(queries, lm(family).logprob_batch(queries), strict=True):
        for option, found in zip(options, got, strict=True):
            logprob, greedy = direct(reference(family), context, option)
            assert found.logprob == pytest.approx(logprob, abs=2e-4)
            assert found.is_greedy == greedy


@pytest.mark.parametrize("budget", [1, 64, 4096])
def test_the_batch_does_not_change_the_result(folder, lm, budget):
    queries = [*questions(), ("", ["The", "A"]), ("The river", [" runs"]), ("The river", [" runs", " runs past"])]
    small = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1, batch_tokens=budget)
    alone = [lm("llama").logprob(*query) for query in queries]
    for one, many in zip(alone, small.logprob_batch(queries), strict=True):
        assert [r.logprob for r in many] == pytest.approx([r.logprob for r in one], abs=1e-4)
        assert [r.is_greedy for r in many] == [r.is_greedy for r in one]


def test_greedy_is_told_from_likely(lm, reference):
    model, tokenizer = reference("llama")
    ids = tokenizer.encode("The river runs")
    out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=4, do_sample=False)
    written = out[0, len(ids) :].tolist()
    pairs = [Pair(tuple(ids), tuple(written)), Pair(tuple(ids), (*written[:-1], (written[-1] + 1) % 400))]
    assert [r.is_greedy for r in scoring.score(lm("llama").load(), pairs, 512, None).values()] == [True, False]


def test_a_long_context_loses_its_beginning_and_counts_it(lm, reference):
    context = (WORDS * 6).strip()
    (found,) = lm("llama").logprob(context, [" she has two"])
    logprob, _ = direct(reference("llama"), context, " she has two")
    assert found.logprob == pytest.approx(logprob, abs=2e-4)
    ids = len(reference("llama")[1].encode(context + " she has two")) - 1
    assert found.truncated == ids - 256


def test_a_continuation_longer_than_the_context_fails_alone(lm):
    good, bad = lm("llama").logprob_batch([("The river", [" runs"]), ("The", [WORDS * 4])])
    assert good[0].logprob < 0
    assert isinstance(bad, BadRequest)
    assert "does not fit into the model's context of 256" in str(bad)


def test_an_empty_continuation_fails_alone(lm):
    bad, good = lm("llama").logprob_batch([("The river", [""]), ("The river", [" runs"])])
    assert isinstance(bad, BadRequest)
    assert good[0].logprob < 0


def test_no_queries_and_no_continuations_are_nothing(lm):
    assert lm("llama").logprob_batch([]) == []
    assert lm("llama").logprob("The river", []) == []


def test_nan_logits_fail_their_row_and_no_other(folder):
    lm = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1)
    lm.load().model.get_input_embeddings().weight[lm.load().tokenizer.encode("日")] = math.nan
    good, bad = lm.logprob_batch([("The river", [" runs"]), ("日", [" runs"])])
    assert good[0].logprob < 0
    assert isinstance(bad, ProviderError)
    assert "NaN" in str(bad)


@pytest.mark.parametrize("path", ["_pass", "_pass_plain"])
def test_out_of_memory_halves_the_batch_and_goes_on(lm, monkeypatch, path):
    sizes = []
    real = getattr(scoring, path)

    def tight(loaded, batch, *more):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(loaded, batch, *more)

    pairs = [pair for query in questions(6) for pair in lm("llama")._engine.tokens.pairs(*query)]
    loaded = lm("llama").load()
    prefixes = Prefixes(loaded, 1 << 20) if path == "_pass" else None
    expected = scoring.score(loaded, pairs, 100_000, prefixes)
    monkeypatch.setattr(scoring, path, tight)
    found = scoring.score(loaded, pairs, 100_000, prefixes)
    assert max(sizes) > 2
    assert [found[i].logprob for i in range(len(pairs))] == pytest.approx(
        [expected[i].logprob for i in range(len(pairs))], abs=1e-4
    )


def test_a_sequence_that_never_fits_fails_alone(lm, monkeypatch):
    real = scoring._pass

    def tight(loaded, batch, *more):
        if any(unit.size() > 40 for unit in batch):
            raise torch.OutOfMemoryError("out of memory")
        return real(loaded, batch, *more)

    monkeypatch.setattr(scoring, "_pass", tight)
    good, bad = lm("llama").logprob_batch([("The river", [" runs"]), (WORDS[:300], [" runs"])])
    assert good[0].logprob < 0
    assert isinstance(bad, ProviderError)
    assert "out of memory" in str(bad)


@pytest.mark.parametrize(
    "family",
    [
        "llama",
        "gpt2",
        "qwen3",
        "mistral",
        "gemma3_text",
        "phi3",
        "smollm3",
        "olmo",
        "mixtral",
        "olmoe",
        "qwen2_moe",
        "qwen3_moe",
    ],
)
def test_what_the_numbers_were_computed_with_is_recorded(lm, family):
    used = lm(family).settings_used
    assert (used["device"], used["dtype"], used["context"]) == ("cpu", "float32", 256)
    assert used["attention"] == "packed"
    # beyond its window every sequence takes the plain path
    assert used["packed_up_to"] == FAMILIES[family].get("sliding_window", 256)


@pytest.mark.parametrize("family", ["bloom", "mamba"])
def test_other_architectures_take_the_plain_path_and_say_so(lm, family):
    used = lm(family).settings_used
    assert used["attention"] != "packed"
    assert used["attention_note"]


def test_capped_logits_of_attention_take_the_plain_path(lm):
    # gemma2 caps the scores of its attention, which packed attention does not do
    assert lm("gemma2").settings_used["attention"] != "packed"
    assert lm("gemma2").settings_used["attention_note"]


def test_the_form_for_other_devices_gives_the_same(folder, lm, monkeypatch):
    queries = questions(4)
    expected = lm("llama").logprob_batch(queries)
    monkeypatch.setattr(attention, "on_cpu", lambda x: False)
    fresh = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1)
    for one, other in zip(expected, fresh.logprob_batch(queries), strict=True):
        assert [r.logprob for r in other] == pytest.approx([r.logprob for r in one], abs=1e-4)
    assert fresh.settings_used["attention"] == "packed"


def test_later_calls_use_the_prefixes_of_earlier_ones(folder, monkeypatch):
    lm = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1)
    queries = questions(6)
    lm.logprob_batch(queries[:2])
    read = []
    real = scoring.forward

    def counted(loaded, ids, *more):
        read.append(len(ids[0]))
        return real(loaded, ids, *more)

    monkeypatch.setattr(scoring, "forward", counted)
    monkeypatch.setattr(forward, "forward", counted)
    found = lm.logprob_batch(queries[2:3])
    shots = len(lm.load().tokenizer.encode(SHOTS))
    whole = len(lm.load().tokenizer.encode(queries[2][0])) + sum(r.tokens - 1 for r in found[0])
    assert sum(read) <= whole - shots + 2


def test_changed_weights_are_noticed(folder):
    lm = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1)
    queries = questions(3)
    before = lm.logprob_batch(queries)
    with torch.no_grad():
        lm.load().model.model.layers[0].mlp.up_proj.weight.mul_(1.5)
    after = lm.logprob_batch(queries)
    fresh = scoring.score(lm.load(), lm._engine.tokens.pairs(*queries[0]), 4096, None)
    assert after[0][0].logprob != pytest.approx(before[0][0].logprob, abs=1e-3)
    assert [r.logprob for r in after[0]] == pytest.approx([fresh[i].logprob for i in range(4)], abs=2e-4)
