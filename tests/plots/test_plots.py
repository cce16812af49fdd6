"""Plots draw what the table says: points, intervals, chance, n and the finding."""

from __future__ import annotations

import io
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from llmlab import plots
from llmlab.plots import theme
from llmlab.plots.frontier import pareto

NAN = float("nan")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def scored(**changes):
    base = {"model": "a", "benchmark": "arc", "benchmark_version": "1", "protocol": "letter", "metric": "accuracy"}
    numbers = {"n": 100, "score": 0.6, "low": 0.5, "high": 0.7, "chance": 0.25}
    return base | numbers | {"low_if_all_wrong": 0.6, "high_if_all_right": 0.6} | changes


def differing(**changes):
    base = scored() | {"baseline": "base", "difference": 0.1, "low": 0.02, "high": 0.18, "p_holm": 0.01}
    return base | {"verdict": "better"} | changes


def priced(**changes):
    return scored() | {"per_1000": 1.0, "per_1000_low": 0.9, "per_1000_high": 1.1} | changes


def table(*lines):
    return pd.DataFrame(lines)


def xs(ax):
    """The x data of every drawn line."""
    return [list(map(float, line.get_xdata())) for line in ax.lines]


def texts(ax):
    drawn = [t.get_text() for t in ax.texts] + [t.get_text() for t in ax.get_yticklabels()]
    return [*drawn, ax.get_xlabel(), ax.get_ylabel()]


def image(ax):
    ax.figure.savefig(buffer := io.BytesIO(), format="png")
    return buffer.getvalue()


# -- scores ---------------------------------------------------------------------------------------------------


def test_scores_are_drawn_in_per_cent_with_interval_and_chance():
    ax = plots.scores(table(scored()))
    assert [60.0] in xs(ax)
    assert [50.0, 70.0] in xs(ax)
    assert [25.0, 25.0] in xs(ax)
    assert "chance" in texts(ax)
    assert "60.0 %" in texts(ax)


def test_n_is_stated_once_or_per_model():
    assert any("n = 100" in t for t in texts(plots.scores(table(scored(), scored(model="b")))))
    drawn = texts(plots.scores(table(scored(), scored(model="b", n=1319))))
    assert "a  (n = 100)" in drawn
    assert "b  (n = 1,319)" in drawn


def test_protocols_and_versions_stand_apart():
    ax = plots.scores(table(scored(), scored(protocol="generate"), scored(benchmark_version="2")))
    headings = [t for t in texts(ax) if t.startswith("arc")]
    assert len(headings) == 3
    assert any("generate" in h for h in headings)
    assert any("version 2" in h for h in headings)


def test_lost_answers_are_drawn_as_a_dotted_line():
    lost = plots.scores(table(scored(low_if_all_wrong=0.5, high_if_all_right=0.9)))
    assert [line for line in lost.lines if line.get_linestyle() == ":"]
    assert "dotted" in lost.get_xlabel()
    whole = plots.scores(table(scored()))
    assert not [line for line in whole.lines if line.get_linestyle() == ":"]


def test_a_score_without_interval_or_chance_is_drawn_alone():
    ax = plots.scores(table(scored(low=NAN, high=NAN, chance=NAN)))
    assert xs(ax) == [[60.0]]


def test_no_score_is_said():
    ax = plots.scores(table(scored(score=NAN, low=NAN, high=NAN, chance=NAN, low_if_all_wrong=0, high_if_all_right=1)))
    assert "no score" in texts(ax)
    assert image(ax)


def test_title_is_what_is_given_or_made_from_the_table():
    assert plots.scores(table(scored()), title="b leads").get_title(loc="left") == "b leads"
    assert plots.scores(table(scored()), title="").get_title(loc="left") == ""
    assert "1 model on 1 benchmark" in plots.scores(table(scored())).get_title(loc="left")


def test_an_empty_table_is_refused():
    for draw, line in ((plots.scores, scored()), (plots.difference, differing())):
        with pytest.raises(ValueError, match="nothing to plot"):
            draw(table(line).iloc[:0])


def test_a_plot_goes_into_the_axes_it_is_given():
    _, (left, right) = plt.subplots(1, 2)
    assert plots.scores(table(scored()), ax=left) is left
    assert plots.difference(table(differing()), ax=right) is right
    assert len(plt.get_fignums()) == 1


def test_global_settings_stay_as_they_were():
    before = dict(mpl.rcParams)
    plots.scores(table(scored()))
    plots.difference(table(differing()))
    plots.frontier(table(priced()))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", ["$x_1$ \\alpha", "模型", "a" * 200, "<b>&amp;", ""])
def test_any_name_can_be_drawn(name):
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        assert image(plots.scores(table(scored(model=name, benchmark=name))))
        assert plots.svg(plots.difference(table(differing(model=name, baseline=name))), name)


def test_many_models_fit():
    ax = plots.scores(table(*(scored(model=f"model {i}", score=i / 40) for i in range(40))))
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(a.y0 >= b.y1 - 1 for a, b in pairwise(boxes))


def test_names_and_numbers_lie_inside_the_figure():
    ax = plots.scores(table(scored(model="hf/HuggingFaceTB/SmolLM2-135M-Instruct")), title="A long finding " * 9)
    page = ax.figure.bbox
    for text in [*ax.get_yticklabels(), *ax.texts, ax.xaxis.label, ax._left_title]:
        box = text.get_window_extent()
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y1 <= page.y1 + 1


# -- difference -----------------------------------------------------------------------------------------------


