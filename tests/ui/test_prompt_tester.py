"""The prompt tester: in this process, in a real kernel, and as a page in a real browser."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import llmlab as lab
from llmlab.errors import DataError, LabError, UnknownName
from llmlab.models.scripted import Scripted
from llmlab.store import Store
from llmlab.types import Request

NASTY = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> ok'


@pytest.fixture
def store(tmp_path: Path):
    with Store(f"sqlite:///{tmp_path / 'p.db'}") as made:
        yield made


@pytest.fixture
def tester(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    models = [Scripted("a red ball", "scripted/red", cost=0.01), Scripted("a blue ball", "scripted/blue")]
    return lab.ui.prompt_tester(models, "What is it?", annotator="ann", store=store)


def ask(tester) -> None:
    tester.ask.click()
    tester.wait(20)


def test_answers_stand_side_by_side_with_cost_and_words_that_differ(tester) -> None:
    ask(tester)
    assert [c.title for c in tester._cards] == ["scripted/red", "scripted/blue"]
    first = tester._cards[0]
    assert "a red ball" in first.body.value and "3 + 3 tokens · $0.010 · 0 s" in first.facts.value
    assert "a <del>red </del><ins>blue </ins>ball" in tester.difference.value
    assert not tester.ask.disabled and tester.cancel.disabled
    assert tester.responses["scripted/red"].cost == 0.01


def test_votes_go_to_the_store_and_say_whether_names_were_shown(tester) -> None:
    ask(tester)
    tester._cards[1].up.click()
    tester.prefer[1].click()
    tester.blind.value = True
    ask(tester)
    assert {c.title for c in tester._cards} == {"answer 1", "answer 2"}
    assert "scripted" not in "".join(c.facts.value + c.box.children[0].value for c in tester._cards)
    tester.prefer[0].click()
    thumb, shown, hidden = tester.feedback.history()
    assert (thumb.sort, thumb.value, thumb.models) == ("thumb", 1, ("scripted/blue",))
    assert shown.better == "a blue ball" and shown.text == "names were shown" and shown.propensity == 1
    assert hidden.text == "" and hidden.propensity == 0.5 and hidden.annotator == "ann"
    tester.second.value = tester.first.value
    tester.prefer[0].click()
    assert "two different answers" in tester.note.value and len(tester.feedback.history()) == 3


def test_what_models_say_is_escaped_everywhere(store: Store) -> None:
    def fails(_: Request) -> str:
        raise LabError(NASTY)

    models = [Scripted(NASTY, f"scripted/{NASTY}"), Scripted(f"{NASTY} too", "b"), Scripted(fails, "c")]
    tester = lab.ui.prompt_tester(models, NASTY, store=store)
    tester.models.value = tester.models.options
    ask(tester)
    shown = [w.value for c in tester._cards for w in c.box.children[:3]] + [tester.difference.value]
    assert not any("<img" in text or "<script" in text for text in shown)
    assert "failed: &lt;img" in tester._cards[2].facts.value and tester._cards[2].up.disabled


def test_template_variables_get_a_line_each_and_errors_stand_below_the_form(tester) -> None:
    tester.source.value = "{% system %}Be {{ tone }}.{% endsystem %}{{ input }} {{ tone }}"
    (tone,) = tester.variables.children
    tone.value = "kind"
    assert [m.content for m in tester.request().messages] == ["Be kind.", "What is it? kind"]
    tester.source.value = "{{ tone }}\n{{ input.__class__ }}"
    assert tester.variables.children == (tone,), "what was typed stays"
    ask(tester)
    assert "template line 2: attribute &#x27;__class__&#x27;" in tester.note.value and not tester.responses
    tester.source.value = "{{ tone"
    assert "line 1" in tester.note.value
    tester.library.value = "brief"
    assert "Answer briefly" in tester.source.value and not tester.variables.children
    tester.models.value = ()
    ask(tester)
    assert "choose one model" in tester.note.value


def test_tried_prompts_become_a_suite(tester, tmp_path: Path) -> None:
    tester.save.click()
    assert "ask first" in tester.note.value
    tester.expected.value = "ball"
    ask(tester)
    tester.save.click()
    tester.prompt.value, tester.expected.value = "And now?", "blue"
    ask(tester)
    tester.save.click()
    assert "2 prompts in prompts.suite.yaml" in tester.note.value
    made = lab.suite("prompts.suite.yaml")
    assert [s.input for s in made.samples()] == ["What is it?", "And now?"]
    assert made.options("generate").max_tokens == 128
    scores = lab.evaluate(tester._given, made, store=tester.feedback.store, progress=False).samples
    assert scores.groupby("model", sort=False)["score"].mean().to_dict() == {"scripted/red": 0.5, "scripted/blue": 1.0}
    (tmp_path / "mine.yaml").write_text("precious: 1\n")
    tester.path.value = "mine.yaml"
    tester.save.click()
    assert "choose another name" in tester.note.value and (tmp_path / "mine.yaml").read_text() == "precious: 1\n"
    tester.path.value = "mine.csv"
    tester.save.click()
    assert "saved as .yaml" in tester.note.value


def test_stop_ends_the_writing_and_a_second_click_does_not_ask_twice(store: Store) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(_: Request) -> str:
        began.set()
        go_on.wait(20)
        return "late"

    model = Scripted(slow, "slow")
    tester = lab.ui.prompt_tester([model, Scripted("quick", "quick")], "hi", store=store)
    tester.ask.click()
    began.wait(20)
    tester.ask.click()
    tester.cancel.click()
    go_on.set()
    tester.wait(20)
    assert model.calls == 1 and not tester.ask.disabled


def test_an_answer_that_has_not_begun_says_that_it_is_waited_for(store: Store) -> None:
    go_on = threading.Event()
    model = Scripted(lambda _: str(go_on.wait(20)), "slow")
    tester = lab.ui.prompt_tester([model], "hi", store=store)
    tester.ask.click()
    assert "waiting" in tester._cards[0].body.value
    go_on.set()
    tester.wait(20)
    assert "waiting" not in tester._cards[0].body.value and "True" in tester._cards[0].body.value


def test_unknown_models_and_none_are_said(store: Store) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'micro/small'"):
        lab.ui.prompt_tester(["micro/smal"], store=store)
    with pytest.raises(DataError, match="no model was given"):
        lab.ui.prompt_tester([], store=store)
    assert "micro/base" in lab.ui.prompt_tester(store=store).models.options


def test_widget_streams_in_a_real_kernel(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    code = f"""
import llmlab as lab
store = {f"sqlite:///{tmp_path / 'k.db'}"!r}
tester = lab.ui.prompt_tester(["scripted/echo", "scripted/constant"], "hi", store=store)
click = {{"content": {{"data": {{"method": "custom", "content": {{"event": "click"}}}}}}, "buffers": []}}
tester.ask.comm.handle_msg(click)
tester.wait(30)
tester.prefer[1].comm.handle_msg(click)
tester
"""
    cells = [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("print(tester.feedback, tester.note.value)")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert "application/vnd.jupyter.widget-view+json" in notebook.cells[0].outputs[-1]["data"]
    assert "1 pair" in notebook.cells[1].outputs[0]["text"] and "kept" in notebook.cells[1].outputs[0]["text"]
    states = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    said = " ".join(str(s["state"].get("value", "")) for s in states)
    assert "<del>hi</del><ins>A</ins>" in said


PAGE = f"""
import llmlab as lab
from llmlab.models.scripted import Scripted
models = [Scripted({NASTY!r}, "scripted/nasty", cost=0.01), Scripted("a blue ball is ok", "scripted/blue")]
lab.ui.prompt_tester(models, "What is it?", store="STORE")
"""


@pytest.mark.slow
def test_page_asks_shows_answers_as_text_and_votes(tmp_path: Path) -> None:
    import os
    import socket
    import subprocess
    import sys
    import time
    import urllib.error
    import urllib.request

    import nbformat

    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("no browser here")
    from playwright.sync_api import sync_playwright

    url = f"sqlite:///{tmp_path / 'v.db'}"
    code = nbformat.v4.new_code_cell(PAGE.replace("STORE", url))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[code], metadata=kernel), tmp_path / "page.ipynb")
    with socket.create_server(("127.0.0.1", 0)) as free:  # Voilà would say port 0 of a port that it chose
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "page.ipynb", "--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}"]
    env = {**os.environ, "LLMLAB_HOME": str(tmp_path)}
    voila = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    switches = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    switches += " --disable-component-update --disable-sync"
    try:
        address = f"http://127.0.0.1:{port}/"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}voila/static/none", timeout=5)
            except urllib.error.HTTPError:
                break  # it listens, and has no such file
            except OSError:
                time.sleep(0.5)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(chromium), args=switches.split())
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            page.goto(address, timeout=60_000)
            page.get_by_role("button", name="Ask").click(timeout=90_000)
            page.get_by_text("a blue ball is ok").first.wait_for(timeout=30_000)
            page.get_by_role("button", name="right is better").click(timeout=30_000)
            page.get_by_text("preference kept").wait_for(timeout=30_000)
            assert page.evaluate("window.hacked") is None
            assert page.locator(".llmlab-said img, .llmlab-said script").count() == 0
            assert page.locator(".llmlab-said").first.text_content() == NASTY
            assert "$0.010" in str(page.locator(".llmlab-facts").nth(1).text_content())
            page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
            browser.close()
    finally:
        voila.terminate()
        voila.wait(20)
    with Store(url) as kept:
        (vote,) = lab.alignment.Feedback(kept).history()
    assert vote.better == "a blue ball is ok"
