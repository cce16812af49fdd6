"""Plots: a DataFrame in, matplotlib Axes out. They call no model and change no global setting.

Every plot shows intervals, says n, draws the chance or baseline line, and has the finding as its title.
`plt.style.use("llmlab.plots.lab")` gives plots of your own the same look.
"""

from llmlab.plots.coverage import coverage
from llmlab.plots.difference import difference
from llmlab.plots.dose import dose
from llmlab.plots.formats import formats
from llmlab.plots.frontier import frontier
from llmlab.plots.memory import memory
from llmlab.plots.noise import noise
from llmlab.plots.plane import plane
from llmlab.plots.profile import profile
from llmlab.plots.scores import scores
from llmlab.plots.svg import svg

__all__ = [
    "coverage",
    "difference",
    "dose",
    "formats",
    "frontier",
    "memory",
    "noise",
    "plane",
    "profile",
    "scores",
    "svg",
]
