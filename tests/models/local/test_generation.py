from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmlab.errors import BadRequest, DataError, ProviderError
from llmlab.models.local import decoding, generation, transformers
from llmlab.models.local.coalesce import Job
from llmlab.models.local.transformers import TransformersModel
from llmlab.models.registry import model
from llmlab.testing.tiny import FAMILIES, WORDS, tiny_model
from llmlab.types import Message, Options, Request

PROMPTS = [
    "The river runs",
    "Question: how many apples?\nAnswer:",
    "A",
    "In winter the children skate on the frozen pond,",
]


def plain(text, repeat=0, **options):
    return Request((Message("user", text),), Options(**options), template=False, repeat=repeat)


def direct(reference, text, n):
    """Greedy tokens by transformers' own generate, one prompt at a time."""
    model, tokenizer = reference
    ids = torch.tensor([tokenizer.encode(text)])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_its_own_generate(lm, reference, family):
    responses = lm(family).generate_batch([plain(p, max_tokens=24) for p in PROMPTS])
    for prompt, response in zip(PROMPTS, responses, strict=True):
        expected = direct(reference(family), prompt, 24)
        assert response.text == reference(family)[1].decode(expected, skip_special_tokens=True)
        assert response.usage.output_tokens == sum(t != 2 for t in expected)
        assert response.finish_reason == ("stop" if 2 in expected else "length")


