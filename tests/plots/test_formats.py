from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from llmlab import plots


@pytest.fixture
def frame():
    rows = [("full", 0.72, 11.5, 900.0), ("nf4", 0.70, 3.3, 400.0), ("GGUF", 0.71, 11.5, 880.0)]
    table = pd.DataFrame(rows, columns=["model", "score", "weights", "decode"])
    table = table.assign(low=table["score"] - 0.06, high=table["score"] + 0.06, n=200, weights=table["weights"] / 1000)
    return table.assign(decode_low=table["decode"] - 50, decode_high=table["decode"] + 50)


def test_the_title_says_what_the_smallest_saves_and_scores(frame):
    ax = plots.formats(frame)
    assert ax.get_title(loc="left").replace("\n", " ") == (
        "nf4 takes 29 % of the memory of full and scores 70.0 % against 72.0 %"
    )
    assert "n = 200" in ax.get_xlabel()
    plt.close(ax.figure)


def test_dots_that_take_the_same_stand_side_by_side_and_grow_with_speed(frame):
    ax = plots.formats(frame)
    places = [dots.get_offsets()[0][0] for dots in ax.collections]
    assert places[0] == pytest.approx(11.5)
    assert 11.5 < places[2] < 12
    sizes = [dots.get_sizes()[0] for dots in ax.collections]
    assert sizes[0] > sizes[2] > sizes[1]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[1] == "nf4: 400 [350, 450]"
    plt.close(ax.figure)


def test_a_file_is_a_hollow_mark_of_its_own(frame):
    ax = plots.formats(frame.assign(file=[float("nan"), float("nan"), 0.002]))
    assert len(ax.collections) == 4
    assert "hollow: the file" in ax.get_xlabel()
    plt.close(ax.figure)


def test_a_title_keeps_a_number_and_its_unit_on_one_line():
    from llmlab.plots.theme import wrapped

    for width in (2.6, 3.0, 3.5, 4.0, 4.5, 5.0):
        lines = wrapped("nf4 takes 29 % of the memory of full and scores 72.0 % against 72.5 %", width)
        assert not any(line.startswith("%") for line in lines)
        assert " ".join(lines) == "nf4 takes 29 % of the memory of full and scores 72.0 % against 72.5 %"
