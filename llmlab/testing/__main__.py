"""Run the stand-in on its own: `python -m llmlab.testing --port 8399 --latency 0.2`; prints its address."""

from __future__ import annotations

import argparse
import sys

from llmlab.testing.server import ProviderServer


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m llmlab.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per answer")
    parser.add_argument("--answer", default="The answer is 42.", help="what to say")
    given = parser.parse_args()
    server = ProviderServer(given.answer, latency=given.latency, port=given.port)
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        server.wait()


if __name__ == "__main__":
    main()
