"""The command line: `llmlab run`, `estimate`, `models`, `benchmarks`, `prompt`, `show`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors of the library are one line on stderr and exit status 2."""
    from llmlab.cli.app import app
    from llmlab.errors import LabError

    try:
        app()
    except LabError as error:
        print(f"llmlab: {error}", file=sys.stderr)  # noqa: T201  # a command line prints
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise  # not about a file that was named
        print(f"llmlab: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
