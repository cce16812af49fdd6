"""How numbers are written."""

from __future__ import annotations

import math

import pytest

from llmlab.results import display


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (math.nan, "unpriced"),
        (0, "$0"),
        (0.00012, "$0.00012"),
        (0.042, "$0.042"),
        (1.5, "$1.50"),
        (12345.6, "$12,345.60"),
    ],
)
def test_dollars(cost, text):
    assert display.dollars(cost) == text


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "–"), (0, "0"), (0.0123, "0.012"), (0.5, "0.50"), (3.14159, "3.14"), (75.2, "75")]
)
def test_seconds(value, text):
    assert display.seconds(value) == text


@pytest.mark.parametrize(("p", "text"), [(math.nan, "–"), (0.0001, "< 0.001"), (0.0312, "0.031"), (1, "1.000")])
def test_p_values(p, text):
    assert display.p_value(p) == text


@pytest.mark.parametrize(("gap", "text"), [(0.1234, "+12.3"), (-0.05, "-5.0"), (-0.0001, "+0.0"), (math.nan, "–")])
def test_points(gap, text):
    assert display.points(gap) == text


def test_percent_and_interval():
    assert display.percent(0.5) == "50.0 %"
    assert display.percent(math.nan) == "–"
    assert display.interval(0.1, 0.256) == "[10.0, 25.6]"
    assert display.interval(math.nan, math.nan) == "–"


def test_words():
    assert [display.count(n, "item") for n in (0, 1, 1319)] == ["0 items", "1 item", "1,319 items"]
    assert display.series(["a"]) == "a"
    assert display.series(["a", "b", "c"]) == "a, b and c"
    assert display.series([]) == ""


def test_control_characters_become_visible():
    assert display.visible("a\x1b[2J\x00\x7f\r\n\tb") == "a␛[2J␀␡\n\tb"


def test_a_table_lines_up():
    assert (
        display.text_table(["a", "n"], [["x\ny", 1], ["longer", 10]], right=[1]) == "a        n\nx y      1\nlonger  10"
    )
