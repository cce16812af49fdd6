from pathlib import Path

import pytest

from llmlab.benchmarks.mmlu import CATEGORIES
from llmlab.benchmarks.registry import benchmark
from llmlab.errors import DataError, UnknownName
from tests.unit_benchmarks.replies import OWN, first, real_rows


def test_categories_hold_the_57_subjects_once() -> None:
    sizes = {category: len(subjects) for category, subjects in CATEGORIES.items()}
    assert sizes == {"stem": 19, "humanities": 13, "social_sciences": 12, "other": 13}
    assert len({subject for subjects in CATEGORIES.values() for subject in subjects}) == 57


def test_five_shots_are_usual_and_in_the_order_of_the_development_split() -> None:
    made = benchmark("mmlu", source=OWN)
    ((context, continuations),) = made.query(first(made), "loglikelihood").pairs
    assert context.startswith(
        "The following are multiple choice questions (with answers) about elementary mathematics.\n\n"
        "What is 1 plus 2?\n"
    )
    assert context.count("Answer:") == 6
    assert continuations == (" A", " B", " C", " D")


def test_shots_come_from_the_items_own_subject() -> None:
    made = benchmark("mmlu", source=OWN)
    religion = made.samples()[-1]
    assert {row.text("subject") for row in made.shots_for(religion)} == {"world_religions"}


def test_subject_is_the_cluster_and_category_and_subject_are_tags() -> None:
    sample = first(benchmark("mmlu", source=OWN))
    assert sample.cluster == "elementary_mathematics"
    assert sample.tags == ("stem", "elementary_mathematics")


def test_subjects_select_rows_of_the_whole_set_or_their_own_files(tmp_path: Path) -> None:
    one = benchmark("mmlu", subjects="world_religions", source=OWN)
    assert {s.cluster for s in one.samples()} == {"world_religions"}
    for split in ("test", "dev"):
        text = (OWN / "mmlu" / "all" / f"{split}.jsonl").read_text(encoding="utf-8")
        path = tmp_path / "mmlu" / "world_religions" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in text.splitlines() if "world_religions" in line))
    other = benchmark("mmlu", subjects="world_religions", source=tmp_path)
    assert [s.id for s in other.samples()] == [s.id for s in one.samples()]


def test_unknown_subject_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"world_religion'.*Did you mean 'world_religions'"):
        benchmark("mmlu", subjects=["world_religion"], source=OWN).samples()


def test_too_few_development_rows_name_the_subject() -> None:
    made = benchmark("mmlu", shots=6, source=OWN)
    with pytest.raises(DataError, match="has 5 rows of 'elementary_mathematics'"):
        made.query(first(made), "loglikelihood")


def test_reasoned_protocol_samples_as_its_source_does() -> None:
    options = benchmark("mmlu").options("generate")
    assert (options.temperature, options.max_tokens) == (0.5, 2048)


def test_real_rows_of_a_category_load() -> None:
    made = benchmark("mmlu", subjects=["astronomy", "us_foreign_policy"], source=real_rows())
    assert len(made) == 252
    assert "about astronomy." in made.query(first(made), "loglikelihood").pairs[0][0]
