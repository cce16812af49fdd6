"""What an evaluation found: tidy rows that show, compare and explain themselves."""

from llmlab.results.comparison import Comparison
from llmlab.results.frame import COLUMNS
from llmlab.results.results import Results

__all__ = ["COLUMNS", "Comparison", "Results"]
