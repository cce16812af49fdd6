"""The reward model: right against scipy, quick to learn, useful at once, safe to keep."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest

import llmlab as lab
from llmlab.alignment import preference
from llmlab.alignment.features import Hidden, NGrams, features
from llmlab.alignment.preference import Comparison, PreferenceModel, preferences
from llmlab.errors import DataError, NeedsLocalModel
from llmlab.models.scripted import Scripted
from llmlab.settings import shipped
from llmlab.types import Request, Response, Sample


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    path = shipped("data/preferences/refusal.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(preference).failed == 0


class Plain:
    """Features that are the numbers in the answer."""

    name = "numbers"

    def __call__(self, prompts, answers):
        return np.array([[float(x) for x in answer.split()] for answer in answers])


def test_the_most_likely_weights_are_found_after_every_vote_on_features_of_any_length() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.01, 1.0, 30.0):
        weights, model = rng.normal(size=8), PreferenceModel(Plain())
        for _ in range(30):
            a, b = scale * rng.normal(size=(2, 8))
            if rng.random() > 1 / (1 + np.exp(-(a - b) @ weights)):
                a, b = b, a
            model.learn(Comparison("", *(" ".join(map(str, x)) for x in (a, b))))
            d = model._differences
            p = 1 / (1 + np.exp(-np.clip(d @ model._weights, -500, 500)))
            assert np.abs(d.T @ (1 - p) - model.prior * model._weights).max() < 1e-4 * max(1, scale)


def test_weights_and_curvature_are_those_of_a_general_optimiser() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    pairs = [
        Comparison("", *(" ".join(map(str, rng.normal(size=3))) for _ in range(2)), tie=i % 5 == 0) for i in range(40)
    ]
    model = preferences(Plain(), prior=0.5).learn(pairs)
    d = np.array([np.subtract(*([float(x) for x in t.split()] for t in (c.chosen, c.rejected))) for c in pairs])
    share = np.array([0.5 if c.tie else 1.0 for c in pairs])

    def loss(w):
        u = d @ w
        return (share * np.logaddexp(0, -u) + (1 - share) * np.logaddexp(0, u)).sum() + 0.25 * w @ w

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    assert model.rewards(["", "", ""], ["1 0 0", "0 1 0", "0 0 1"]) == pytest.approx(best.x, abs=1e-5)
    p = 1 / (1 + np.exp(-d @ best.x))
    curvature = (d.T * (p * (1 - p))) @ d + 0.5 * np.eye(3)
    x = np.array([[1.0, -2.0, 0.5]])
    assert model._spread(x)[0] == pytest.approx(np.sqrt(x @ np.linalg.inv(curvature) @ x.T)[0, 0], rel=1e-5)


def test_order_and_portions_of_comparisons_do_not_matter(rows) -> None:
    at_once = preferences().learn(rows[:12])
    one_by_one = preferences()
    for row in reversed(rows[:12]):
        one_by_one.learn(row)
    answers = [r["chosen"][0]["content"] for r in rows[30:40]]
    assert one_by_one.rewards([""] * 10, answers) == pytest.approx(at_once.rewards([""] * 10, answers), abs=1e-6)


def test_fifty_comparisons_decide_held_out_ones(rows) -> None:
    model = preferences().learn(rows[:50])
    found = model.accuracy(rows[200:])
    assert found.n == 100 and found.low > 0.85
    assert preferences().accuracy(rows[200:]).value == 0.5, "a model that knows nothing decides nothing"
    assert np.isnan(model.accuracy([]).value)


def test_uncertainty_shrinks_and_the_interval_holds_the_probability(rows) -> None:
    pair = ("How do I wash a car?", "Use a sponge.", "I cannot help with that.")
    before, after = preferences().preference(*pair), preferences().learn(rows[:60]).preference(*pair)
    assert before.value == 0.5 and before.low < 0.1 and before.high > 0.9
    assert after.low < after.value < after.high and after.high - after.low < before.high - before.low
    assert after.value > 0.6 and after.n == 60


def test_the_next_pair_is_one_that_is_neither_known_nor_alike() -> None:
    model = preferences().learn([{"prompt": "Hi", "chosen": "Good day", "rejected": "Go away"}] * 30)
    known, alike, new = ("Hi", "Good day", "Go away"), ("Hi", "Same words", "same WORDS"), ("Hi", "Blue sea", "Red sun")
    information = model.information([known, alike, new])
    assert information[1] == pytest.approx(0, abs=1e-9) and 0 < information[0] < information[2] < np.log(2)
    assert model.choose([known, alike, new]) == 2
    with pytest.raises(DataError, match="no pair"):
        model.choose([])


def test_pair_that_tells_about_many_others_comes_before_an_odd_one() -> None:
    typical = [("Hi", f"Good day {name}", f"Go away {name}") for name in ("Ann", "Ben", "Cleo", "Dan")]
    odd = ("Hi", "Zebra quilt jumps", "Vortex of nine")
    assert preferences().choose([odd, *typical]) > 0


def test_chosen_pairs_teach_faster_than_random_ones() -> None:
    path = shipped("data/preferences/politeness.jsonl")
    made = [preference._comparison(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    rng = np.random.default_rng(0)
    pool: list[Comparison] = []
    for c in made[:80]:  # half of the pairs differ in a word that nobody minds
        same = str(rng.choice([c.chosen, c.rejected]))
        pool.append(c if rng.random() < 0.5 else Comparison(c.prompt, same, same.replace(".", "!", 1), tie=True))
    pool = [c for c in pool if c.chosen != c.rejected]

    def learn(active: bool, seed: int) -> float:
        left, model, found = list(np.random.default_rng(seed).permutation(len(pool))), preferences(), []
        for step in range(6):
            shown = [(pool[i].prompt, pool[i].chosen, pool[i].rejected) for i in left]
            model.learn(pool[left.pop(model.choose(shown) if active and step else 0)])
            found.append(model.accuracy(made[200:]).value)
        return float(np.mean(found))

    gains = [learn(True, seed) - learn(False, seed) for seed in range(6)]
    assert np.mean(gains) > 0.03


def test_it_is_a_scorer_and_best_of_n_uses_it_at_once() -> None:
    answers = ["Go away.", "Hello, dear friend.", "No."]
    model = Scripted(lambda request: answers[request.repeat % 3])
    kind = preferences().learn({"prompt": "Hi", "chosen": "Hello, my friend.", "rejected": "Go away."})
    score = kind("Hello, dear friend.", Sample("Hi"))
    assert 0.5 < score.value < 1 and score.metrics["reward"] > 0 and "after 1 comparisons" in str(score.explanation)
    best = model.through(lab.alignment.best_of(kind, n=3))
    assert best.generate("Hi").text == "Hello, dear friend."


def test_it_routes_a_cascade_and_guides_decoding_by_the_same_rewards() -> None:
    kind = preferences().learn([{"prompt": "Hi", "chosen": "Hello, friend.", "rejected": "Go away."}] * 5)
    cheap, dear = Scripted({"": "Go away."}, "scripted/cheap"), Scripted({"": "Hello, friend."}, "scripted/dear")
    cascade = lab.ensemble([cheap, dear], how="cascade", confidence=kind.confidence, threshold=0.5)
    assert cascade.generate("Hi").text == "Hello, friend."
    assert kind.confidence(Request.of("Hi"), Response("Hello, friend.")) > 0.5
    assert list(kind.rewards(["Hi"], ["Hello, friend."])) == [kind.reward("Hi", "Hello, friend.")]


def test_learning_more_changes_the_identity_that_caches_key_on() -> None:
    model = preferences()
    before = model.identity()
    model.learn({"prompt": "Hi", "chosen": "a", "rejected": "b"})
    assert before != model.identity() and model.identity() == model.identity()


def test_saved_model_gives_the_same_rewards_and_learns_on(tmp_path: Path, rows) -> None:
    model = preferences(prior=0.3).learn(
        [*rows[:20], {"prompt": "x", "chosen": "é\ud800", "rejected": "b", "tie": True}][:20]
    )
    model.save(tmp_path / "kept")
    again = PreferenceModel.load(tmp_path / "kept")
    assert again.rewards(["q"], ["I cannot help"]) == pytest.approx(model.rewards(["q"], ["I cannot help"]), abs=1e-9)
    assert again.prior == 0.3 and len(again.learn(rows[20]).comparisons) == 21
    assert not [p for p in (tmp_path / "kept").iterdir() if p.suffix not in (".jsonl", ".safetensors")]


def test_folders_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a preference model"):
        PreferenceModel.load(tmp_path)
    preferences(Plain()).learn(Comparison("", "1 2", "2 1")).save(tmp_path)
    with pytest.raises(DataError, match="learnt on the features 'numbers', not on 'ngrams'"):
        PreferenceModel.load(tmp_path, NGrams())

    class Other(Plain):
        def __call__(self, prompts, answers):
            return -super().__call__(prompts, answers) + 1

    assert PreferenceModel.load(tmp_path, Plain()).reward("", "1 2") > 0
    with pytest.raises(DataError, match="not those that the weights were learnt on"):
        PreferenceModel.load(tmp_path, Other())


def test_pairs_are_training_data_for_dpo(rows) -> None:
    model = preferences().learn(rows[:5]).learn(Comparison("Which?", "one", "other", tie=True))
    data = lab.dataset(model.pairs())
    assert data.form == "preference" and len(data) == 5
    assert data[0].answer[0].content == rows[0]["chosen"][0]["content"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "chosen": "b"}, "no 'rejected' in prompt, chosen"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "neither is better"),
    ],
)
def test_bad_comparisons_are_refused_and_nothing_is_learnt(row, said) -> None:
    model = preferences()
    with pytest.raises(DataError, match=said):
        model.learn([{"prompt": "a", "chosen": "b", "rejected": "c"}, row])
    assert not model.comparisons


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(DataError, match="got 0"):
        preferences(prior=0)
    with pytest.raises(NeedsLocalModel, match="features='ngrams'"):
        features(Scripted("x"))


def test_hashing_is_the_same_in_every_process_and_vectors_have_length_one() -> None:
    found = NGrams(64)(["How?"], ["Use a sponge."])
    assert np.linalg.norm(found) == pytest.approx(1) and np.flatnonzero(found[0])[:4].tolist() == KNOWN
    assert NGrams(64)(["\ud800"], ["\ud800"]).shape == (1, 64)


KNOWN = [5, 18, 27, 29]


def test_hidden_states_of_a_local_model_are_features(tmp_path: Path) -> None:
    from llmlab.testing.tiny import tiny_model

    hidden = features(lab.model(f"hf/{tiny_model(tmp_path)}"))
    assert isinstance(hidden, Hidden)
    found = hidden(["a", "a"], ["b c", "d"])
    assert found.shape[0] == 2 and np.linalg.norm(found, axis=1) == pytest.approx([1, 1])
    assert not np.allclose(found[0], found[1])
