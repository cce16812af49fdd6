import json
import math
import sys
from pathlib import Path

import pytest

from llmlab.benchmarks import language
from llmlab.benchmarks.ifeval import instruction_level, loose_readings
from llmlab.benchmarks.ifeval_checks import CHECKS, followed, is_json, needed
from llmlab.benchmarks.registry import benchmark
from llmlab.errors import DataError, MissingPackage, UnknownName
from tests.unit_benchmarks.replies import OWN, real_rows, said


def test_there_are_25_checks_each_with_its_settings() -> None:
    assert len(CHECKS) == 25
    assert needed("punctuation:no_comma") == ()
    assert needed("keywords:frequency") == ("keyword", "frequency", "relation")


def test_strict_reads_the_response_and_loose_forgives_frames_and_asterisks() -> None:
    made = benchmark("ifeval", source=OWN)
    bullets = made.samples()[2]
    answer = "* FIG\n* PEAR\n* plum"
    assert made.score(bullets, said(answer)).metrics == {
        "prompt_level_strict": 1.0,
        "prompt_level_loose": 1.0,
        "inst_level_strict": 1.0,
        "inst_level_loose": 1.0,
        "instructions": 2.0,
    }
    framed = made.score(bullets, said(f"* Of course:\n{answer}"))
    assert (framed.value, framed.metrics["prompt_level_loose"], framed.metrics["inst_level_strict"]) == (0.0, 1.0, 0.5)
    assert framed.explanation is not None
    assert framed.explanation.startswith("not followed: detectable_format:number_bullet_lists")


def test_loose_has_eight_readings() -> None:
    assert loose_readings("a\n*b*\nc") == ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]


def test_empty_response_follows_nothing() -> None:
    assert not followed("punctuation:no_comma", {}, " \n ")
    made = benchmark("ifeval", source=OWN)
    assert all(made.score(sample, said("")).metrics["inst_level_loose"] == 0 for sample in made.samples())


def test_text_without_a_language_counts_as_followed() -> None:
    assert followed("language:response_language", {"language": "de"}, "12 34")


def test_character_that_is_no_letter_is_counted_too() -> None:
    settings = {"letter": "!", "let_frequency": 2, "let_relation": "at least"}
    assert followed("keywords:letter_frequency", settings, "Oh! No!")
    assert not followed("keywords:letter_frequency", settings, "Oh!")


def test_deeply_nested_json_is_no_crash() -> None:
    assert not is_json("[" * 100_000)


def test_instruction_level_counts_each_instruction_once() -> None:
    made = benchmark("ifeval", source=OWN)
    scores = [made.score(s, said("Bread and lamps.")).metrics for s in made.samples()]
    right = sum(m["inst_level_strict"] * m["instructions"] for m in scores)
    total = sum(len(s.metadata["instructions"]) for s in made.samples())
    assert instruction_level(scores) == pytest.approx(right / total)
    assert instruction_level(scores, "loose") >= instruction_level(scores)
    assert math.isnan(instruction_level([]))


def test_result_is_marked_when_sentences_are_split_by_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_punkt", lambda: None)
    made = benchmark("ifeval", source=OWN)
    assert "fallback rule" in made.wording("generate")
    by_key = {sample.id: made.score(sample, said("It rains.")).explanation or "" for sample in made.samples()}
    assert "fallback rule" in by_key["14"]
    assert "fallback rule" not in by_key["1"]


def test_missing_package_is_reported_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    language._detectors.cache_clear()
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(MissingPackage, match=r"pip install 'llmlab\[ifeval\]'"):
        benchmark("ifeval", source=OWN).samples()
    language._detectors.cache_clear()


@pytest.mark.parametrize(
    ("instruction", "settings", "message"),
    [
        ("length_constraints:number_words", {"num_words": 3}, "train.jsonl:1: field 'kwargs.relation' should be set"),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "about"},
            "field 'kwargs.relation' should be 'less than' or 'at least', it is 'about'",
        ),
        ("detectable_format:title", 7, "field 'kwargs' should be a list of objects"),
    ],
)
def test_wrong_settings_name_file_line_and_field(
    tmp_path: Path, instruction: str, settings: object, message: str
) -> None:
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        _with(tmp_path, instruction, settings).samples()


def test_unknown_instruction_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"No instruction 'detectable_format:titel'\. Did you mean"):
        _with(tmp_path, "detectable_format:titel", {}).samples()


def _with(folder: Path, instruction: str, settings: object):  # type: ignore[no-untyped-def]
    path = folder / "ifeval" / "default" / "train.jsonl"
    path.parent.mkdir(parents=True)
    row = {"key": 1, "prompt": "?", "instruction_id_list": [instruction], "kwargs": [settings]}
    path.write_text(json.dumps(row) + "\n")
    return benchmark("ifeval", source=folder)


def test_every_published_prompt_can_be_checked() -> None:
    made = benchmark("ifeval", source=real_rows())
    samples = made.samples()
    assert len(samples) == made.card.n
    assert {name for s in samples for name in s.metadata["instructions"]} == set(CHECKS)
    no_words = [s for s in samples if "language" not in str(s.tags) and "english" not in str(s.tags)]
    scores = [made.score(s, said("No.")) for s in no_words]
    assert 0 < sum(s.value for s in scores) < len(scores) / 2
