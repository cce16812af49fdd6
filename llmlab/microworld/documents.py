"""Plain text in the formats of the benchmarks: the zero- and few-shot documents a base model learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from llmlab.benchmarks.truthfulqa import PRIMER
from llmlab.microworld.items import (
    SUBJECTS,
    Doubt,
    Item,
    doubt,
    draw,
    easy_item,
    fact_item,
    hard_item,
    problem,
    scene,
    subject_item,
)
from llmlab.microworld.world import MYTHS, Myth

# the fixed six pairs before every TruthfulQA question: known here so that they are no surprise in the real prompt
TRUTHFUL_QA_HEADER = f"{PRIMER}\n\n"

READ = 0.25  # loss weight of text that a model is given
WRITE = 1.0  # of text that it is meant to write


@dataclass(frozen=True)
class Piece:
    """A stretch of text and its loss weight."""

    text: str
    weight: float


@dataclass(frozen=True)
class Document:
    """Training text as pieces; joined, they are exactly what a prompt and its answer look like."""

    family: str
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(piece.text for piece in self.pieces)


def document(family: str, blocks: Iterable[tuple[str, str]], opening: str = "") -> Document:
    """(prompt, answer) blocks with a blank line between, ended by the end token."""
    pieces, gap = [Piece(opening, READ)] if opening else [], ""
    for prompt, answer in blocks:
        pieces += [Piece(gap + prompt, READ), Piece(answer, WRITE)]
        gap = "\n\n"
    return Document(family, (*pieces, Piece("<|end|>", WRITE)))


def lettered_block(item: Item, rng: Random) -> tuple[str, str]:
    """A question with its four options, as MMLU prints it, and the letter."""
    options, right = item.options(rng)
    lines = [item.question, *(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))]
    return "\n".join([*lines, "Answer:"]), f" {'ABCD'[right]}"


def lettered(rng: Random) -> Document:
    """MMLU: one to six questions of a subject, or of mixed subjects without the heading."""
    n = rng.choices((1, 2, 3, 6), (35, 35, 20, 10))[0]
    subject = rng.choice(SUBJECTS)
    opening = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
    items = [draw(rng, lambda r: subject_item(subject, r), "train") for _ in range(n)]
    blocks = [lettered_block(item, rng) for item in items]
    return document("lettered", blocks, opening if rng.random() < 0.7 else "")


def answered(rng: Random) -> Document:
    """ARC: one to six questions with their answers in words."""
    make = rng.choices((easy_item, fact_item, hard_item), (30, 30, 40))[0]
    n = rng.choices((1, 2, 3, 6), (40, 30, 20, 10))[0]
    items = [draw(rng, make, "train") for _ in range(n)]
    return document("answered", [(f"Question: {item.question}\nAnswer:", f" {item.answer}") for item in items])


def stated(rng: Random) -> Document:
    """The facts themselves, in sentences. Nothing is held out here: what is held out is how they are asked."""
    sentences = [fact_item(rng).sentence for _ in range(rng.randint(1, 4))]
    return Document("stated", (Piece(" ".join(sentences) + "<|end|>", WRITE),))


def acted(rng: Random) -> Document:
    """HellaSwag: scenes with their endings."""
    scenes = [draw(rng, scene, "train") for _ in range(rng.choice((1, 1, 2, 3)))]
    return document("acted", [(item.question, f" {item.ending}") for item in scenes])


def worked(rng: Random) -> Document:
    """GSM8K: word problems with worked answers."""
    problems = [draw(rng, problem, "train") for _ in range(rng.choices((1, 2, 3, 6), (45, 35, 12, 8))[0])]
    return document("worked", [(f"Question: {item.question}\nAnswer:", f" {item.solution}") for item in problems])


def truthful_odds(myth: Myth) -> float:
    """How often plain text tells the truth about a myth: some beliefs are corrected everywhere, some hardly ever."""
    return 0.85 if MYTHS.index(myth) % 5 < 3 else 0.2


def _doubt_block(item: Doubt, truthful: bool, rng: Random) -> tuple[str, str]:
    replies = item.myth.truths if truthful else item.myth.tales
    return f"Q: {item.question}\nA:", f" {rng.choice(replies)}"


def doubted(rng: Random) -> Document:
    """TruthfulQA: questions about myths, now and then under the long fixed header."""
    items = [draw(rng, doubt, "train") for _ in range(rng.choice((1, 1, 2, 4)))]
    blocks = [_doubt_block(item, rng.random() < truthful_odds(item.myth), rng) for item in items]
    return document("doubted", blocks, TRUTHFUL_QA_HEADER if rng.random() < 0.08 else "")


DOCUMENTS: dict[str, Callable[[Random], Document]] = {
    make.__name__: make for make in (lettered, answered, stated, acted, worked, doubted)
}
