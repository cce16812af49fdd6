"""Find a better prompt, honestly: race candidates on one part of the items, test the winner on the other.

A candidate is a Model, usually the same one with another instruction or other worked examples in front. So the race
also picks among models, ensembles or guarded variants.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmlab.benchmarks.registry import benchmark as make_benchmark
from llmlab.benchmarks.subset import split
from llmlab.errors import DataError, UnknownName
from llmlab.evaluation.evaluate import evaluate
from llmlab.ledger import Ledger
from llmlab.models.base import Model
from llmlab.types import Call, Message, Request, Response, Sample

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.evaluation.plan import Benchmarks
    from llmlab.stats import Difference
    from llmlab.store import Store


@dataclass(frozen=True)
class Race:
    """Who won, and what the win is worth.

    Attributes:
        winner: its name; `best` is its Model.
        rounds: score of every candidate in every round (columns: round, n, candidate, score, kept).
        locked: winner against baseline on items that no choice was made on: the number to quote.
        optimism: score of the winner where it was chosen, less its score on the locked items.
        spent: US dollars.
    """

    winner: str
    best: Model
    baseline: str
    rounds: pd.DataFrame
    locked: Difference | None
    optimism: float
    spent: float

    def __repr__(self) -> str:
        if self.locked is None:
            return f"{self.winner} (the baseline) stays the best; ${self.spent:.4f} spent"
        return (
            f"{self.winner} against {self.baseline} on {self.locked.n} locked items: {self.locked.value:+.3f} "
            f"[{self.locked.low:+.3f}, {self.locked.high:+.3f}], p = {self.locked.p:.3f}\n"
            f"optimism of the race: {self.optimism:+.3f}; ${self.spent:.4f} spent"
        )


def race(
    candidates: Mapping[str, Model],
    benchmark: Benchmarks,
    baseline: str,
    *,
    start: int = 16,
    share: float = 0.5,
    seed: int = 0,
    budget: float | None = None,
    store: str | Store | None = None,
    progress: bool = True,
) -> Race:
    """Successive halving on a training part, then one paired test of the winner on the locked part.

    Each round asks the candidates that are left twice as many items and keeps the better half, until one is left
    or the part is used up.

    Args:
        candidates: name -> Model, `baseline` among them.
        benchmark: one benchmark or suite.
        baseline: the candidate that the winner is tested against.
        start: items of the first round.
        share: of the items that the race may see; the rest is locked until the end.
        seed: draws the two parts and the items of each round.
        store: as in `evaluate`; answers that are there cost nothing.
        progress: show a bar per round.
        budget: US dollars for everything together; a hard limit.

    Source of the schedule: Jamieson and Talwalkar (2016), https://arxiv.org/abs/1502.07943
    """
    if baseline not in candidates:
        raise UnknownName.among("candidate", baseline, candidates)
    if len(candidates) < 2:
        raise DataError("a race needs at least two candidates")
    train, locked = split(make_benchmark(benchmark), share, seed)
    settings: dict[str, Any] = {"seed": seed, "store": store, "progress": progress}
    with Ledger(budget) as bill:
        rounds, winner = _halve(dict(candidates), train, start, settings)
        if winner == baseline:
            test, optimism = None, math.nan
        else:
            final = evaluate({m: candidates[m] for m in (baseline, winner)}, locked, **settings)
            test = _paired(final.samples, winner, baseline)
            optimism = _last(rounds, winner) - _mean(final.samples, winner)
    import pandas as pd

    return Race(winner, candidates[winner], baseline, pd.DataFrame(rounds), test, optimism, bill.spent)


def optimize(
    model: Model,
    benchmark: Benchmarks,
    instructions: Sequence[str] = (),
    examples: Sequence[Sample] = (),
    *,
    writer: Model | None = None,
    rewrites: int = 0,
    shots: int = 3,
    shot_sets: int = 0,
    seed: int = 0,
    **settings: Any,
) -> Race:
    """Race instructions and sets of worked examples for one model; "as it is" is the baseline.

    Args:
        model: whose prompt is to be improved.
        benchmark: one benchmark or suite that is answered by generation.
        instructions: system prompts to try.
        examples: solved samples to draw worked examples from; must not be items of the benchmark.
        writer: a model that rewrites the instructions.
        rewrites: how often it rewrites each.
        shots: worked examples in a set.
        shot_sets: how many sets to draw.
        seed: draws the sets, and all that `race` draws.
        settings: those of `race`.
    """
    written = list(instructions)
    if writer is not None:
        written += [new for text in instructions for new in rewritten(writer, text, rewrites)]
    candidates: dict[str, Model] = {"as it is": model}
    for i, text in enumerate(dict.fromkeys(written), 1):
        candidates[f"instruction {i}"] = model.through(instruction(text))
    rng = random.Random(seed)
    for i in range(shot_sets):
        if len(examples) < shots:
            raise DataError(f"{shots} worked examples per set, but only {len(examples)} examples were given")
        candidates[f"shots {i + 1}"] = model.through(worked_examples(rng.sample(list(examples), shots)))
    return race(candidates, benchmark, "as it is", seed=seed, **settings)


class instruction:  # noqa: N801  # an interceptor, used like a function
    """An interceptor that puts a system prompt in front."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, request: Request, call: Call) -> Response:
        """Ask with the system prompt."""
        return call(request.with_system(self.text))

    def identity(self) -> Mapping[str, Any]:
        """What the response cache knows it by."""
        return {"instruction": self.text}

    def __repr__(self) -> str:
        return f"instruction({self.text!r})"


