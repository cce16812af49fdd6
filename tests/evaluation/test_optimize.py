"""Prompt optimisation: candidates race on one part, the winner is tested on the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmlab.benchmarks.subset import split
from llmlab.errors import DataError, UnknownName
from llmlab.evaluation.optimize import instruction, optimize, race, rewritten, worked_examples
from llmlab.models.scripted import Scripted
from llmlab.types import Request, Sample

from .toy import Doubling, right, twice, wrong


def obedient(request: Request) -> str:
    """Right only when the system prompt asks for care."""
    system = " ".join(m.content for m in request.messages if m.role == "system")
    return twice(request) if "careful" in system else "?"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    return {"store": f"sqlite:///{tmp_path / 'runs.db'}", "progress": False}


def test_better_instruction_wins_and_is_tested_on_locked_items(settings) -> None:
    model = Scripted(obedient, "scripted/obedient", cost=0.001)
    found = optimize(model, Doubling(120), ["Be quick.", "Be careful.", "Be kind."], **settings)
    assert found.spent == pytest.approx(model.calls * 0.001)
    assert found.best.generate("Twice 4?").text == "8"
    assert found.locked is not None and found.locked.value == 1.0 and found.locked.n == 60
    assert found.optimism == 0.0
    rounds = found.rounds.groupby("round").size().tolist()
    assert rounds[0] == 4 and rounds == sorted(rounds, reverse=True)


def test_locked_items_are_never_raced_on() -> None:
    train, locked = split(Doubling(50), 0.4, seed=1)
    a, b = ({s.id for s in part.samples()} for part in (train, locked))
    assert len(a) == 20 and len(b) == 30 and not a & b


def test_items_of_one_cluster_stay_together() -> None:
    class Clustered(Doubling):
        def samples(self):
            return [Sample(f"Twice {i}?", target=str(2 * i), id=str(i), cluster=str(i // 5)) for i in range(40)]

    train, locked = split(Clustered(), 0.5)
    assert not {s.cluster for s in train.samples()} & {s.cluster for s in locked.samples()}


def test_baseline_that_nobody_beats_stays(settings) -> None:
    found = race({"good": right(), "bad": wrong()}, Doubling(40), "good", **settings)
    assert found.winner == "good" and found.locked is None and "stays the best" in repr(found)


def test_worked_examples_come_as_turns_after_the_system_prompt() -> None:
    seen: list[Request] = []

    def watch(request: Request) -> str:
        seen.append(request)
        return "ok"

    model = Scripted(watch).through(instruction("Be brief."), worked_examples([Sample("1+1?", target="2")]))
    model.generate("2+2?")
    assert [(m.role, m.content) for m in seen[0].messages] == [
        ("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"),
    ]  # fmt: skip


def test_rewrites_are_different_texts_of_the_writer() -> None:
    writer = Scripted(["Work with care.", "Work with care.", "", "Think first."])
    assert rewritten(writer, "Be careful.", 4) == ["Work with care.", "Think first."]


def test_clear_errors(settings) -> None:
    with pytest.raises(UnknownName, match="Known: a, b"):
        race({"a": right(), "b": wrong()}, Doubling(), "c", **settings)
    with pytest.raises(DataError, match="at least two candidates"):
        race({"a": right()}, Doubling(), "a", **settings)
    with pytest.raises(DataError, match="3 worked examples per set, but only 1"):
        optimize(right(), Doubling(), examples=[Sample("q", target="a")], shot_sets=1, **settings)
