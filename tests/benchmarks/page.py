"""Seconds until a page of `llmlab ui` can be used, in headless Chromium.

    python tests/benchmarks/page.py [visits]

Useful is when the panel's widgets are there and show what the store holds, not when the first pixel is there: the still
picture that comes before is timed apart. Each visit has a browser context of its own, so nothing is cached by the
browser, and a kernel of its own, forked from a process that has imported everything. The first visit to a page in a
server is apart from the later ones: what a page loads on its first use is not yet in the file cache of the system then,
and the very first one of all waits for the imports.

Measured on 2 cores that others used too (load 3 to 6), 2026-11; medians of 5, and of what each visit takes 0.3 s of CPU
are the kernel's and 1 to 4 s are Chromium's, which has nothing cached:

                first visit    later, useful    later, still picture
home                  9.7 s            3.0 s                   1.5 s    (the first visit of all waits for the imports)
runs                  4.8              4.1                     1.9
compare               4.2              3.4                     2.3
prompt_tester         4.0              3.7                     3.7      (has no still picture with the text looked for)
feedback              3.0              3.0                     1.6
costs                 2.7              2.6                     1.3
monitor               3.8              3.7                     2.1

Before forks stopped to import Voilà, which took each of them 3 to 4 s of CPU: 5.9 to 7.6 s later, still picture 4.8 to
6.6 s.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import llmlab as lab

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
# page -> a text that is there once its panel has read the store
_USEFUL = {
    "home": "Latest runs",
    "runs": "40 answers",
    "compare": "with different scores",
    "prompt_tester": "hide who answers",
    "feedback": "Nobody has voted",
    "costs": r"for \d+ answers",
    "monitor": "1 round",
}


class Seconds(NamedTuple):
    """From asking for a page until its still picture shows what is stored, and until its widgets do."""

    seen: float
    useful: float


def main(visits: int = 5) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'runs.db'}"
        fill(store)
        began = time.perf_counter()
        command = [sys.executable, "-m", "llmlab", "ui", "--port", "0", "--store", store]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            try:
                assert server.stdout is not None
                found = re.search(r"http://\S+", server.stdout.readline())
                assert found, "the server did not start"
                print(f"server up: {time.perf_counter() - began:.1f} s")
                with sync_playwright() as play:
                    browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=_QUIET)
                    for page in _USEFUL:
                        first = visit(browser, found.group(), page)
                        later = [visit(browser, found.group(), page) for _ in range(visits)]
                        print(f"{page:<14} first visit {first.useful:.1f} s, later {spread(later)}", flush=True)
                    browser.close()
            finally:
                server.terminate()


def fill(store: str) -> None:
    """A watch with one round, and a run of two models."""
    with lab.Store(store) as opened:
        watch = lab.monitor("micro/small", "micro/arc", 10, store=opened, name="night", canary=False)
        watch.run(datetime(2026, 11, 1, tzinfo=UTC))
    lab.evaluate(["micro/small", "micro/base"], "micro/arc", n=20, store=store, progress=False)


def visit(browser: Any, address: str, page: str) -> Seconds:
    """Of one visit with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    began = time.perf_counter()
    token, text = urlsplit(address), re.compile(_USEFUL[page])
    tab.goto(f"http://{token.netloc}/voila/render/{page}.ipynb?{token.query}", wait_until="commit")
    tab.locator("main").get_by_text(text).first.wait_for(timeout=120_000, state="attached")
    seen = time.perf_counter() - began
    tab.locator(".jupyter-widgets").get_by_text(text).first.wait_for(timeout=120_000, state="attached")
    useful = time.perf_counter() - began
    context.close()
    return Seconds(seen, useful)


def spread(visits: list[Seconds]) -> str:
    seen, useful = ([getattr(v, name) for v in visits] for name in ("seen", "useful"))
    return (
        f"{statistics.median(useful):.1f} s ({min(useful):.1f} to {max(useful):.1f}, n={len(useful)}; "
        f"still picture {statistics.median(seen):.1f} s)"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
