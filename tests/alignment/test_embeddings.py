"""Real sentence-transformers models, small and random: everything that takes an embedding model takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="an extra")
pytest.importorskip("sentence_transformers", reason="an extra")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

import llmlab as lab
from llmlab import scorers
from llmlab.alignment import constitution, drift, nearest, preferences
from llmlab.alignment.drift import energy_test
from llmlab.alignment.preference import PreferenceModel
from llmlab.alignment.principles import framework
from llmlab.models.scripted import Scripted
from llmlab.scorers import embedding
from llmlab.types import Request, Sample
from tests.alignment.tiny import lm

TEXTS = ("The river runs past the old mill.", "the baker sells BREAD", "a", "word " * 300, "naïve 日本")
PAIR = {"prompt": "Who sells?", "chosen": "The baker sells bread.", "rejected": "The river runs."}


def made(folder: Path, kind: str) -> str:
    """A two-layer transformer with mean pooling, and what its name says on top."""
    lm().load().tokenizer.save_pretrained(folder / "reads")
    lm().load().model.base_model.save_pretrained(folder / "reads")
    if kind != "chat":
        (folder / "reads" / "chat_template.jinja").unlink()
    modules: list[Any] = [Transformer(str(folder / "reads")), Pooling(64, "mean")]
    if kind == "dense":
        modules.append(Dense(64, 16))
    prompts: Any = {"prompts": {"query": "Question: "}, "default_prompt_name": "query"} if kind == "prompt" else {}
    SentenceTransformer(modules=modules, device="cpu", **prompts).save(str(folder / kind))
    if kind == "lower":
        path = folder / kind / "sentence_bert_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": True}))
    return str(folder / kind)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("embeddings")
    return {kind: made(folder, kind) for kind in ("mean", "dense", "chat", "prompt", "lower")}


def test_numbers_are_those_of_the_package(models: dict[str, str]) -> None:
    for kind, model in models.items():
        theirs = SentenceTransformer(model, device="cpu")
        for text in TEXTS:
            expected = theirs.encode(text, normalize_embeddings=True)
            assert np.abs(embedding.encoder(model)(text) - expected).max() < 1e-5, (kind, text)
    assert [kind for kind, model in models.items() if embedding._pooling(model)] == ["mean"]


def test_similarity_scores_answers(models: dict[str, str]) -> None:
    for model in models.values():
        scorer = scorers.similarity(model)
        assert scorer(TEXTS[0], Sample("?", target=TEXTS[0])).value == pytest.approx(1, abs=1e-5)
        assert scorer(TEXTS[1], Sample("?", target=TEXTS[0])).metrics["cosine"] < 0.999
        assert scorer(" ", Sample("?", target=TEXTS[0])).value == scorer.cosine("", TEXTS[0]) == 0


@pytest.mark.parametrize("kind", ["mean", "dense"])
def test_a_reward_is_learnt_on_it_and_read_again(models: dict[str, str], kind: str, tmp_path: Path) -> None:
    learnt = preferences(models[kind]).learn([PAIR] * 3)
    good, bad = (learnt.reward(PAIR["prompt"], PAIR[which]) for which in ("chosen", "rejected"))
    assert good > bad and learnt.features(["?"], ["a"]).shape == (1, 64 if kind == "mean" else 16)
    assert learnt.choose([("?", "a", "b"), ("?", TEXTS[0], TEXTS[1])]) in (0, 1)
    learnt.save(tmp_path)
    assert PreferenceModel.load(tmp_path).reward(PAIR["prompt"], PAIR["chosen"]) == pytest.approx(good)


def test_the_nearest_principle_is_looked_at(models: dict[str, str]) -> None:
    principles = [
        {"id": which, "text": text, "severity": "medium", "check": {"patterns": ["."]}}
        for which, text in {"bread": "The baker sells bread.", "river": "The river runs past the mill."}.items()
    ]
    for model in models.values():
        house = constitution({"framework": "house", "principles": principles}, select=nearest(1, embed=model), tries=1)
        for which, text in (("bread", "The baker sells bread."), ("river", "The river runs past the mill.")):
            answer = Scripted("Yes.").through(house).generate(text)
            assert set(lab.alignment.audit(answer)["principle"]) == {which}
    assert nearest(1, embed=models["mean"]).similarity(Request.of(""), framework("careful").principles[0]) == 0


def test_drift_measures_distance_by_it(models: dict[str, str]) -> None:
    seen = []

    def embed(texts: Sequence[str]) -> Any:
        seen.append(SentenceTransformer(models["dense"], device="cpu").encode(list(texts)))
        return seen[-1]

    prompts = ["The river", "In winter", "Mira buys"]
    found = drift(lm(), lm("llama", 1), prompts, embed=embed, permutations=50, max_tokens=8)
    assert [vectors.shape for vectors in seen] == [(3, 16), (3, 16)]
    expected, _ = energy_test(*(v.astype(float) for v in seen), np.random.default_rng(0), 50)
    assert found.distance.value == pytest.approx(expected.value) != 0
