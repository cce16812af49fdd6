"""Examples as the model sees them: what is trained on in colour, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from llmlab.finetune.formats import Example
from llmlab.finetune.render import Rendered, Renderer

if TYPE_CHECKING:
    from llmlab.finetune.data import TrainingData
    from llmlab.models.base import Model

# blue on white and grey, told apart without colour by the underline
_TRAINED = "background:#d6e8f5;color:#003d66;border-bottom:2px solid #0072b2"
_READ = "color:#6a7079"
_CUT = "color:#b04a00;text-decoration:line-through"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text: a token, or without a model a turn. kind: trained, read, or cut (beyond the limit)."""

    text: str
    kind: str


@dataclass(frozen=True, repr=False)
class Preview:
    """The first examples of training data, in pieces; shows itself in a notebook."""

    titles: tuple[str, ...]
    examples: tuple[tuple[Piece, ...], ...]
    tokens: bool

    def __repr__(self) -> str:
        shown = []
        for title, pieces in zip(self.titles, self.examples, strict=True):
            runs = groupby(pieces, lambda piece: piece.kind)
            marked = "".join(_marked("".join(p.text for p in run), kind) for kind, run in runs)
            shown.append(f"-- {title}\n{marked}")
        return "\n".join([*shown, "(trained on: between « and »)"])

    def _repr_html_(self) -> str:
        blocks = [
            f"<p><small>{escape(title)}</small></p><pre style='white-space:pre-wrap;line-height:1.6'>"
            + "".join(_span(piece) for piece in pieces)
            + "</pre>"
            for title, pieces in zip(self.titles, self.examples, strict=True)
        ]
        legend = (
            f"<p><small><span style='{_TRAINED}'>trained on</span> · <span style='{_READ}'>read only</span></small></p>"
        )
        return "".join([*blocks, legend])


def preview(data: TrainingData, model: str | Model | None, n: int, length: int | None = None) -> Preview:
    """What `TrainingData.preview` gives."""
    chosen = data.examples[:n]
    if model is None:
        parts = [(name, pieces) for e in chosen for name, pieces in _turns(e)]
        return Preview(tuple(t for t, _ in parts), tuple(p for _, p in parts), tokens=False)
    from llmlab.finetune.base import tokenizer_of

    render = Renderer(tokenizer_of(model))
    titles, examples = [], []
    for one in chosen:
        for name, made in _rendered(render, one):
            trained = sum(made.trained[:length])
            titles.append(f"{one.where}{name}: {len(made.ids)} tokens, {trained} trained on")
            examples.append(tuple(_pieces(render, made, length)))
    return Preview(tuple(titles), tuple(examples), tokens=True)


def _rendered(render: Renderer, example: Example) -> list[tuple[str, Rendered]]:
    if not example.answer and not example.text:
        ids = render.prompt(example.context, example.where)
        return [(", prompt", Rendered(ids, (False,) * len(ids)))]
    if not example.rejected:
        return [("", render(example))]
    rejected = render.turns(example.context, example.rejected, example.where)
    return [(", chosen", render(example)), (", rejected", rejected)]


def _pieces(render: Renderer, made: Rendered, length: int | None) -> list[Piece]:
    texts = token_texts(render, made.ids)
    limit = len(made.ids) if length is None else length
    return [
        Piece(text, "cut" if i >= limit else "trained" if trained else "read")
        for i, (text, trained) in enumerate(zip(texts, made.trained, strict=True))
    ]


def token_texts(render: Renderer, ids: Sequence[int]) -> list[str]:
    """The text of each token; together they are the text of all. A token within a character has the rest of it."""
    texts, done = [], ""
    for i in range(1, len(ids) + 1):
        whole = str(render.tokenizer.decode(ids[:i]))
        # an unfinished character decodes to a replacement mark until its last byte is there
        whole = whole.removesuffix("\ufffd") if i < len(ids) else whole
        texts.append(whole[len(done) :])
        done = whole
    return texts


def _turns(example: Example) -> list[tuple[str, tuple[Piece, ...]]]:
    if example.text:
        return [(example.where, (Piece(example.text, "trained"),))]
    context = tuple(Piece(f"{m.role}: {m.content}\n", "read") for m in example.context)
    sides = [("", example.answer)] + ([(", rejected", example.rejected)] if example.rejected else [])
    return [
        (
            f"{example.where}{name}",
            context
            + tuple(Piece(f"{m.role}: {m.content}\n", "trained" if m.role == "assistant" else "read") for m in turns),
        )
        for name, turns in sides
    ]


def _marked(text: str, kind: str) -> str:
    return f"«{text}»" if kind == "trained" else f"[cut off: {text}]" if kind == "cut" else text


def _span(piece: Piece) -> str:
    style = {"trained": _TRAINED, "read": _READ, "cut": _CUT}[piece.kind]
    text = escape(piece.text).replace("\n", "⏎\n")
    return f"<span style='{style}'>{text}</span>"
