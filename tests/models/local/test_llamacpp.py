"""llama.cpp computes what we compute, from a file that we wrote."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("llama_cpp", reason="an extra that is compiled: pip install 'llmlab[llamacpp]'")
pytest.importorskip("gguf")

import llmlab as lab
from llmlab.errors import BadRequest, DataError, LabError, NeedsLocalModel, UnknownName
from llmlab.finetune import gguf

QUESTIONS = ("What is the opposite of hot?", "Tom has 3 apples and buys 4 more. How many apples has Tom?")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return gguf.write(lab.model("micro/base"), tmp_path_factory.mktemp("gguf") / "base.gguf", "float16")


@pytest.fixture(scope="module")
def model(file):
    return lab.model(f"llamacpp/{file}", max_tokens=40)


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_our_engine(model, question):
    ours, theirs = lab.model("micro/base", max_tokens=40).generate(question), model.generate(question)
    assert theirs.text == ours.text
    assert (theirs.usage, theirs.finish_reason) == (ours.usage, ours.finish_reason)


def test_log_likelihoods_are_those_of_our_engine(model):
    asked = ("The baker sells", [" bread", " the old mill", " red"])
    ours, theirs = lab.model("micro/base").logprob(*asked), model.logprob(*asked)
    assert [x.logprob for x in theirs] == pytest.approx([x.logprob for x in ours], abs=0.02)
    assert [(x.tokens, x.is_greedy) for x in theirs] == [(x.tokens, x.is_greedy) for x in ours]


@pytest.mark.parametrize(("kind", "size"), [("q8_0", 0.6), ("q4_k_m", 0.35), ("Q6_K", 0.45)])
def test_quantised_files_are_computed_as_we_compute_them_unpacked(file, tmp_path, kind, size):
    small = gguf.write(lab.model("micro/base"), tmp_path / "small.gguf", kind)
    assert small.stat().st_size < size * file.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]
    ours, theirs = (lab.model(f"{engine}/{small}", max_tokens=12) for engine in ("gguf", "llamacpp"))
    asked = ("The baker sells", [" bread", " the old mill", " red"])
    # llama.cpp has 8 bits for what goes into a product, too
    expected = [x.logprob for x in ours.logprob(*asked)]
    assert [x.logprob for x in theirs.logprob(*asked)] == pytest.approx(expected, rel=0.01, abs=0.1)
    assert theirs.generate(QUESTIONS[0]).text == ours.generate(QUESTIONS[0]).text
    assert "".join(chunk.text for chunk in theirs.stream(QUESTIONS[0])) == theirs.generate(QUESTIONS[0]).text


def test_a_benchmark_scores_as_it_does_with_us(model, tmp_path):
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    results = lab.evaluate({"ours": "micro/base", "llama.cpp": model}, "micro/arc", n=20, store=store, progress=False)
    table = results.compare("ours").table
    assert abs(float(table["difference"].iloc[0])) <= 0.05


def test_samples_follow_their_seed(model):
    texts = [model.generate("Tell a story.", temperature=1.0, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_tokens_come_with_their_alternatives(model):
    found = model.generate(QUESTIONS[0], top_logprobs=3, max_tokens=4).logprobs
    assert len(found) == 4
    for token in found:
        assert len(token.top) == 3 and token.logprob == pytest.approx(token.top[0][1])  # greedy


def test_a_stop_sequence_ends_the_writing(model):
    whole = model.generate(QUESTIONS[1])
    cut = model.generate(QUESTIONS[1], stop="answer")
    assert cut.text == whole.text[: whole.text.index("answer")]
    assert cut.usage.output_tokens < whole.usage.output_tokens


def test_a_long_prompt_loses_its_beginning_and_says_so(model):
    response = model.generate("The river runs past the mill. " * 400, max_tokens=8)
    assert any("tokens were cut off" in note for note in response.notes)
    assert model.logprob("The river runs past the mill. " * 400, [" The"])[0].truncated > 0


def test_threads_take_turns_and_a_thread_that_holds_a_stream_is_told(model):
    alone = [model.generate(q).text for q in QUESTIONS]
    found = {}
    threads = [threading.Thread(target=lambda q=q: found.update({q: model.generate(q).text})) for q in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[q] for q in QUESTIONS] == alone
    stream = model.stream(QUESTIONS[0])
    next(stream)
    with pytest.raises(LabError, match="read its stream to the end first"):
        model.generate(QUESTIONS[1])
    stream.close()
    assert model.generate(QUESTIONS[1]).text == alone[1]


def test_what_it_cannot_do_is_said(model, tmp_path):
    with pytest.raises(UnknownName, match="No file"):
        lab.model(f"llamacpp/{tmp_path}/none.gguf").generate("x")
    (tmp_path / "not.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(DataError, match=r"llama\.cpp cannot read"):
        lab.model(f"llamacpp/{tmp_path}/not.gguf").generate("x")
    with pytest.raises(BadRequest, match="temperature"):
        model.generate("x", temperature=-1)
    with pytest.raises(NeedsLocalModel):
        model.logprob("a", ["b"], (object(),))
