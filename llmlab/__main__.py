"""`python -m llmlab` is the command line."""

from llmlab.cli import main

main()
