"""A reward model that learns from comparisons while it is used: Bradley and Terry's model on features of answers.

The chance that `a` is preferred to `b` is `sigmoid(r(a) - r(b))`, and the reward `r` is linear in the features. After
each comparison Newton's method finds the most likely weights again, and the curvature there says how sure they are
(Laplace). So the model is ready after one comparison, and the order of comparisons does not matter.

Sources: Bradley and Terry (1952), https://doi.org/10.2307/2334029; MacKay (1992), "The evidence framework applied to
classification networks", for the predictive probability; Houlsby et al. (2011), https://arxiv.org/abs/1112.5745, for
the choice of the next pair.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from llmlab import stats
from llmlab.alignment import preference_files
from llmlab.alignment.features import Features, features
from llmlab.errors import DataError
from llmlab.models.base import Model
from llmlab.stats import Estimate, Floats
from llmlab.types import Request, Response, Sample, Score, digest

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)


@dataclass(frozen=True)
class Comparison:
    """One verdict: which of two answers to a prompt is better; with `tie`, neither."""

    prompt: str
    chosen: str
    rejected: str
    tie: bool = False


Comparisons: TypeAlias = Iterable[Comparison | Mapping[str, Any]]


class PreferenceModel:
    """Made by `preferences`. It is a scorer and a reward, and learns in place; threads may use it while it learns."""

    def __init__(self, using: str | Model | Features = "ngrams", prior: float = 0.1) -> None:
        if not prior > 0:
            raise DataError(f"prior is the precision of the weights, above 0; got {prior}")
        self.features = features(using)
        self.prior = prior
        self.comparisons: list[Comparison] = []
        """What it has learnt from."""
        self._differences: Floats | None = None
        self._weights: Floats | None = None
        self._root: Floats | None = None
        self._lock = threading.Lock()

    def learn(self, comparisons: Comparison | Mapping[str, Any] | Comparisons) -> PreferenceModel:
        """Learn from one comparison or several; gives the model itself.

        Args:
            comparisons: `Comparison`s, or rows with prompt, chosen and rejected, as text or messages; `tie` marks
                those where neither is better.
        """
        given = [comparisons] if isinstance(comparisons, Comparison | Mapping) else list(comparisons)
        new = list(map(_comparison, given))
        if not new:
            return self
        added = self._apart([c.prompt for c in new], [c.chosen for c in new], [c.rejected for c in new])
        with self._lock:
            self.comparisons = [*self.comparisons, *new]
            known = self._differences
            self._differences = added if known is None else np.concatenate([known, added])
            self._fit(self._differences, np.array([0.5 if c.tie else 1.0 for c in self.comparisons]))
        return self

    # -- what it says -------------------------------------------------------------------------------------

    def reward(self, prompt: str, answer: str) -> float:
        """How good an answer is, in logits of being preferred to one of reward 0; 0 before anything is learnt."""
        return float(self.rewards([prompt], [answer])[0])

    def rewards(self, prompts: Sequence[str], answers: Sequence[str]) -> Floats:
        """Rewards of several answers, (n,); the form that guided decoding takes."""
        found = self.features(prompts, answers)
        return np.zeros(len(found)) if self._weights is None else np.asarray(found @ self._weights)

    def preference(self, prompt: str, a: str, b: str, level: float = 0.95) -> Estimate:
        """Probability that `a` is preferred to `b`, with its credible interval; n is what was learnt from."""
        mean, sd = self._gap([prompt], [a], [b])
        p = _sigmoid(mean[0] / math.sqrt(1 + math.pi * sd[0] ** 2 / 8))
        z = stats.estimate.z_quantile(level)
        low, high = _sigmoid(mean[0] - z * sd[0]), _sigmoid(mean[0] + z * sd[0])
        return Estimate(float(p), float(low), float(high), len(self.comparisons), level, "laplace")

    def __call__(self, text: str, sample: Sample) -> Score:
        """As a scorer: the reward through the logistic function, in [0, 1]."""
        prompt = Request.of(sample.input).prompt
        reward, sd = float(self.reward(prompt, text)), self._spread(self.features([prompt], [text]))[0]
        said = f"reward {reward:.2f} ± {sd:.2f} after {len(self.comparisons)} comparisons"
        return Score(float(_sigmoid(reward)), text, said, {"reward": reward, "reward_sd": float(sd)})

    def confidence(self, request: Request, response: Response) -> float:
        """The same number from request and response: `lab.ensemble(how="cascade", confidence=…)` routes by it."""
        return float(_sigmoid(self.reward(request.prompt, response.text)))

    # -- what to ask next -----------------------------------------------------------------------------------

    def information(self, pairs: Sequence[tuple[str, str, str]]) -> Floats:
        """What the verdict on each (prompt, a, b) is expected to tell about the weights, in nats, (n,).

        The entropy of the verdict, less what would be left of it if the weights were known (Houlsby et al. 2011).
        """
        prompts, first, second = ([pair[i] for pair in pairs] for i in range(3))
        mean, sd = self._gap(prompts, first, second)
        # draws of the gap at the nodes of Gauss and Hermite
        p = _sigmoid(mean[:, None] + sd[:, None] * _NODES)
        weights = _WEIGHTS / _WEIGHTS.sum()
        return np.asarray(_entropy(p @ weights) - _entropy(p) @ weights)

    def choose(self, pairs: Sequence[tuple[str, str, str]]) -> int:
        """Index of the pair (prompt, a, b) whose verdict is expected to make the verdicts on all of them surest.

        That is the pair which takes most from the summed variance of the others' gaps, each weighted by how open its
        verdict is. What tells most about the weights (`information`) is often an odd pair that tells little else.

        Source: transductive experimental design, Yu, Bi and Tresp (2006), https://doi.org/10.1145/1143844.1143980; for
        the aim, Bickford Smith et al. (2023), https://arxiv.org/abs/2304.08151
        """
        if not pairs:
            raise DataError("there is no pair to choose from")
        d = self._apart(*([pair[i] for pair in pairs] for i in range(3)))
        p = _sigmoid(np.zeros(len(d)) if self._weights is None else d @ self._weights)
        half = d.T / math.sqrt(self.prior) if self._root is None else np.linalg.solve(self._root, d.T)
        covariance, openness = half.T @ half, np.maximum(p * (1 - p), 1e-9)
        gains = openness @ covariance**2 / (1 / openness + np.diag(covariance))
        return int(gains.argmax())

    def accuracy(self, held_out: Comparisons, level: float = 0.95) -> Estimate:
        """Share of held-out comparisons that it would decide alike; equal rewards count one half, ties are left out."""
        rows = [c for c in map(_comparison, held_out) if not c.tie]
        if not rows:
            return stats.mean([], level=level)
        gaps = self._gap([c.prompt for c in rows], [c.chosen for c in rows], [c.rejected for c in rows])[0]
        return stats.mean((np.sign(gaps) + 1) / 2, level=level)

    # -- to keep ----------------------------------------------------------------------------------------------

    def pairs(self) -> list[dict[str, Any]]:
        """What it has learnt from as rows for `lab.finetune(…, objective="dpo")`; ties are left out."""
        return [{"prompt": c.prompt, "chosen": c.chosen, "rejected": c.rejected} for c in self.comparisons if not c.tie]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights (safetensors) and comparisons (JSONL) into a folder."""
        lines = [asdict(c) for c in self.comparisons]
        preference_files.save(
            folder, lines, np.zeros(0) if self._weights is None else self._weights, self.features.name, self.prior
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str], using: Features | Model | None = None) -> PreferenceModel:
        """Read a saved model; it can learn on. `using` gives features of your own, which no file can hold.

        Raises:
            DataError: when the folder holds no preference model, or one of other features.
        """
        kept = preference_files.load(folder)
        known = features(using if using is not None else kept.features)
        if known.name != kept.features:
            raise DataError(f"{folder} was learnt on the features {kept.features!r}, not on {known.name!r}")
        # the weights are found again from the comparisons: the curvature is not kept
        model = cls(known, kept.prior).learn([Comparison(**row) for row in kept.comparisons])
        if model._weights is not None and not np.allclose(model._weights, kept.weights, atol=1e-4):
            raise DataError(f"{folder}: the features {known.name!r} are not those that the weights were learnt on")
        return model

    def identity(self) -> Mapping[str, Any]:
        """What its rewards depend on: cached answers that were chosen by other weights are not its answers."""
        weights = None if self._weights is None else digest(self._weights.round(9).tolist())
        return {"preference model": self.features.name, "weights": weights}

    def __repr__(self) -> str:
        return f"PreferenceModel({self.features.name!r}, {len(self.comparisons)} comparisons)"

    # -- inside -------------------------------------------------------------------------------------------------

    def _apart(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Floats:
        """Differences of the features, (n, size)."""
        return self.features(prompts, a) - self.features(prompts, b)

    def _gap(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of r(a) - r(b), each (n,)."""
        d = self._apart(prompts, a, b)
        return (np.zeros(len(d)) if self._weights is None else d @ self._weights), self._spread(d)

    def _spread(self, d: Floats) -> Floats:
        """Standard deviation of the reward along each row: sqrt(d' H^-1 d), H the curvature."""
        if self._root is None:
            return np.asarray(np.linalg.norm(d, axis=1) / math.sqrt(self.prior))
        return np.asarray(np.linalg.norm(np.linalg.solve(self._root, d.T), axis=0))

    def _fit(self, d: Floats, targets: Floats) -> None:
        """Newton's method from the weights so far, to the most likely ones."""
        size = d.shape[1]
        w = np.zeros(size) if self._weights is None else self._weights
        for _ in range(50):
            p = _sigmoid(d @ w)
            curvature = (d.T * (p * (1 - p))) @ d + self.prior * np.eye(size)
            step = np.linalg.solve(curvature, d.T @ (targets - p) - self.prior * w)
            # the likelihood is concave, yet a whole step from far away may overshoot
            while (
                self._likelihood(d, targets, w + step) < self._likelihood(d, targets, w) and np.abs(step).max() > 1e-8
            ):
                step = step / 2
            w = w + step
            if np.abs(step).max() < 1e-8:
                break
        self._weights, self._root = w, np.linalg.cholesky(curvature)

    def _likelihood(self, d: Floats, targets: Floats, w: Floats) -> float:
        """Logarithm of the weights' posterior density, but for a constant."""
        gaps = d @ w
        return float(targets @ gaps - np.logaddexp(0, gaps).sum() - self.prior / 2 * w @ w)


def preferences(using: str | Model | Features = "ngrams", prior: float = 0.1) -> PreferenceModel:
    """A reward model that learns from comparisons online and is of use at once.

    Use it wherever a scorer or a reward goes: `lab.alignment.best_of(model)`, `lab.alignment.guided(model.rewards)`,
    `lab.ensemble(…, how="cascade", confidence=model.confidence)`, a suite's `scorer=`.

    Args:
        using: features of an answer: "ngrams", a local model (its hidden states), or an embedding model; see
            `llmlab.alignment.features.features`.
        prior: precision of the normal prior of every weight; larger learns more slowly.

    >>> model = preferences().learn({"prompt": "Hi", "chosen": "Hello, dear friend.", "rejected": "Go away."})
    >>> model.reward("Hi", "Hello, my friend.") > model.reward("Hi", "Go home.")
    True
    """
    return PreferenceModel(using, prior)


def _comparison(given: Comparison | Mapping[str, Any]) -> Comparison:
    if isinstance(given, Comparison):
        found = given
    else:
        try:
            prompt, chosen, rejected = (_text(given[name]) for name in ("prompt", "chosen", "rejected"))
        except KeyError as error:
            raise DataError(
                f"a comparison has prompt, chosen and rejected; no {error} in {', '.join(map(str, given))}"
            ) from None
        found = Comparison(prompt, chosen, rejected, bool(given.get("tie", False)))
    if found.chosen == found.rejected:
        raise DataError(f"chosen and rejected are equal, so neither is better: {found.chosen[:80]!r}")
    return found


def _text(value: Any) -> str:
    """A text, or the last turn of a list of messages."""
    if isinstance(value, str):
        return value
    last = value[-1]
    return str(last["content"] if isinstance(last, Mapping) else last.content)


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(np.asarray(x) / 2))


def _entropy(p: Floats) -> Floats:
    """Of a coin, in nats."""
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-q * np.log(q) - (1 - q) * np.log1p(-q))
