"""`llmlab ui` in a browser: every page on a desk and on a phone, what people do there, and what must not happen."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from typer.testing import CliRunner

import llmlab as lab
from llmlab.cli.app import app
from llmlab.errors import DataError
from llmlab.models.scripted import Scripted
from llmlab.ui import server

CHROMIUM = Path("/usr/bin/chromium")
_QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
NASTY = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> ok'
PATIENCE = 120_000
LOUD = ("warning", "error")
LOCAL = ("data:", "blob:")
LINGER = 4
"""Seconds for which the server of these tests keeps a closed page."""
_SERVE = """
import sys
from llmlab.ui.server import serve
serve(0, store=sys.argv[1], linger=int(sys.argv[2]), ready=lambda address: print(address, flush=True))
"""
# page -> a text that is there once its panel has read the store
_SHOWN = {
    "home": "Latest runs",
    "runs": "micro/base",
    "compare": "with different scores",
    "prompt_tester": "hide who answers",
    "feedback": "Nobody has voted",
    "costs": "for 28 answers",
    "monitor": "Nothing is watched yet",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of two models that write markup, and one of two that do not."""
    url = f"sqlite:///{tmp_path_factory.mktemp('page') / 'runs.db'}"
    evil = [Scripted(NASTY, f"scripted/{NASTY}"), Scripted(f"more {NASTY}", "scripted/b")]
    asked = lab.suite([lab.Sample(f"{i} {NASTY}", target=NASTY) for i in range(2)], name=f"evil {NASTY}")
    lab.evaluate(evil, asked, store=url, progress=False)
    lab.evaluate(["micro/small", "micro/base"], "micro/arc", n=12, store=url, progress=False)
    return url


@pytest.fixture(scope="module")
def address(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-c", _SERVE, store, str(LINGER)]
    with (folder / "log").open("w") as log:
        here = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
        page = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=here)
        killer = threading.Timer(500, page.kill)
        killer.start()
        try:
            assert page.stdout is not None
            found = re.search(r"http://\S+", page.stdout.readline())
            assert found, (folder / "log").read_text()
            yield found.group()
        finally:
            page.terminate()
            page.communicate(timeout=60)
            killer.cancel()
    token = found.group().partition("token=")[2]
    assert token not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium, as {CHROMIUM}")
    pytest.importorskip("playwright", reason="needs playwright: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play, play.chromium.launch(executable_path=str(CHROMIUM), args=_QUIET) as opened:
        yield opened


class Visit:
    """A person with a browser, and what that browser asked for and complained about."""

    def __init__(self, browser: Any, address: str) -> None:
        self.host = urlsplit(address).netloc
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.context.on("console", lambda said: self.complaints.append(said.text) if said.type in LOUD else None)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.open("home", "?" + urlsplit(address).query).close()

    def open(self, name: str, query: str = "") -> Any:
        page = self.context.new_page()
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.goto(f"http://{self.host}/voila/render/{name}.ipynb{query}")
        page.locator(".jupyter-widgets h1").wait_for()  # not the still picture that is there first
        return page

    def others(self) -> set[str]:
        return {url for url in self.asked if urlsplit(url).netloc not in ("", self.host) and url[:5] not in LOCAL}

    def kernel(self, page: Any) -> str:
        text = page.locator("#jupyter-config-data").text_content()
        return str(json.loads(text)["kernelId"])

    def alive(self, kernel: str) -> bool:
        return self.context.request.get(f"http://{self.host}/api/kernels/{kernel}").status == 200


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    made = Visit(browser, address)
    yield made
    made.context.close()
    assert not made.others()
    assert not made.complaints


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_every_page_is_listed_here() -> None:
    assert set(server.PAGES) == set(_SHOWN)


def test_a_forked_kernel_need_not_import_voila_to_read_its_environment() -> None:
    from voila.utils import ENV_VARIABLE

    from llmlab.ui.kernels import plain

    given = {ENV_VARIABLE.VOILA_BASE_URL: "/", "HOME": "/home"}
    assert b"voila." in pickle.dumps(given)
    assert b"voila." not in pickle.dumps(plain(given))
    assert plain(given) == {"VOILA_BASE_URL": "/", "HOME": "/home"}


def test_a_port_that_is_taken_is_said(unused_port_held: int) -> None:
    with pytest.raises(DataError, match=f"port {unused_port_held} cannot be used"):
        server.serve(unused_port_held)


@pytest.fixture
def unused_port_held() -> Iterator[int]:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def test_an_empty_token_is_refused() -> None:
    made = CliRunner().invoke(app, ["ui", "--token", "", "--port", "0"])
    assert isinstance(made.exception, DataError)


def test_pages_are_shown_without_complaints_and_ask_nobody_else(visit: Visit) -> None:
    for name in ("home", "runs", "monitor"):
        page = visit.open(name)
        page.locator(".jupyter-widgets").get_by_text(_SHOWN[name]).first.wait_for(state="attached")
        page.close()


@pytest.mark.slow
@pytest.mark.parametrize("dark", ["light", "dark"])
def test_a_table_that_is_wider_than_a_phone_has_a_shadow_where_it_goes_on(visit: Visit, dark: Any) -> None:
    page = visit.open("runs")
    page.emulate_media(color_scheme=dark)
    page.set_viewport_size({"width": 390, "height": 844})
    table = page.locator(".jupyter-widgets .llmlab-table").first
    assert table.evaluate("it => it.scrollWidth - it.clientWidth") > 50

    def shaded() -> list[bool]:
        """Whether its left and its right edge, beside the first row of texts, have not the colour of the page."""
        picture = Image.open(io.BytesIO(table.screenshot()))
        y, page_colour = 3, (22, 24, 27) if dark == "dark" else (255, 255, 255)
        return [picture.convert("RGB").getpixel((x, y)) != page_colour for x in (1, picture.width - 2)]

    assert shaded() == [False, True]
    table.evaluate("it => it.scrollLeft = 20")
    assert shaded() == [True, True]
    table.evaluate("it => it.scrollLeft = it.scrollWidth")
    assert shaded() == [True, False]


@pytest.mark.slow  # as are all below: kernels for minutes
@pytest.mark.parametrize("name", sorted(_SHOWN))
def test_page_shows_its_panel_fits_a_phone_and_runs_nothing_that_a_model_wrote(name: str, visit: Visit) -> None:
    page = visit.open(name)
    page.locator(".jupyter-widgets").get_by_text(_SHOWN[name]).first.wait_for(state="attached")
    assert page.locator("h1").count() - page.locator(".llmlab-first h1").count() == 1
    assert page.locator("nav a[aria-current=page]").count() == 1
    for dark in ("light", "dark"):
        page.emulate_media(color_scheme=dark)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            _keep(page.screenshot(full_page=True), name, f"{dark}-{width}")
    for field in page.locator(".jupyter-widgets :is(input, select, textarea):visible").all():
        assert field.evaluate("field => field.labels.length || field.ariaLabel || field.placeholder"), name
    unharmed(page)


@pytest.mark.slow
def test_run_with_markup_is_text_from_the_list_to_the_trace(visit: Visit) -> None:
    page = visit.open("runs")
    runs = page.get_by_label("Run", exact=True)
    runs.select_option(index=runs.locator("option").count() - 1)
    page.locator(".jupyter-widgets :not(option)").get_by_text(f"more {NASTY}").first.wait_for()
    unharmed(page)
    page = visit.open("compare")
    page.get_by_label("Model", exact=True).select_option("scripted/b")
    page.get_by_label("Baseline", exact=True).select_option(f"scripted/{NASTY}")
    page.locator(".jupyter-widgets p").get_by_text("scripted/b against").first.wait_for()
    unharmed(page)


def unharmed(page: Any) -> None:
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x], main script:not([type])").count() == 0


