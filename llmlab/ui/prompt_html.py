"""The markup of the prompt tester. Whatever a model or a person wrote is escaped here and nowhere else."""

from __future__ import annotations

from html import escape

from llmlab.errors import LabError
from llmlab.results.display import dollars, visible
from llmlab.results.display import seconds as duration
from llmlab.results.words import difference
from llmlab.types import Response
from llmlab.ui import pieces

_STYLE = """
.llmlab-card { border: 1px solid var(--line); border-radius: 6px; padding: 6px 10px; margin: 4px; }
.llmlab-said { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.45; min-height: 3em; max-height: 28em;
  overflow-y: auto; }
.llmlab-facts { opacity: .75; font-size: 90%; line-height: 1.4; }
.llmlab-failed { color: var(--bad); white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.4; }
@property --waited { syntax: "<integer>"; initial-value: 0; inherits: false; }
@keyframes llmlab-wait { to { --waited: 3600; } }
.llmlab-waiting::after { animation: llmlab-wait 3600s linear forwards; content: " " counter(waited) " s";
  counter-reset: waited var(--waited); }
.llmlab-said del { background: #f6dccb; color: #1b1f24; }
.llmlab-said ins { background: #cfe5f3; color: #1b1f24; text-decoration: none; }
"""


def style_html() -> str:
    """Looks of the parts below."""
    return f"<style>{pieces.STYLE}{_STYLE}</style>"


def answer_html(text: str, other: str | None = None) -> str:
    """An answer; with another one, how that differs from it: words that are gone and words that came."""
    if other is None:
        return f'<div class="llmlab-said">{_text(text)}</div>'
    tags = {"same": ("", ""), "gone": ("<del>", "</del>"), "came": ("<ins>", "</ins>")}
    parts = [f"{tags[p.kind][0]}{_text(p.new or p.old)}{tags[p.kind][1]}" for p in difference(text, other)]
    same = "" if any(p.kind != "same" for p in difference(text, other)) else "the same words: "
    return f'<div class="llmlab-said">{same}{"".join(parts)}</div>'


def waiting_html() -> str:
    """In place of an answer until it begins; the browser counts the seconds."""
    return '<div class="llmlab-said"><span class="llmlab-facts llmlab-waiting">waiting …</span></div>'


def facts_html(answer: Response | LabError | None, hide: bool = False) -> str:
    """Tokens, cost and seconds; why there is no answer; nothing for a hidden author, whom the numbers would betray."""
    if isinstance(answer, LabError):
        return f'<div class="llmlab-failed">failed{"" if hide else f": {_text(answer)}"}</div>'
    if answer is None:
        return '<div class="llmlab-facts">stopped</div>'
    if hide:
        return '<div class="llmlab-facts">cost and seconds are hidden with the name</div>'
    used = answer.usage
    tokens = " + ".join("?" if k is None else str(k) for k in (used.input_tokens, used.output_tokens))
    facts = [f"{tokens} tokens", dollars(answer.cost), f"{duration(answer.seconds)} s"]
    facts += ["cut off at max_tokens"] if answer.finish_reason == "length" else []
    facts += list(answer.notes)
    return f'<div class="llmlab-facts">{_text(" · ".join(facts))}</div>'


def note_html(said: object) -> str:
    """What the last click did, or why it could not."""
    kind = "failed" if isinstance(said, LabError) else "facts"
    return f'<div class="llmlab-{kind}">{_text(said)}</div>' if str(said) else ""


def _text(text: object) -> str:
    return escape(visible(text))
