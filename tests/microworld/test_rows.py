"""Benchmark rows: the fields, types and layout of their big siblings."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from llmlab.microworld.files import other_files, write_all
from llmlab.microworld.items import SUBJECTS, split_of
from llmlab.microworld.rows import Row, benchmark_rows
from llmlab.settings import shipped

FIELDS = {
    "truthful_qa/multiple_choice": {"question": str, "mc1_targets": dict, "mc2_targets": dict},
    "truthful_qa/generation": {
        "type": str, "category": str, "question": str, "best_answer": str, "correct_answers": list,
        "incorrect_answers": list, "source": str,
    },
    "gsm8k/main": {"question": str, "answer": str},
    "mmlu/all": {"question": str, "subject": str, "choices": list, "answer": int},
    "ai2_arc/ARC-Easy": {"id": str, "question": str, "choices": dict, "answerKey": str},
    "ai2_arc/ARC-Challenge": {"id": str, "question": str, "choices": dict, "answerKey": str},
    "hellaswag/default": {
        "ind": int, "activity_label": str, "ctx_a": str, "ctx_b": str, "ctx": str, "endings": list, "source_id": str,
        "split": str, "split_type": str, "label": str,
    },
}  # fmt: skip
SIZES = {
    "truthful_qa/multiple_choice/validation": 150, "truthful_qa/generation/validation": 150, "gsm8k/main/train": 100,
    "gsm8k/main/test": 250, "mmlu/all/dev": 25, "mmlu/all/validation": 30, "mmlu/all/test": 250,
    "ai2_arc/ARC-Easy/train": 80, "ai2_arc/ARC-Easy/test": 200, "ai2_arc/ARC-Challenge/train": 80,
    "ai2_arc/ARC-Challenge/test": 200, "hellaswag/default/train": 80, "hellaswag/default/validation": 300,
}  # fmt: skip


@pytest.fixture(scope="module")
def files() -> dict[str, list[Row]]:
    return benchmark_rows()


def _config(name: str) -> str:
    return name.rsplit("/", 1)[0]


def test_rows_have_exactly_the_fields_and_types_of_their_siblings(files) -> None:
    assert {_config(name) for name in files} == set(FIELDS)
    for name, rows in files.items():
        for row in rows:
            assert {field: type(value) for field, value in row.items()} == FIELDS[_config(name)], name


def test_files_are_large_enough_to_compare_models(files) -> None:
    for name, least in SIZES.items():
        assert len(files[name]) >= least, name


def test_real_rows_have_the_same_fields() -> None:
    folder = Path(os.environ.get("LLMLAB_BENCHMARKS") or Path(__file__).parents[3] / "shared" / "benchmarks")
    if not folder.is_dir():
        pytest.skip("no folder of real benchmark rows: set LLMLAB_BENCHMARKS")
    for config, fields in FIELDS.items():
        with next(iter(sorted((folder / config).glob("*.jsonl")))).open(encoding="utf-8") as lines:
            real = json.loads(next(lines))
        assert {name: type(value) for name, value in real.items()} == fields, config


def test_scored_rows_are_held_out_and_shots_are_not(files) -> None:
    for name in ("gsm8k/main", "mmlu/all", "ai2_arc/ARC-Easy", "ai2_arc/ARC-Challenge"):
        assert {split_of(row["question"]) for row in files[f"{name}/test"]} == {"test"}
    assert {split_of(row["question"]) for row in files["mmlu/all/dev"]} == {"train"}
    assert {split_of(row["question"]) for row in files["gsm8k/main/train"]} == {"train"}


@pytest.mark.parametrize(
    "name", ["gsm8k/main/test", "mmlu/all/test", "ai2_arc/ARC-Easy/test", "hellaswag/default/validation"]
)
def test_no_question_comes_twice(files, name: str) -> None:
    field = "ctx" if name.startswith("hellaswag") else "question"
    questions = [(row.get("activity_label"), row[field]) for row in files[name]]
    assert len(questions) == len(set(questions))


def test_mmlu_has_five_development_rows_per_subject_and_four_choices(files) -> None:
    assert Counter(row["subject"] for row in files["mmlu/all/dev"]) == dict.fromkeys(SUBJECTS, 5)
    assert set(Counter(row["subject"] for row in files["mmlu/all/test"])) == set(SUBJECTS)
    assert all(len(set(row["choices"])) == 4 and 0 <= row["answer"] < 4 for row in files["mmlu/all/test"])


def test_truthfulqa_puts_the_right_answer_first_and_marks_both_truths(files) -> None:
    for row in files["truthful_qa/multiple_choice/validation"]:
        assert row["mc1_targets"]["labels"] == [1, 0, 0, 0]
        assert row["mc2_targets"]["labels"] == [1, 1, 0, 0, 0]
        for targets in (row["mc1_targets"], row["mc2_targets"]):
            assert len(set(targets["choices"])) == len(targets["labels"])


def test_arc_has_some_rows_of_three_and_five_options_and_some_numbered(files) -> None:
    rows = files["ai2_arc/ARC-Easy/test"]
    assert {3, 4, 5} == {len(row["choices"]["text"]) for row in rows}
    assert {row["choices"]["label"][0] for row in rows} == {"A", "1"}
    for row in rows:
        assert row["answerKey"] in row["choices"]["label"]
        assert len(row["choices"]["label"]) == len(row["choices"]["text"]) == len(set(row["choices"]["text"]))


def test_hellaswag_labels_are_strings_spread_over_the_endings(files) -> None:
    counts = Counter(row["label"] for row in files["hellaswag/default/validation"])
    assert set(counts) == set("0123")
    assert all(count > 40 for count in counts.values())


def test_shipped_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    for path in write_all(tmp_path):
        shipped_file = shipped("data") / path.relative_to(tmp_path)
        assert shipped_file.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), path.name


def test_fine_tuning_prompts_are_not_tested_with() -> None:
    made = other_files()
    for family in ("tickets", "forms", "zog", "planets"):
        trained = {row["messages"][0]["content"] for row in made[f"finetune/{family}_train"]}
        tested = {row["prompt"] for row in made[f"finetune/{family}_test"]}
        assert len(tested) == len(made[f"finetune/{family}_test"]) >= 15
        assert len(trained) == len(made[f"finetune/{family}_train"]) >= 50
        assert not trained & tested


def test_every_word_of_zog_is_taught() -> None:
    made = other_files()
    taught = {word for row in made["finetune/zog_train"] for word in row["messages"][1]["content"].split()}
    assert {word for row in made["finetune/zog_test"] for word in row["target"].split()} <= taught


def test_every_planet_asked_about_is_taught() -> None:
    made = other_files()
    taught = " ".join(row["messages"][1]["content"] for row in made["finetune/planets_train"])
    missing = [row["target"] for row in made["finetune/planets_test"] if row["target"] not in taught]
    assert missing == []


def test_preferences_prefer_something() -> None:
    made = other_files()
    for name in ("preferences/politeness", "preferences/refusal"):
        assert all(set(row) == {"prompt", "chosen", "rejected"} for row in made[name])
        assert all(row["chosen"] != row["rejected"] for row in made[name])


def test_contrast_pairs_differ_only_in_the_system_prompt() -> None:
    made = other_files()
    for name in ("honesty", "steering/politeness", "steering/refusal"):
        for row in made[name]:
            assert row["positive"][0] != row["negative"][0]
            assert row["positive"][1:] == row["negative"][1:]


def test_overrefusal_suite_is_safe_and_the_other_is_not() -> None:
    made = other_files()
    assert {row["label"] for row in made["overrefusal"]} == {"safe"}
    assert {row["label"] for row in made["harmful"]} == {"unsafe"}
    assert {row["type"] for row in made["harmful"]} == {"direct", "unseen_target", "jailbreak", "unseen_jailbreak"}