@pytest.mark.slow
def test_benchmark_goes_on_when_its_page_is_closed_and_then_the_kernel_ends(visit: Visit, store: str) -> None:
    page = visit.open("runs")
    kernel = visit.kernel(page)
    page.get_by_label("Models", exact=True).fill("micro/base")
    page.get_by_label("Benchmarks", exact=True).fill("micro/gsm8k")
    page.get_by_label("Items per benchmark", exact=True).fill("40")
    page.get_by_role("button", name="Start").click()
    page.get_by_text(re.compile("of 40 answers")).first.wait_for()
    page.close()
    with lab.Store(store) as source:
        until(lambda: source.runs().iloc[0]["status"] == "complete")
        assert source.runs().iloc[0]["rows"] == 40
    until(lambda: not visit.alive(kernel))


@pytest.mark.slow
def test_kernel_of_a_closed_page_ends_soon_and_that_of_an_open_one_does_not(visit: Visit) -> None:
    stays, goes = visit.open("home"), visit.open("costs")
    kept, ended = visit.kernel(stays), visit.kernel(goes)
    assert visit.alive(ended)
    goes.close()
    until(lambda: not visit.alive(ended))
    assert visit.alive(kept)
    stays.get_by_role("button", name="Refresh").click()


@pytest.mark.slow
def test_two_people_judge_at_once_by_keys_and_their_agreement_is_shown(visit: Visit, store: str) -> None:
    pages = {}
    for name in ("Ann", "Ben"):
        pages[name] = page = visit.open("feedback")
        page.get_by_label("Run", exact=True).select_option(
            index=page.get_by_label("Run", exact=True).locator("option").count() - 1
        )
        page.get_by_label("Your name", exact=True).fill(name)
        page.get_by_role("button", name="Begin").click()
        page.get_by_role("group", name="Feedback on answers").focus()
        assert page.locator(".llmlab-answer").get_by_text(NASTY).count() == 2
    for page in pages.values():
        page.keyboard.press("1")
        page.get_by_text("1 judged, 1 to go").wait_for()
        page.keyboard.press("0")
        page.get_by_text("2 judged, nothing is left").wait_for()
        assert page.evaluate("window.hacked") is None
    page.get_by_role("button", name="Refresh").click()
    page.get_by_text("Votes and agreement").click()
    page.get_by_text("4 votes of 2 people").wait_for()
    page.get_by_text("Krippendorff's alpha").wait_for()
    votes = lab.alignment.Feedback(store).votes()
    assert {vote.annotator for vote in votes} == {"Ann", "Ben"}


@pytest.mark.slow
def test_wrong_names_and_missing_keys_are_said_on_the_page(visit: Visit) -> None:
    page = visit.open("runs")
    for model, said in (("micro/smal", "micro/small"), ("openai/gpt-4o-mini", "OPENAI_API_KEY")):
        page.get_by_label("Models", exact=True).fill(model)
        page.get_by_role("button", name="Start").click()
        page.locator(".llmlab-bad").get_by_text(said).wait_for()


@pytest.mark.slow
def test_without_the_token_nothing_is_shown(address: str) -> None:
    with urllib.request.urlopen(address.partition("?")[0]) as answer:
        assert "/login" in answer.url
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address.partition("/voila")[0] + "/api/kernels")
    refused.value.close()


def _keep(image: bytes, name: str, width: str) -> None:
    """Screenshots, where somebody wants to look at them."""
    if folder := os.environ.get("PAGE_SCREENSHOTS"):
        (Path(folder) / f"{name}-{width}.png").write_bytes(image)
