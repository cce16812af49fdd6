"""Metrics of Hugging Face's `evaluate`, from scripts written here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmlab import scorers
from llmlab.errors import DataError, MissingPackage, UnknownName
from llmlab.types import Sample

SCRIPT = """
import datasets
import evaluate
{extra}

class Metric(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="A metric of the tests.", citation="", inputs_description="",
            features=datasets.Features({{"predictions": {predictions}, "references": {references}}}),
        )

    def _compute(self, predictions, references, **settings):
        {compute}
"""
TEXT = 'datasets.Value("string")'
CAPITAL = Sample("Capital of France?", ("Paris", "paris"))


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import evaluate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
        # one for all tests: the copies of the scripts are modules of one package, which is imported once
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def script(
    folder: Path,
    compute: str,
    name: str = "halves",
    predictions: str = TEXT,
    references: str = TEXT,
    extra: str = "",
) -> Path:
    made = folder / name / f"{name}.py"
    made.parent.mkdir(parents=True)
    made.write_text(SCRIPT.format(compute=compute, predictions=predictions, references=references, extra=extra))
    return made.parent


def test_a_script_scores_each_answer_and_the_best_target_counts(tmp_path: Path) -> None:
    folder = script(tmp_path, 'return {"halves": 0.5 * (predictions == references), "length": len(predictions[0])}')
    scorer = scorers.hf_evaluate(folder)
    score = scorer("paris", CAPITAL)
    assert (score.value, score.metrics) == (0.5, {"halves": 0.5, "length": 5.0})
    assert scorer("Rome", CAPITAL).value == 0.0
    assert scorers.hf_evaluate(folder / "halves.py")("Paris", CAPITAL).value == 0.5
    assert math.isnan(scorer("Paris", Sample("?")).value)


def test_all_targets_at_once_where_the_metric_takes_a_list(tmp_path: Path) -> None:
    folder = script(
        tmp_path,
        'return {"any": float(predictions[0] in references[0]), "n": len(references[0])}',
        name="any",
        references=f"datasets.Sequence({TEXT})",
    )
    assert scorers.hf_evaluate(folder)("paris", CAPITAL).metrics == {"any": 1.0, "n": 2.0}


def test_numbers_are_read_where_the_metric_compares_numbers(tmp_path: Path) -> None:
    kind = 'datasets.Value("int32")'
    folder = script(
        tmp_path, 'return {"same": float(predictions == references)}', "same", predictions=kind, references=kind
    )
    scorer = scorers.hf_evaluate(folder)
    sample = Sample("17 * 3?", "51")
    assert scorer("17 * 3 = 51", sample).value == 1.0
    silent = scorer("no idea", sample)
    assert (silent.value, silent.parsed) == (0.0, False)
    with pytest.raises(DataError, match="target 'many' has none"):
        scorer("51", Sample("?", "many"))


def test_key_scale_and_settings(tmp_path: Path) -> None:
    folder = script(tmp_path, 'return {"a": 80.0, "b": settings["times"] * 20.0}', name="percent")
    assert scorers.hf_evaluate(folder, key="b", scale=100, times=2)("x", CAPITAL).value == pytest.approx(0.4)
    for settings, message in [
        ({"times": 1}, "say which is the score with key="),
        ({"times": 1, "key": "c"}, "gives no 'c'; it gives a, b"),
        ({"times": 1, "key": "a"}, "say scale=100"),
    ]:
        with pytest.raises(DataError, match=message):
            scorers.hf_evaluate(folder, **settings)("x", CAPITAL)  # type: ignore[arg-type]


def test_a_metric_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no metric 'accuracyy' here.*give the path of a copy"):
        scorers.hf_evaluate("accuracyy")
    with pytest.raises(DataError, match=r"no metric script at .*nothing\.py"):
        scorers.hf_evaluate(tmp_path / "nothing")


def test_scripts_that_do_not_load_say_why(tmp_path: Path) -> None:
    broken = script(tmp_path, "return (", name="broken")
    with pytest.raises(DataError, match="does not load: SyntaxError"):
        scorers.hf_evaluate(broken)
    needy = script(tmp_path, "return {}", name="needy", extra="import no_such_package_of_ours")
    with pytest.raises(MissingPackage, match="no_such_package_of_ours"):
        scorers.hf_evaluate(needy)
    other = script(tmp_path, "return {}", name="other", predictions="", references="")
    with pytest.raises(DataError, match="does not load"):
        scorers.hf_evaluate(other)


def test_a_file_cannot_ask_for_the_code_of_a_metric() -> None:
    with pytest.raises(UnknownName, match="No scorer 'hf_evaluate'"):
        scorers.parse("hf_evaluate:anything")