def test_differences_are_drawn_in_points_around_zero():
    ax = plots.difference(table(differing()))
    assert [10.0] in xs(ax)
    assert [2.0, 18.0] in xs(ax)
    assert [0.0, 0.0] in xs(ax)
    assert "p = 0.010" in texts(ax)
    assert "percentage points from base" in ax.get_xlabel()


def test_only_shown_differences_are_filled():
    ax = plots.difference(table(differing(), differing(model="b", verdict="no difference shown", p_holm=0.4)))
    filled, opened = (line for line in ax.lines if line.get_marker() in theme.MARKERS)
    assert filled.get_markerfacecolor() != theme.PAPER
    assert opened.get_markerfacecolor() == theme.PAPER


def test_title_of_differences_is_the_finding():
    one = plots.difference(table(differing()))
    assert one.get_title(loc="left") == "a is better than base by 10.0 points on arc"
    null = plots.difference(table(differing(verdict="no difference shown")))
    assert null.get_title(loc="left") == "No difference shown between a and base on arc"
    many = plots.difference(table(differing(), differing(model="b", verdict="worse")))
    assert many.get_title(loc="left") == "Against base: 1 better, 1 worse, 0 with no difference shown"


def test_a_difference_without_interval_or_p_is_drawn_alone():
    ax = plots.difference(table(differing(low=NAN, high=NAN, p_holm=NAN, verdict="too few items to tell")))
    assert [10.0] in xs(ax)
    assert image(ax)


# -- frontier -------------------------------------------------------------------------------------------------


def test_frontier_has_intervals_on_both_axes():
    ax = plots.frontier(table(priced()))
    assert [1.0, 1.0] in xs(ax)
    assert [0.9, 1.1] in xs(ax)


def test_frontier_holds_what_nothing_cheaper_beats():
    cheap, dear = priced(model="cheap", per_1000=1, score=0.5), priced(model="dear", per_1000=9, score=0.9)
    beaten = priced(model="beaten", per_1000=5, score=0.5)
    tie = priced(model="tie", per_1000=1, score=0.4)
    assert list(pareto(table(dear, beaten, cheap, tie))["model"]) == ["cheap", "dear"]
    title = plots.frontier(table(dear, beaten, cheap, tie)).get_title(loc="left").replace("\n", " ")
    assert title == "Nothing cheaper scores higher than cheap and dear on arc"


def test_unpriced_models_are_named_and_not_drawn_as_free():
    ax = plots.frontier(table(priced(), priced(model="secret", per_1000=NAN)))
    assert "not drawn, unpriced: secret" in ax.get_xlabel()
    assert "secret" not in [t.get_text() for t in ax.texts]


def test_costs_far_apart_get_a_log_scale_and_free_ones_do_not():
    assert plots.frontier(table(priced(per_1000=0.01), priced(model="b", per_1000=10))).get_xscale() == "log"
    assert plots.frontier(table(priced(per_1000=0.0), priced(model="b", per_1000=10))).get_xscale() == "linear"


def test_frontier_without_prices_says_so():
    ax = plots.frontier(table(priced(per_1000=NAN)))
    assert ax.get_title(loc="left") == "No model has both a price and a score on arc"
    assert image(ax)


# -- theme and SVG --------------------------------------------------------------------------------------------


def luminance(colour):
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_is_readable_on_its_paper():
    assert contrast(theme.INK, theme.PAPER) >= 7
    assert contrast(theme.MUTED, theme.PAPER) >= 4.5


def test_plots_of_ones_own_can_have_the_look_of_ours() -> None:
    with plt.style.context(theme.STYLE):
        assert tuple(entry["color"] for entry in mpl.rcParams["axes.prop_cycle"]) == theme.PALETTE
        found = {
            mpl.colors.to_hex(mpl.rcParams[n]) for n in ("text.color", "xtick.color", "grid.color", "figure.facecolor")
        }
        assert found == {theme.INK, theme.MUTED, theme.GRID, theme.PAPER}


def test_the_grid_of_a_style_in_use_is_not_drawn_into_ours() -> None:
    with plt.style.context(theme.STYLE):
        ax = plots.scores(pd.DataFrame([scored()]))
        assert not any(line.get_visible() for line in ax.get_ygridlines())


@pytest.mark.parametrize("colour", theme.PALETTE)
def test_every_colour_can_be_seen_on_light_and_dark_paper(colour):
    assert contrast(colour, theme.PAPER) >= 2
    assert contrast(colour, "#15181d") >= 3


# tritanopia is ten thousand times rarer, and markers differ too
@pytest.mark.parametrize(("kind", "least"), [("protan", 0.19), ("deutan", 0.19), ("tritan", 0.13)])
def test_colours_stay_apart_for_colour_blind_readers(kind, least):
    # Machado, Oliveira and Fernandes (2009), severity 1.0
    matrix = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }[kind]
    seen = [np.clip(np.array(matrix) @ mpl.colors.to_rgb(colour), 0, 1) for colour in theme.PALETTE[:4]]
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[i + 1 :]]
    assert min(gaps) > least


def test_svg_is_inline_accessible_and_follows_the_page():
    drawn = plots.svg(plots.scores(table(scored())), 'the "finding" <b>', prefix="p1")
    assert drawn.startswith("<svg viewBox=")
    assert 'role="img" aria-label="the &quot;finding&quot; &lt;b&gt;"' in drawn
    assert "<metadata" not in drawn
    assert "http" not in drawn
    assert "currentColor" in drawn
    assert theme.INK not in drawn
    assert 'id="p1-' in drawn
    assert plt.get_fignums() == []


def test_svg_is_the_same_every_time():
    def draw():
        return plots.svg(plots.scores(table(scored())), "x")

    assert draw() == draw()
