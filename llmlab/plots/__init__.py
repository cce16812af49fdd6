"""Plots: a DataFrame in, matplotlib Axes out. They call no model and change no global setting.

Every plot shows intervals, says n, draws the chance or baseline line, and has the finding as its title.
"""

from llmlab.plots.difference import difference
from llmlab.plots.frontier import frontier
from llmlab.plots.scores import scores
from llmlab.plots.svg import svg

__all__ = ["difference", "frontier", "scores", "svg"]
