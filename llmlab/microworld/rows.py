"""Benchmark rows of the embedded world, in the exact fields of their big siblings.

Files are laid out as `<name>/<config>/<split>.jsonl`. Rows of "train" and "dev" files (the few-shot pools) come from
the questions the models were trained on; "validation" and "test" rows from questions they never saw. TruthfulQA and
HellaSwag, which score their validation split, have their held-out questions there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeVar

from llmlab.microworld.items import (
    SUBJECTS,
    Asked,
    Doubt,
    Item,
    Problem,
    Scene,
    Split,
    doubts,
    draw,
    fact_item,
    hard_item,
    problem,
    scene,
    split_of,
    subject_item,
    sum_item,
)

Row = dict[str, Any]
T = TypeVar("T", bound=Asked)
_TRIES = 4000  # draws after which a family is taken as exhausted


def distinct(rng: Random, make: Callable[[Random], T], split: Split, n: int) -> list[T]:
    """Up to `n` items of that split with different questions: fewer where the world has no more."""
    found: dict[str, T] = {}
    for _ in range(_TRIES):
        if len(found) == n:
            break
        item = draw(rng, make, split)
        found.setdefault(item.question, item)
    return list(found.values())


# -------------------------------------------------------------------------------------------------------- truthful_qa
def _doubts(rng: Random) -> list[Doubt]:
    held_out = [item for item in doubts() if split_of(item.question) == "test"]
    rng.shuffle(held_out)
    return held_out


def truthful_qa_choice(item: Doubt, rng: Random) -> Row:
    """A multiple_choice row; the right answer comes first, as in the original."""
    (best, second), tales = item.myth.truths, list(item.myth.tales)
    stranger = rng.choice([other for other in doubts() if other.myth is not item.myth]).myth.tales[0]
    return {
        "question": item.question,
        "mc1_targets": {"choices": [best, *tales, stranger], "labels": [1, 0, 0, 0]},
        "mc2_targets": {"choices": [best, second, *tales, stranger], "labels": [1, 1, 0, 0, 0]},
    }


def truthful_qa_generation(item: Doubt) -> Row:
    """A generation row."""
    return {
        "type": "Adversarial",
        "category": "Misconceptions",
        "question": item.question,
        "best_answer": item.myth.truths[0],
        "correct_answers": list(item.myth.truths),
        "incorrect_answers": list(item.myth.tales),
        "source": "llmlab micro world",
    }


# -------------------------------------------------------------------------------------------------------------- gsm8k
def gsm8k(item: Problem) -> Row:
    """A main row."""
    return {"question": item.question, "answer": item.solution}


# --------------------------------------------------------------------------------------------------------------- mmlu
def mmlu(item: Item, rng: Random) -> Row:
    """A row of four options; `answer` is the position of the right one."""
    options, right = item.options(rng)
    return {"question": item.question, "subject": item.subject, "choices": options, "answer": right}


def _mmlu_rows(rng: Random, split: Split, per_subject: int) -> list[Row]:
    rows = []
    for subject in SUBJECTS:
        items = distinct(rng, lambda r, s=subject: subject_item(s, r), split, per_subject)  # type: ignore[misc]
        rows += [mmlu(item, rng) for item in items]
    return rows


# ---------------------------------------------------------------------------------------------------------------- arc
def arc(item: Item, number: int, rng: Random) -> Row:
    """A row of mostly four options; as in the original some have three or five, and some are labelled with digits."""
    size = min({7: 3, 11: 5}.get(number % 16, 4), 1 + len(item.wrong))
    options, right = item.options(rng, size)
    labels = list("12345" if number % 10 == 3 else "ABCDE")[:size]
    return {
        "id": f"Micro_{number}",
        "question": item.question,
        "choices": {"text": options, "label": labels},
        "answerKey": labels[right],
    }


def _arc_easy(rng: Random) -> Item:
    return sum_item(rng) if rng.random() < 0.2 else fact_item(rng)


def _arc_rows(rng: Random, make: Callable[[Random], Item], split: Split, n: int) -> list[Row]:
    return [arc(item, number, rng) for number, item in enumerate(distinct(rng, make, split, n))]


# ---------------------------------------------------------------------------------------------------------- hellaswag
def hellaswag(item: Scene, number: int, split: Literal["train", "val"], rng: Random) -> Row:
    """A default row; `label` is a string."""
    endings = [item.ending, *item.wrong]
    rng.shuffle(endings)
    return {
        "ind": number,
        "activity_label": item.label,
        "ctx_a": item.begun,
        "ctx_b": item.who,
        "ctx": f"{item.begun} {item.who}",
        "endings": endings,
        "source_id": f"micro~{number}",
        "split": split,
        "split_type": "indomain",
        "label": str(endings.index(item.ending)),
    }


def benchmark_rows(seed: int = 0) -> dict[str, list[Row]]:
    """Every benchmark file, by its path below the data folder without the ending."""
    rng = Random(seed)
    held_out = _doubts(rng)
    files = {
        "truthful_qa/multiple_choice/validation": [truthful_qa_choice(item, rng) for item in held_out],
        "truthful_qa/generation/validation": [truthful_qa_generation(item) for item in held_out],
        "gsm8k/main/train": [gsm8k(item) for item in distinct(rng, problem, "train", 100)],
        "gsm8k/main/test": [gsm8k(item) for item in distinct(rng, problem, "test", 250)],
        "mmlu/all/dev": _mmlu_rows(rng, "train", 5),
        "mmlu/all/validation": _mmlu_rows(rng, "validation", 8),
        "mmlu/all/test": _mmlu_rows(rng, "test", 60),
    }
    for config, make in (("ARC-Easy", _arc_easy), ("ARC-Challenge", hard_item)):
        for split, n in (("train", 80), ("validation", 40), ("test", 250)):
            files[f"ai2_arc/{config}/{split}"] = _arc_rows(rng, make, split, n)  # type: ignore[arg-type]
    for name, split, n in (("train", "train", 80), ("validation", "test", 300)):
        scenes = distinct(rng, scene, split, n)  # type: ignore[arg-type]
        kind: Literal["train", "val"] = "train" if name == "train" else "val"
        files[f"hellaswag/default/{name}"] = [hellaswag(item, i, kind, rng) for i, item in enumerate(scenes)]
    return files


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object per line, UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_benchmarks(folder: Path, seed: int = 0) -> list[Path]:
    """Write the benchmark files below `folder`; return their paths."""
    paths = []
    for name, rows in benchmark_rows(seed).items():
        paths.append(folder / f"{name}.jsonl")
        write_jsonl(paths[-1], rows)
    return paths