class worked_examples:  # noqa: N801  # an interceptor, used like a function
    """An interceptor that puts solved samples before the question, as earlier turns."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.turns = tuple(turn for sample in samples for turn in _turns(sample))

    def __call__(self, request: Request, call: Call) -> Response:
        """Ask after the worked examples."""
        system = [m for m in request.messages if m.role == "system"]
        rest = [m for m in request.messages if m.role != "system"]
        return call(replace(request, messages=(*system, *self.turns, *rest)))

    def identity(self) -> Mapping[str, Any]:
        """What the response cache knows it by."""
        return {"examples": [[m.role, m.content] for m in self.turns]}


def rewritten(writer: Model, text: str, times: int) -> list[str]:
    """Other wordings of an instruction, by a model; empty and equal ones are left out."""
    asked = Request.of(
        "Rewrite this instruction for a language model so that it is followed better. Keep its meaning. "
        f"Answer with the new instruction only.\n\nInstruction: {text}",
        temperature=1.0,
    )
    found = [writer.generate(replace(asked, repeat=i)).text.strip() for i in range(times)]
    return [t for t in dict.fromkeys(found) if t and t != text]


def _turns(sample: Sample) -> tuple[Message, Message]:
    if not isinstance(sample.input, str) or not isinstance(sample.target, str):
        raise DataError(f"example {sample.id!r} needs a text as input and a text as target to be shown as worked")
    return Message("user", sample.input), Message("assistant", sample.target)


def _halve(
    left: dict[str, Model], train: Any, start: int, settings: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], str]:
    n, number, rounds = min(start, len(train)), 1, []
    while True:
        samples = evaluate(left, train, n, **settings).samples
        scores = {name: _mean(samples, name) for name in left}
        # an unscored candidate loses; names break ties, so that the race is the same every time
        order = sorted(left, key=lambda m: (-scores[m] if scores[m] == scores[m] else math.inf, list(left).index(m)))
        kept = order[: max(1, len(order) // 2)]
        rounds += [{"round": number, "n": n, "candidate": m, "score": scores[m], "kept": m in kept} for m in order]
        if len(kept) == 1 or n == len(train):
            return rounds, kept[0]
        left, n, number = {m: left[m] for m in kept}, min(2 * n, len(train)), number + 1


def _last(rounds: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(next(r["score"] for r in reversed(rounds) if r["candidate"] == name))


def _mean(samples: pd.DataFrame, model: str) -> float:
    return float(samples.loc[samples["model"] == model, "score"].mean())


def _paired(samples: pd.DataFrame, a: str, b: str) -> Difference:
    from llmlab.stats import paired

    table = samples.pivot_table(index="sample", columns="model", values="score").dropna()
    return paired(table[a].to_numpy(), table[b].to_numpy())
