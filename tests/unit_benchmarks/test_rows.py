import json
import random
from pathlib import Path
from typing import Any

import pytest

from llmlab.benchmarks.registry import benchmark
from llmlab.errors import DataError, UnknownName
from llmlab.types import Sample
from tests.unit_benchmarks.replies import OWN, first


def context(made: Any, number: int = 0) -> str:
    return str(made.query(made.samples()[number], "loglikelihood").pairs[0][0])


def test_shots_are_drawn_from_one_generator_in_item_order() -> None:
    made = benchmark("arc_easy", shots=3, source=OWN)
    train = [json.loads(line) for line in (OWN / "ai2_arc" / "ARC-Easy" / "train.jsonl").read_text().splitlines()]
    rng = random.Random(1234)
    for sample in made.samples():
        expected = [row["question"] for row in rng.sample(train, 3)]
        assert [row.text("question") for row in made.shots_for(sample)] == expected


def test_shots_do_not_depend_on_which_items_are_asked() -> None:
    one, other = (benchmark("arc_easy", shots=2, source=OWN) for _ in range(2))
    last = one.samples()[-1]
    assert one.query(last, "loglikelihood") == other.query(other.samples()[-1], "loglikelihood")


def test_an_item_is_never_its_own_shot() -> None:
    made = benchmark("arc_challenge", shots=4, split="train", source=OWN)
    assert made.shot_split == "train"
    for sample in made.samples():
        questions = [row.text("question") for row in made.shots_for(sample)]
        assert len(questions) == 4
        assert sample.input not in questions


def test_repeated_rows_leave_enough_shots(tmp_path: Path) -> None:
    row = (OWN / "ai2_arc" / "ARC-Easy" / "train.jsonl").read_text().splitlines()[0]
    other = row.replace("What do cows eat?", "What do sheep eat?")
    path = tmp_path / "ai2_arc" / "ARC-Easy" / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([row, row, row, other]))
    made = benchmark("arc_easy", shots=1, split="train", source=tmp_path)
    for sample in made.samples()[:3]:
        assert [r.text("question") for r in made.shots_for(sample)] == ["What do sheep eat?"]


def test_more_shots_than_rows_is_an_error_that_says_how_many_there_are() -> None:
    made = benchmark("arc_easy", shots=7, source=OWN)
    with pytest.raises(DataError, match=r"7 shots are asked for, but the split 'train' .* has 6 rows"):
        made.query(first(made), "loglikelihood")


def test_missing_shot_split_is_an_error() -> None:
    made = benchmark("hellaswag", shots=2, source=OWN)
    assert context(made)
    only_scored = benchmark("winogrande", shots=0, source=OWN)
    assert only_scored.query(first(only_scored), "loglikelihood").pairs


@pytest.mark.parametrize("shots", [-1, 1.5, "3", True])
def test_shots_that_are_no_count_are_refused(shots: Any) -> None:
    with pytest.raises(DataError, match="shots should be a whole number"):
        benchmark("arc_easy", shots=shots)


@pytest.mark.parametrize(("name", "most"), [("truthfulqa", 0), ("gsm8k_cot_zeroshot", 0), ("gsm8k_cot", 8)])
def test_fixed_wordings_take_no_more_shots(name: str, most: int) -> None:
    with pytest.raises(DataError, match=f"at most {most} shots"):
        benchmark(name, shots=most + 1)


def test_settings_that_change_the_number_are_in_the_name() -> None:
    assert benchmark("mmlu").name == "mmlu"
    assert benchmark("mmlu", shots=5).name == "mmlu"
    assert benchmark("mmlu", shots=0).name == "mmlu[shots=0]"
    assert benchmark("arc", shots=25, split="validation").name == "arc_challenge[shots=25,split=validation]"
    assert benchmark("mmlu", shots=0, subjects=["stem"]).name == "mmlu[shots=0,subjects=stem]"


def test_embedded_rows_never_carry_the_real_name() -> None:
    made = benchmark("gsm8k", source="embedded")
    assert made.name == "micro/gsm8k"
    assert "micro-world" in made.card.title
    assert made.card.n is None


def test_repeated_rows_get_different_ids(tmp_path: Path) -> None:
    row = (OWN / "winogrande" / "winogrande_xl" / "validation.jsonl").read_text().splitlines()[0]
    path = tmp_path / "winogrande" / "winogrande_xl" / "validation.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([row] * 3))
    ids = [s.id for s in benchmark("winogrande", source=tmp_path).samples()]
    assert ids == [ids[0], f"{ids[0]}#2", f"{ids[0]}#3"]


def test_ids_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    lines = (OWN / "gsm8k" / "main" / "test.jsonl").read_text().splitlines()
    path = tmp_path / "gsm8k" / "main" / "test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(reversed(lines)))
    one, other = benchmark("gsm8k", source=OWN), benchmark("gsm8k", source=tmp_path)
    assert [s.id for s in one.samples()] == [s.id for s in other.samples()][::-1]


def test_a_sample_of_another_benchmark_has_no_shots_here() -> None:
    made = benchmark("arc_easy", shots=1, source=OWN)
    with pytest.raises(DataError, match="has no sample 'strange'"):
        made.query(Sample("?", 0, "strange", ("a", "b")), "loglikelihood")


def test_known_length_counts_a_folder_and_quotes_the_published_size_of_the_hub() -> None:
    assert benchmark("gsm8k", source=OWN).known_length() == 10
    assert benchmark("gsm8k", source="hub").known_length() == 1319
    assert benchmark("gsm8k", source="hub", split="train").known_length() is None


def test_a_model_gets_the_first_protocol_that_it_can_answer_by() -> None:
    made = benchmark("mmlu", source=OWN)
    assert made.protocol_for(("letter", "generate", "loglikelihood")) == "loglikelihood"
    assert made.protocol_for(("letter", "generate")) == "generate"
    assert made.protocol_for(("letter", "generate"), "letter") == "letter"
    with pytest.raises(UnknownName, match="loglikelihood"):
        made.protocol_for(("letter", "generate"), "loglikelihood")
