"""Training data: every form, every wrong row, and what happens to the rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmlab.benchmarks.suite import suite
from llmlab.errors import DataError, UnknownName
from llmlab.finetune.data import dataset
from llmlab.types import Message

USER, BOT = Message("user", "What is 2 + 2?"), Message("assistant", "4")
HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: What is 2 + 2?\n\nAssistant:"

CHAT = [{"role": "user", "content": USER.content}, {"role": "assistant", "content": "4"}]
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "messages": ({"messages": CHAT}, "conversation"),
    "sharegpt": ({"conversations": [{"from": "human", "value": USER.content}, {"from": "gpt", "value": "4"}]}, "conversation"),  # noqa: E501
    "alpaca": ({"instruction": USER.content, "input": "", "output": "4"}, "completion"),
    "prompt-completion": ({"prompt": USER.content, "completion": "4"}, "completion"),
    "question-answer": ({"question": USER.content, "answer": "4"}, "completion"),
    "turns": ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "completion"),
    "preference": ({"prompt": USER.content, "chosen": "4", "rejected": "5"}, "preference"),
    "labelled": ({"prompt": USER.content, "completion": "4", "label": "true"}, "labelled"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_form_is_recognised_and_means_the_same_turns(name: str, jsonl: Callable[..., Path]) -> None:
    row, form = FORMS[name]
    data = dataset(jsonl(row))
    assert data.form == form
    assert data[0].context + data[0].answer == (USER, BOT)


def test_alpaca_input_follows_the_instruction() -> None:
    (one,) = dataset([{"instruction": "Sort.", "input": "b a", "output": "a b"}])
    assert one.context == (Message("user", "Sort.\n\nb a"),)


def test_hh_text_is_split_into_turns_at_the_shared_beginning() -> None:
    (one,) = dataset([{"chosen": HH + " 4", "rejected": HH + " 5\n\nHuman: No\n\nAssistant: Sorry"}])
    assert [m.content for m in one.context] == ["Hi", "Hello.", "What is 2 + 2?"]
    assert [m.content for m in one.answer] == ["4"]
    assert [m.content for m in one.rejected] == ["5", "No", "Sorry"]


def test_whole_conversations_beside_a_prompt_lose_it_once() -> None:
    turns = [{"role": "user", "content": USER.content}]
    row = {
        "prompt": USER.content,
        "chosen": [*turns, {"role": "assistant", "content": "4"}],
        "rejected": [*turns, {"role": "assistant", "content": "5"}],
    }
    (one,) = dataset([row])
    assert (one.context, one.answer) == ((USER,), (BOT,))


def test_text_and_prompt_rows() -> None:
    assert dataset([{"text": "Once upon a time."}])[0].text == "Once upon a time."
    data = dataset([{"prompt": "Say hi.", "target": None, "level": 2}])
    assert data.form == "prompt" and data[0].extra["level"] == 2


def test_system_prompt_of_a_row_comes_first() -> None:
    (one,) = dataset([{"system": "Be brief.", "prompt": "2 + 2?", "completion": "4"}])
    assert one.context[0] == Message("system", "Be brief.")


def test_csv_parquet_txt_folder_and_frame_give_the_same_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame([{"prompt": "a?", "completion": "b"}, {"prompt": "c?", "completion": "d"}])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "many").mkdir()
    for i, line in enumerate(frame.to_dict("records")):
        (tmp_path / "many" / f"{i}.jsonl").write_text(json.dumps(line) + "\n")
    keys = {dataset(s).hash for s in (frame, tmp_path / "rows.csv", tmp_path / "rows.parquet", tmp_path / "many")}
    assert len(keys) == 1
    (tmp_path / "story.txt").write_text("One.\nMore.\n\n\nTwo.\n")
    story = dataset(tmp_path / "story.txt")
    assert [(e.text, e.where.rpartition(":")[2]) for e in story] == [("One.\nMore.", "1"), ("Two.", "5")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"prompt": "a?"},
            r"data.jsonl:2: no field 'completion' \(or response, .*of the form 'completion'; it has prompt",
        ),
        ({"prompt": "a?", "completion": 3}, r"data.jsonl:2: field 'completion' should be text, it is 3"),
        ({"prompt": "a?", "completion": "  "}, r"data.jsonl:2: field 'completion' is empty"),
    ],
)
def test_wrong_row_is_refused_with_file_and_line(row: dict[str, Any], said: str, jsonl: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=said):
        dataset(jsonl({"prompt": "fine?", "completion": "yes"}, row))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].role' should be one of human, user"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\].content' should be text"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no turn of the assistant"),
        ({"messages": "hello"}, "should be a list of turns"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are equal"),
        ({"chosen": "b", "rejected": "c"}, "Human: "),
        ({"prompt": "a", "completion": "b", "label": "maybe"}, "'label' should be true or false"),
        ({"colour": "red"}, "no known form of training data: the fields are colour. Known: messages"),
    ],
)
def test_wrong_row_says_what_it_should_be(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset([row])


def test_empty_data_missing_file_and_unknown_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no rows, so there is nothing to learn from"):
        dataset(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match=r"no file 'nothing.jsonl' \(looked in"):
        dataset("nothing.jsonl")
    with pytest.raises(DataError, match="row 0: should be a dict, it is str"):
        dataset(["text"])  # type: ignore[list-item]
    with pytest.raises(UnknownName, match="form of training data 'chat'"):
        dataset([{"text": "x"}], form="chat")  # type: ignore[arg-type]
    (tmp_path / "broken.parquet").write_bytes(b"PAR0")
    with pytest.raises(DataError, match=r"broken.parquet: not Parquet"):
        dataset(tmp_path / "broken.parquet")


def test_unreachable_hub_says_so() -> None:
    with pytest.raises(
        DataError, match="'nobody/nothing' is no file here and could not be loaded from the Hugging Face Hub"
    ):
        dataset("nobody/nothing")


# -- what can be done to it -----------------------------------------------------------------------------------


def pairs(*words: str) -> list[dict[str, str]]:
    return [
        {"prompt": f"Please tell me everything that you know about the {w} in the garden", "completion": w}
        for w in words
    ]


def test_copies_go_and_the_first_stays() -> None:
    data = dataset([*pairs("rose", "oak"), *pairs("rose")]).distinct(None)
    assert [e.answer[0].content for e in data] == ["rose", "oak"]
    assert data.notes == ("1 copies and 0 near-copies left out of 3",)


def test_near_copies_go_from_the_given_similarity() -> None:
    rows = [{"text": "The river runs past the old mill and the baker sells bread to every traveller who crosses"}]
    rows += [{"text": rows[0]["text"] + " it"}, {"text": "In winter the children skate on the frozen pond all day"}]
    assert len(dataset(rows).distinct(0.8)) == 2
    assert len(dataset(rows).distinct(0.99)) == 3
    with pytest.raises(DataError, match=r"similarity should be in \(0, 1\], it is 2"):
        dataset(rows).distinct(2)


def test_rejected_answers_count_when_pairs_are_compared() -> None:
    prompt = "Tell me something about the old mill at the river please"
    rows = [
        {"prompt": prompt, "chosen": "Yes", "rejected": w * 5}
        for w in ("never ever would I say ", "blue birds sing at night ")
    ]
    assert len(dataset(rows).distinct(0.9)) == 2


def test_split_keeps_a_prompt_on_one_side_and_is_drawn_by_the_seed() -> None:
    rows = [{"prompt": f"q{i % 10}", "completion": str(i)} for i in range(40)]
    train, held = dataset(rows).split(0.2, seed=1)
    sides = [{e.context for e in side} for side in (train, held)]
    assert not sides[0] & sides[1] and len(sides[1]) == 2 and len(train) + len(held) == 40
    assert dataset(rows).split(0.2, seed=1)[1].hash == held.hash != dataset(rows).split(0.2, seed=2)[1].hash


def test_split_of_one_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="1 different prompt is too few"):
        dataset([{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "b"}]).split()


def test_hash_changes_with_content_and_order() -> None:
    rows = pairs("rose", "oak")
    assert dataset(rows).hash != dataset(rows[::-1]).hash != dataset(pairs("rose", "elm")).hash
    assert dataset(rows)[:1].hash == dataset(rows[:1]).hash


# -- leakage --------------------------------------------------------------------------------------------------

QUESTIONS = suite(
    [
        {"id": "mill", "input": "How many loaves does the baker at the old mill sell on a rainy day in June?"},
        {"id": "pond", "input": "Which of the children who skate on the frozen pond falls into the water first?"},
        {"id": "short", "input": "Why?"},
    ],
    name="questions",
)  # fmt: skip


def test_leaked_item_is_found_and_its_example_named() -> None:
    text = "I read: how many loaves does the baker at the old mill sell, on a rainy day in June? Seven."
    data = dataset([{"text": "Nothing to see here, only a long line of words that nobody asked."}, {"text": text}])
    found = data.leakage(QUESTIONS)
    assert found.leaked == ["mill"] and not found.clean and found.examples == {1}
    assert (found.n, found.items) == (2, 3) and "1 items are too short to tell" in repr(found)
    with pytest.raises(DataError, match=r"1 of 3 items of questions are in the training data \(mill in row 1"):
        found.require()
    assert [e.text for e in data.without(QUESTIONS)] == [data[0].text]


def test_clean_data_passes() -> None:
    found = dataset(pairs("rose")).leakage(QUESTIONS)
    assert found.clean
    found.require()


def test_half_an_item_counts_by_the_threshold() -> None:
    data = dataset([{"text": "How many loaves does the baker at the old mill own?"}])
    assert data.leakage(QUESTIONS, threshold=0.2).leaked == ["mill"]
    assert data.leakage(QUESTIONS, threshold=0.9).leaked == []
