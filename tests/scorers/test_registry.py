import subprocess
import sys
from typing import Any

import pytest

from llmlab import scorers
from llmlab.errors import DataError, UnknownName
from llmlab.scorers.registry import ALIASES, table


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("exact", scorers.exact()),
        ("exact:strict=true", scorers.exact(strict=True)),
        ("contains:refund", scorers.contains("refund")),
        ("contains: refund , sorry", scorers.contains("refund", "sorry")),
        ("contains_any:a,b", scorers.contains("a", "b", any=True)),
        ("contains", scorers.contains()),
        ("numeric", scorers.numeric()),
        ("numeric:0.5", scorers.numeric(tolerance=0.5)),
        ("numeric:relative=0.01,which=any", scorers.numeric(relative=0.01, which="any")),
        ("regex:a:b,c", scorers.regex("a:b,c")),
        ("choice", scorers.choice()),
        ("rouge:rouge1", scorers.rouge("rouge1")),
        ("chrf++", scorers.chrf(word_order=2)),
        ("not:contains:sorry", scorers.not_(scorers.contains("sorry"))),
        ({"contains": ["a, b", "c"]}, scorers.contains("a, b", "c")),
        ({"contains": {"keywords": ["a"], "words": True}}, scorers.contains("a", words=True)),
        ({"numeric": {"tolerance": 1}}, scorers.numeric(tolerance=1)),
        ({"json": {"schema": {"type": "object"}}}, scorers.json({"type": "object"})),
        ({"all_of": ["contains:a", {"not": "contains:b"}]},
         scorers.all_of(scorers.contains("a"), scorers.not_(scorers.contains("b")))),
    ],
)  # fmt: skip
def test_words_make_the_scorer_that_they_name(spec: Any, expected: Any) -> None:
    assert scorers.parse(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("contain:refund", "No scorer 'contain'. Did you mean 'contains'"),
        ("", "No scorer ''"),
        ("numeric:tolerence=1", "No setting of numeric 'tolerence'. Did you mean 'tolerance'"),
        ({"contains": {"word": True}}, "No setting of contains 'word'. Did you mean 'words'"),
        ("custom:os.system", "No scorer 'custom'"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(spec: Any, message: str) -> None:
    with pytest.raises(UnknownName) as caught:
        scorers.parse(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("spec", [{}, {"a": 1, "b": 2}, "choice:3", "contains:a,,b"])
def test_what_is_no_scorer_is_an_error(spec: Any) -> None:
    with pytest.raises(DataError):
        scorers.parse(spec)


def test_code_is_not_run_on_the_word_of_a_file() -> None:
    from llmlab.errors import NeedsConsent

    with pytest.raises(NeedsConsent):
        scorers.parse("code")


def test_aliases_lead_to_scorers() -> None:
    assert {target.partition(":")[0] for target in ALIASES.values()} <= set(table())


def test_public_names_are_those_of_the_table() -> None:
    assert {*scorers.__all__} - {"calibration", "parse"} <= set(table())
    with pytest.raises(AttributeError, match=r"llmlab\.scorers has no 'exakt'; it has"):
        _ = scorers.exakt  # type: ignore[attr-defined]


def test_import_of_one_module_does_not_hide_the_function_of_the_same_name() -> None:
    for name in scorers.__all__:
        assert callable(getattr(scorers, name))


def test_scorers_load_only_what_they_need() -> None:
    code = (
        "import sys; from llmlab import scorers; scorers.contains('a'); scorers.numeric(); "
        "print([m for m in ('torch', 'pandas', 'sacrebleu', 'nltk', 'jsonschema', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
