"""The report: one file, nothing fetched, nothing run, readable by eye and by screen reader."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from llmlab.errors import UnknownName
from llmlab.results import Results

ATTACKS = (
    "<script>alert('one')</script>",
    "</style><script>alert('two')</script>",
    '"><img src=x onerror="alert(3)">',
    "<svg onload=alert(4)>",
    "{{ 7 * 7 }} {% raw %}",
    "</title></svg><script>alert(5)</script>",
    "javascript:alert(6)",
    "]]><script>alert(7)</script>",
    "\x1b[31m \x00 &lt;b&gt;",
)
VOID = {"meta", "br", "img", "link", "input", "hr", "wbr"}


class Page(HTMLParser):
    """What a browser would build: tags with their attributes, and whether every one is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def named(self, *tags):
        return [attrs for tag, attrs in self.tags if tag in tags]


def written(results, tmp_path, **settings):
    return results.report(tmp_path / "report.html", **settings).read_text(encoding="utf-8")


@pytest.fixture(name="html", scope="module")
def _html(module_rows, tmp_path_factory):
    """A report with something in every section, and an attack in every text."""
    make_rows, make_failed = module_rows
    made = make_rows({"model <b>a</b> $x$": 0.3, "b": 0.7}, benchmark="bench <i>mark</i>", n=40)
    made += make_rows({"b": 0.7}, benchmark="other", n=10, protocol="generate")
    for i, r in enumerate(made):
        attack = ATTACKS[i % len(ATTACKS)]
        r |= dict.fromkeys(("text", "prompt", "answer", "target", "explanation", "tags", "cluster", "notes"), attack)
        r |= {"applied": {attack: attack}, "provenance": {attack: [attack]}, "dropped": [attack], "price": attack}
        r |= {"model_version": attack, "sample": f"{r['sample']}{attack}", "metrics": {attack: 0.5}, "run": attack}
        made[i] = r | {"truncated": i % 9 == 0, "cluster": ""}
    made.append(make_failed(model="b", benchmark="other", sample=ATTACKS[0], error=ATTACKS[2], protocol="generate"))
    return written(Results(made), tmp_path_factory.mktemp("report"))


def test_page_is_well_formed(html):
    page = Page(html)
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_nothing_a_model_wrote_becomes_markup(html):
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "img", "iframe", "object", "embed", "link", "form", "a", "b", "i"}
    )
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
    text = "".join(page.text)
    assert "<script>alert('one')</script>" in text
    assert "{{ 7 * 7 }}" in text


def test_nothing_is_fetched_and_no_script_may_run(html):
    page = Page(html)
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if attrs.get(name):
                assert attrs[name].startswith("#"), (tag, attrs)
    style = " ".join(re.findall(r"<style.*?</style>", html, flags=re.DOTALL))
    assert "url(" not in style.replace("url(#", "")
    assert "@import" not in style
    policy = next(
        attrs["content"] for attrs in page.named("meta") if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_control_characters_are_shown_not_sent(html):
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    assert "␛[31m" in html


def test_screen_readers_find_their_way(html):
    page = Page(html)
    assert page.named("html")[0]["lang"] == "en"
    assert len(page.named("h1")) == len(page.named("main")) == 1
    assert len(page.named("caption")) == len(page.named("table"))
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.named("th"))
    for attrs in page.named("svg"):
        assert attrs["role"] == "img"
        assert "95 % intervals" in attrs["aria-label"] or "Forest plot" in attrs["aria-label"]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_plots_follow_the_page_into_the_dark(html):
    drawing = html[html.index("<svg") : html.index("</svg>")]
    assert "currentColor" in drawing
    assert "#1c1f26" not in drawing
    assert "prefers-color-scheme: dark" in html


def test_report_prints_whole(html):
    assert "@media print" in html


def test_report_states_where_it_comes_from(row, tmp_path):
    import llmlab

    page = written(Results([row(seed=17, model_version="v-2026", provenance={"dtype": "bfloat16"})]), tmp_path)
    for fact in (llmlab.__version__, "17", "v-2026", "bfloat16", "loglikelihood", "run-1", "max_tokens"):
        assert fact in page


def test_report_warns_of_lost_answers(row, tmp_path):
    cut = [row(sample=str(i), truncated=i < 10, parsed=i >= 10, score=float(i >= 10)) for i in range(100)]
    page = written(Results(cut), tmp_path)
    assert 'role="note"' in page
    assert "10 cut off at the token limit" in page
    assert 'class="number high">10 (10.0 %)' in page
    clean = written(Results([row()]), tmp_path)
    assert 'role="note"' not in clean


def test_report_is_html_and_promises_nothing_else(row, tmp_path):
    with pytest.raises(UnknownName, match=r"No kind of report '.pdf'.*\.html"):
        Results([row()]).report(tmp_path / "new" / "report.pdf")
    assert not (tmp_path / "new").exists()


def test_report_of_one_model_has_no_comparison(row, tmp_path):
    page = written(Results([row()]), tmp_path)
    assert "Comparison with" not in page
    assert "No call failed" in page


def test_report_compares_with_the_baseline_it_is_given(results, tmp_path):
    both = results({"a": 0.2, "b": 0.8})
    assert "Comparison with a" in written(both, tmp_path)
    assert "Comparison with b" in written(both, tmp_path, baseline="b")


def test_report_says_why_nothing_could_be_compared(row, tmp_path):
    page = written(Results([row(model="a"), row(model="b", protocol="letter")]), tmp_path)
    assert "they were asked differently" in page


def test_report_of_nothing_and_of_failures_only(failed, tmp_path):
    assert "No answer has a score" in written(Results([]), tmp_path)
    page = written(Results([failed(sample=str(i)) for i in range(30)], status="interrupted"), tmp_path)
    assert "the run is not complete: <strong>interrupted</strong>" in page
    assert "30 rows to look at, the first 25 here" in page


def test_report_shows_items_on_which_models_disagree_first(row, tmp_path):
    made = [row(model=m, sample=f"item-{i}", score=float(not (m == "b" and i == 7))) for m in "ab" for i in range(9)]
    page = written(Results(made), tmp_path)
    assert page.index("micro/arc · item-7</summary>") < page.index("micro/arc · item-0</summary>")