def test_a_rotary_scaling_that_changes_with_the_length_equals_generate(tmp_path):
    """Phi-3.5 and Phi-4-mini beyond 4096 tokens: answers that cross the length, and neighbours on its other side."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    limit = {"original_max_position_embeddings": 64}
    folder = tiny_model(
        tmp_path, "phi3", sliding_window=None, rope_parameters=rope | limit | {"partial_rotary_factor": 0.5}, **limit
    )
    lm = TransformersModel(f"hf/{folder}", device="cpu", threads=1)
    own = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval(), lm.load().tokenizer
    words = WORDS.split()
    prompts = [" ".join(words[:n]) for n in (3, 17, 20, 24, 40, 60)]
    lengths = [len(own[1].encode(prompt)) for prompt in prompts]
    assert sum(n <= 64 < n + 24 for n in lengths) > 1 and sum(n > 64 for n in lengths) > 1
    responses = lm.generate_batch([plain(prompt, max_tokens=24) for prompt in prompts])
    for prompt, response in zip(prompts, responses, strict=True):
        assert response.text == own[1].decode(direct(own, prompt, 24), skip_special_tokens=True)


def test_a_batch_answers_like_single_calls(lm):
    requests = [
        plain(p, max_tokens=n, temperature=t) for p, n, t in zip(PROMPTS, [3, 30, 9, 17], [0, 1, 0, 1.5], strict=True)
    ]
    together = lm("llama").generate_batch(requests)
    alone = [lm("llama").generate(r) for r in requests]
    assert [r.text for r in together] == [r.text for r in alone]
    assert [r.usage for r in together] == [r.usage for r in alone]


def test_seed_and_repeat_pick_the_answer(lm):
    ask = lm("llama").generate
    first = ask(plain("The", temperature=1.0, max_tokens=20)).text
    assert ask(plain("The", temperature=1.0, max_tokens=20)).text == first
    others = {
        ask(plain("The", temperature=1.0, max_tokens=20, seed=1)).text,
        ask(plain("The", repeat=1, temperature=1.0, max_tokens=20)).text,
        ask(plain("The", repeat=2, temperature=1.0, max_tokens=20)).text,
    }
    assert len(others | {first}) == 4


def test_sampling_follows_the_distribution():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    source = torch.Generator().manual_seed(0)
    n = 4000
    draws = [generation.sample(logits, Options(temperature=2.0), source) for _ in range(n)]
    for token, p in enumerate(torch.softmax(logits / 2.0, -1).tolist()):
        assert draws.count(token) / n == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"top_k": 1}, {2}),
        ({"top_k": 2}, {1, 2}),
        ({"top_p": 0.01}, {2}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"top_p": 1.0}, {0, 1, 2, 3}),
    ],
)
def test_top_k_and_top_p_cut_the_tail(options, allowed):
    # probabilities .09 .24 .64 .03
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    source = torch.Generator().manual_seed(0)
    assert {generation.sample(logits, Options(temperature=1.0, **options), source) for _ in range(400)} == allowed


def test_the_answer_is_cut_at_the_first_stop_string(lm):
    whole = lm("llama").generate(plain("The river runs", max_tokens=40)).text
    stop = whole[7:10]
    cut = lm("llama").generate(plain("The river runs", max_tokens=40, stop=("never this", stop)))
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.usage.output_tokens < 40


def test_a_stop_string_ends_its_own_row_only(lm):
    whole = [lm("llama").generate(plain(p, max_tokens=30)).text for p in PROMPTS]
    stop = whole[1][5:8]
    requests = [plain(p, max_tokens=30, stop=(stop,) if i == 1 else None) for i, p in enumerate(PROMPTS)]
    found = [r.text for r in lm("llama").generate_batch(requests)]
    assert found == [whole[0], whole[1][: whole[1].index(stop)], *whole[2:]]


def test_a_long_prompt_loses_its_beginning_and_the_response_says_so(lm):
    response = lm("llama").generate(plain(WORDS * 5, max_tokens=16))
    assert response.usage.input_tokens == 256 - 16
    assert response.usage.output_tokens <= 16
    total = len(lm("llama").load().tokenizer.encode(WORDS * 5))
    assert response.notes == (f"the prompt was too long: its first {total - 240} tokens were cut off",)


def test_a_max_tokens_beyond_the_context_keeps_half_of_it_for_the_prompt(lm):
    response = lm("llama").generate(plain(WORDS * 5, max_tokens=10_000))
    assert response.usage.input_tokens == 128
    assert response.usage.output_tokens <= 128


def test_the_response_has_usage_time_cost_and_version(lm):
    response = lm("llama").generate(plain("The river runs", max_tokens=5, effort="high"))
    assert response.usage.input_tokens == len(lm("llama").load().tokenizer.encode("The river runs"))
    assert response.seconds > 0
    assert 0 < response.cost < 0.01
    assert "machine-hour" in response.price
    assert len(response.model_version) == 16
    assert response.dropped == ("effort",)
    assert response.applied == Options(max_tokens=5)


def test_seconds_of_a_batch_are_shared_out(lm):
    import time

    began = time.perf_counter()
    responses = lm("llama").generate_batch([plain(p, max_tokens=10) for p in PROMPTS])
    assert 0 < sum(r.seconds for r in responses) <= time.perf_counter() - began


def test_streamed_pieces_make_the_answer(lm):
    whole = lm("llama").generate(plain("The river runs", max_tokens=30))
    chunks = list(lm("llama").stream(plain("The river runs", max_tokens=30)))
    assert "".join(c.text for c in chunks) == whole.text
    assert len(chunks) > 5
    last = chunks[-1].response
    assert (last.text, last.usage, last.finish_reason) == (whole.text, whole.usage, whole.finish_reason)
    assert 0 < last.first_token_seconds <= last.seconds


def test_a_stream_never_shows_a_part_of_a_stop_string(lm):
    whole = lm("llama").generate(plain("The river runs", max_tokens=40)).text
    stop = whole[10:16]
    chunks = [c.text for c in lm("llama").stream(plain("The river runs", max_tokens=40, stop=(stop,)))]
    assert "".join(chunks) == whole[: whole.index(stop)]


def test_other_calls_go_through_while_a_stream_is_open(lm):
    stream = lm("llama").stream(plain("The river runs", max_tokens=20))
    start = next(stream).text
    between = lm("llama").generate(plain("A", max_tokens=5)).text
    assert start + "".join(c.text for c in stream) == lm("llama").generate(plain("The river runs", max_tokens=20)).text
    assert between == lm("llama").generate(plain("A", max_tokens=5)).text


def test_log_probabilities_of_the_answer_come_when_asked_for(lm):
    response = lm("llama").generate(plain("The river runs", max_tokens=6, top_logprobs=3))
    assert len(response.logprobs) == response.usage.output_tokens
    for token in response.logprobs:
        assert len(token.top) == 3
        assert token.top[0] == (token.token, pytest.approx(token.logprob))
    scored = lm("llama").logprob("The river runs", [response.text])[0]
    if scored.tokens == len(response.logprobs):  # the text need not split into the same tokens again
        assert scored.logprob == pytest.approx(sum(t.logprob for t in response.logprobs), abs=1e-3)


def test_nan_logits_fail_their_row_and_no_other(folder):
    lm = TransformersModel(f"hf/{folder('llama')}", device="cpu", threads=1)
    lm.load().model.get_input_embeddings().weight[lm.load().tokenizer.encode("日")] = math.nan
    good, bad = lm.generate_batch([plain("The river", max_tokens=5), plain("日", max_tokens=5)])
    assert good.usage.output_tokens == 5
    assert isinstance(bad, ProviderError)


def test_out_of_memory_halves_the_batch_and_goes_on(lm, monkeypatch):
    requests = [plain(p, max_tokens=8, temperature=t) for p, t in zip(PROMPTS, [0, 1, 0, 1], strict=True)]
    expected = [r.text for r in lm("llama").generate_batch(requests)]
    step = decoding.PackedDecoder.step

    def tight(self, tokens):
        if len(tokens) > 2 and max(self._lengths) > 15:
            raise torch.OutOfMemoryError("out of memory")
        return step(self, tokens)

    monkeypatch.setattr(decoding.PackedDecoder, "step", tight)
    assert [r.text for r in lm("llama").generate_batch(requests)] == expected


def test_a_prompt_that_never_fits_fails_alone(lm, monkeypatch):
    add = decoding.PackedDecoder.add

    def tight(self, prompts):
        if max(map(len, prompts)) > 10:
            raise torch.OutOfMemoryError("out of memory")
        return add(self, prompts)

    monkeypatch.setattr(decoding.PackedDecoder, "add", tight)
    good, bad = lm("llama").generate_batch([plain("A", max_tokens=3), plain(PROMPTS[3], max_tokens=3)])
    assert good.usage.output_tokens == 3
    assert isinstance(bad, ProviderError)
    assert "out of memory" in str(bad)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_tokens": 0}, "max_tokens should be at least 1, it is 0"),
        ({"max_tokens": "5"}, "max_tokens should be at least 1, it is '5'"),
        ({"temperature": "hot"}, r"temperature should be 0 \(greedy\) or more, it is 'hot'"),
        ({"top_p": 7}, "top_p should be from 0 to 1, it is 7"),
        ({"top_k": -1}, r"top_k should be 0 \(all tokens\) or more, it is -1"),
        ({"temperature": -1.0}, r"temperature .* it is -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(lm, options, says):
    with pytest.raises(BadRequest, match=says):
        lm("llama").generate(plain("The", **options))
    good, bad = lm("llama").generate_batch([plain("The", max_tokens=2), plain("The", **options)])
    assert good.usage.output_tokens == 2
    assert isinstance(bad, BadRequest)


@pytest.mark.parametrize("setting", [{"threads": 0}, {"threads": "2"}, {"batch_tokens": 0}, {"batch_tokens": -5}])
def test_settings_that_make_no_sense_are_refused(setting):
    ((name, value),) = setting.items()
    with pytest.raises(BadRequest, match=f"{name} should be a whole number of at least 1, it is {value!r}"):
        model("micro/tiny", **setting)


def test_a_revision_of_an_embedded_model_is_refused():
    with pytest.raises(DataError, match=r"revision='v2' is for models of the hub; .* is a folder here: leave it out"):
        model("micro/tiny", revision="v2").generate("The")


def test_a_prompt_over_the_context_is_a_note_and_no_warning_of_transformers(caplog, capfd):
    answer = model("micro/tiny", max_tokens=2).generate("river " * 2000)
    assert "too long" in answer.notes[0]
    assert "indexing errors" not in caplog.text + capfd.readouterr().err


def test_an_empty_stop_string_stops_nothing(lm):
    whole = lm("llama").generate(plain("The river runs", max_tokens=9)).text
    assert lm("llama").generate(plain("The river runs", max_tokens=9, stop=("",))).text == whole


def test_a_failure_of_one_row_leaves_the_others_their_answers(lm, monkeypatch):
    expected = [lm("llama").generate(plain(p, max_tokens=8)).text for p in PROMPTS]
    take = generation.Row.take

    def fragile(self, token):
        if self.prompt == tuple(self.tokens.encode(PROMPTS[1])) and len(self.written) == 3:
            raise ZeroDivisionError("broken")
        take(self, token)

    monkeypatch.setattr(generation.Row, "take", fragile)
    found = lm("llama").generate_batch([plain(p, max_tokens=8) for p in PROMPTS])
    assert isinstance(found[1], ProviderError)
    assert "ZeroDivisionError: broken" in str(found[1])
    assert [r.text for i, r in enumerate(found) if i != 1] == [t for i, t in enumerate(expected) if i != 1]


def test_a_batch_that_was_interrupted_is_written_again_from_the_start(lm, monkeypatch):
    expected = lm("llama").generate(plain(PROMPTS[0], max_tokens=8, temperature=1.0)).text
    step = decoding.PackedDecoder.step
    steps = []

    def interrupted(self, tokens):
        steps.append(len(tokens))
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(self, tokens)

    monkeypatch.setattr(decoding.PackedDecoder, "step", interrupted)
    engine = lm("llama")._engine
    draft = transformers._Draft(engine, plain(PROMPTS[0], max_tokens=8, temperature=1.0))
    job = Job(draft.prompted)

    def work_to_the_end():
        new = [job]
        while not job.done:
            engine._work(new)
            new = []

    with pytest.raises(KeyboardInterrupt):
        work_to_the_end()
    assert not job.done
    assert draft.row.written
    work_to_the_end()
    assert draft.outcome().text == expected
