import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import scorers
from llmlab.errors import DataError
from llmlab.scorers.numbers import numbers
from llmlab.types import Sample


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-3.5 km, then $1,200 or 3/4 of it, 12%", [-3.5, 1200, 0.75, 12]),
        ("17-3=14", [17, 3, 14]),
        ("x=-4 and (-4)", [-4, -4]),
        ("-$5, $-5.20, €7", [-5, -5.2, 7]),
        ("1 1/2 cups", [1.5]),
        ("1,2,3", [1, 2, 3]),
        ("1,234,567.89", [1234567.89]),
        ("1'234 or 1\u202f234", [1234, 1234]),
        ("It is 51.", [51]),
        ("\\boxed{51}", [51]),
        ("\u22127", [-7]),
        ("1e3 and 2.5E-2", [1000, 0.025]),
        ("2024-05-06", [2024, 5, 6]),
        ("05/06/2024", [5, 6, 2024]),
        (".5", [0.5]),
        ("A4 x2", []),
        ("", []),
        ("no number", []),
    ],
)
def test_numbers_are_read_as_they_are_written(text: str, expected: list[float]) -> None:
    assert [n.value for n in numbers(text)] == pytest.approx(expected)


def test_division_by_zero_is_not_a_number() -> None:
    assert math.isnan(numbers("1/0")[0].value)
    assert scorers.numeric()("1/0", Sample("?", "0")).value == 0.0


@given(st.integers(-(10**12), 10**12))
def test_every_whole_number_is_read_back(n: int) -> None:
    assert [found.value for found in numbers(f"So it is {n:,}.")] == [n]


@given(st.floats(-1e9, 1e9, allow_nan=False).map(lambda x: round(x, 3)))
def test_every_decimal_is_read_back(x: float) -> None:
    assert scorers.numeric()(f"about {x:.3f} m", Sample("?", f"{x:.3f}")).value == 1.0


@pytest.mark.parametrize(
    ("settings", "text", "target", "value"),
    [
        ({}, "first 3, then 51", "51", 1),
        ({"which": "first"}, "first 3, then 51", "51", 0),
        ({"which": "any"}, "51 of 60", "51", 1),
        ({"tolerance": 0.1}, "3.2", "3.14", 1),
        ({"tolerance": 0.01}, "3.2", "3.14", 0),
        ({"relative": 0.02}, "1010", "1000", 1),
        ({}, "50%", "0.5", 1),
        ({}, "50%", "50", 1),
        ({}, "0.5", "50%", 1),
        ({}, "50 %", "50%", 1),
        ({}, "5%", "50%", 0),
        ({}, "0.75", "3/4", 1),
        ({}, "-51", "51", 0),
        ({}, "$51.00", "51 dollars", 1),
    ],
)
def test_units_percents_and_tolerances(settings: dict[str, Any], text: str, target: str, value: float) -> None:
    assert scorers.numeric(**settings)(text, Sample("?", target)).value == value


def test_answer_without_a_number_is_unparsable() -> None:
    score = scorers.numeric()("fifty-one", Sample("?", "51"))
    assert (score.value, score.parsed) == (0.0, False)


@pytest.mark.parametrize("target", ["many", "3 or 4"])
def test_target_that_is_not_one_number_is_an_error(target: str) -> None:
    with pytest.raises(DataError, match="needs one number as target"):
        scorers.numeric()("3", Sample("?", target))


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DataError, match="possible: last, first, any"):
        scorers.numeric(which="middle")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not negative"):
        scorers.numeric(tolerance=-1)
    with pytest.raises(DataError, match="tolerance is a number, 0 or more; got 'abc'"):
        scorers.parse("numeric:abc")
    with pytest.raises(DataError, match="relative is a number, 0 or more; got nan"):
        scorers.numeric(relative=math.nan)
