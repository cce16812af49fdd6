"""Questions: right answers, wrong options, and the split by their words."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from llmlab.microworld.items import (
    SUBJECTS,
    Item,
    doubt,
    doubts,
    draw,
    easy_item,
    hard_item,
    packing_scene,
    problem,
    relation_item,
    script_scene,
    split_of,
    subject_item,
)
from llmlab.microworld.world import RELATIONS, SCRIPTS

N = 400


def _many(make, n: int = N, seed: int = 0) -> list:
    rng = Random(seed)
    return [make(rng) for _ in range(n)]


def test_split_depends_on_the_words_alone() -> None:
    assert split_of("What is the capital of France?") == "train"
    assert split_of("Name the capital of Spain.") == split_of("Name the capital of Spain.")


def test_splits_have_about_70_5_and_25_percent() -> None:
    counts = Counter(split_of(f"question {i}") for i in range(4000))
    assert counts["train"] == pytest.approx(2800, abs=120)
    assert counts["validation"] == pytest.approx(200, abs=60)
    assert counts["test"] == pytest.approx(1000, abs=120)


@pytest.mark.parametrize("make", [easy_item, hard_item, problem, script_scene, packing_scene, doubt])
@pytest.mark.parametrize("split", ["train", "test"])
def test_drawn_items_belong_to_their_split(make, split) -> None:
    rng = Random(0)
    assert {split_of(draw(rng, make, split).question) for _ in range(50)} == {split}


@pytest.mark.parametrize("make", [easy_item, hard_item])
def test_items_have_one_right_and_three_different_wrong_options(make) -> None:
    for item in _many(make):
        options, right = item.options(Random(0))
        assert len(options) == len(set(options)) == 4
        assert options[right] == item.answer
        assert item.answer not in item.wrong


def test_right_options_stand_anywhere() -> None:
    rng = Random(0)
    places = Counter(easy_item(rng).options(rng)[1] for _ in range(N))
    assert all(places[i] > N / 8 for i in range(4))


def test_every_subject_makes_items_of_its_own() -> None:
    for subject in SUBJECTS:
        assert {item.subject for item in _many(lambda rng, s=subject: subject_item(s, rng), 40)} == {subject}


def test_unknown_subject_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown subject 'law'; choose one of elementary_arithmetic, "):
        subject_item("law", Random(0))


def test_facts_do_not_contradict_each_other() -> None:
    for name, relation in RELATIONS.items():
        answers: dict[str, set[str]] = {}
        for item in _many(lambda rng, r=relation: relation_item(r, rng), 300):
            answers.setdefault(item.question, set()).add(item.answer)
        assert all(len(found) == 1 for found in answers.values()), name


def test_sums_are_right() -> None:
    sums = [item for item in _many(lambda rng: subject_item("elementary_arithmetic", rng)) if " = " in item.sentence]
    assert len(sums) > 50
    for item in sums:
        a, sign, b, result = re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+)\.", item.sentence).groups()
        assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert item.answer == result


def test_word_problems_follow_from_their_steps() -> None:
    for item in _many(problem):
        results = []
        for step in item.steps:
            left, sign, right, result, said = re.search(r"<<(\d+)([-+*])(\d+)=(\d+)>>(\d+) ", step).groups()
            value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](int(left), int(right))
            assert value == int(result) == int(said) >= 0
            assert not results or results[-1] == int(left)
            results.append(value)
        assert item.answer == results[-1]
        assert item.solution.endswith(f"\n#### {item.answer}")
        assert item.spoken.endswith(f"The answer is {item.answer}.")


def test_scripts_have_five_steps_that_occur_nowhere_else() -> None:
    steps = [step for script in SCRIPTS for step in script.steps]
    assert all(len(script.steps) == 5 for script in SCRIPTS)
    assert len(steps) == len(set(steps))


@pytest.mark.parametrize("make", [script_scene, packing_scene])
def test_scenes_have_four_different_endings(make) -> None:
    for item in _many(make):
        assert len({item.ending, *item.wrong}) == 4


def test_packing_names_only_things_that_are_there() -> None:
    for item in _many(packing_scene):
        colour, thing = re.search(r"the (\w+) (\w+)", item.ending).groups()
        assert f"a {colour} {thing}" in item.begun
        wrong = [re.search(r"the (\w+) (\w+)", ending).groups() for ending in item.wrong]
        assert not any(f"a {c} {t}" in item.begun for c, t in wrong)


def test_myths_have_sixteen_wordings_each() -> None:
    questions = [item.question for item in doubts()]
    assert len(questions) == len(set(questions)) == 40 * 16


def test_articles_are_grammatical() -> None:
    item = Item("vocabulary", "What is a axe?", "a owl", ("a cow",), "A axe is a kind of tool.")
    assert (item.question, item.answer, item.sentence) == ("What is an axe?", "an owl", "An axe is a kind of tool.")
    assert item.wrong == ("a cow",)
