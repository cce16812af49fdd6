"""The training stream: documents and dialogues in fixed proportions, with a copying curriculum at the start."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from llmlab.microworld.documents import DOCUMENTS, READ, WRITE, Document, Piece
from llmlab.microworld.families import FAMILIES, Dialogue, echo

# documents per 18; chosen so that no skill takes more than a fifth of the tokens
WEIGHTS: dict[str, float] = {
    "lettered": 0.8, "answered": 2.4, "stated": 0.8, "acted": 1.0, "worked": 1.1, "doubted": 0.9,
    "echo": 0.6, "fact": 0.8, "reading": 1.4, "slot": 1.4, "math": 1.0, "choice": 0.5, "story": 0.3, "style": 1.0,
    "truth": 0.8, "safety": 1.1, "sycophancy": 0.6, "judge": 0.6, "revise": 0.6,
}  # fmt: skip
CURRICULUM = {"echo": 0.75, "reading": 0.25}
_BOS_SHARE = 0.05  # an empty context is scored from <|bos|>, so the models must have seen it
_READ_SHARE = 0.2  # documents whose given text is learnt as well; elsewhere only what a model would write


def render(dialogue: Dialogue) -> Document:
    """A dialogue as text: exactly what the chat template prints."""
    pieces: list[Piece] = []
    for turn in dialogue.messages:
        if turn["role"] == "assistant":
            pieces += [Piece("<|assistant|>", READ), Piece(f"{turn['content']}<|end|>", WRITE)]
        else:
            pieces.append(Piece(f"<|{turn['role']}|>{turn['content']}<|end|>", READ))
    return Document(dialogue.family, tuple(pieces))


def make(name: str, rng: Random, curriculum: bool = False) -> Document:
    """One document of a family of either kind."""
    if name in DOCUMENTS:
        return DOCUMENTS[name](rng)
    if name == "echo" and curriculum:
        return render(echo(rng, 5, 14))
    return render(FAMILIES[name](rng))


def document(rng: Random, curriculum: bool = False) -> Document:
    """One document of the mixture, or of the copying curriculum."""
    weights = CURRICULUM if curriculum else WEIGHTS
    made = make(rng.choices(list(weights), list(weights.values()))[0], rng, curriculum)
    pieces = made.pieces if rng.random() < _READ_SHARE else tuple(map(_given, made.pieces))
    if rng.random() < _BOS_SHARE:
        pieces = (Piece("<|bos|>", 0.0), *pieces)
    return Document(made.family, pieces)


def _given(piece: Piece) -> Piece:
    return Piece(piece.text, 0.0) if piece.weight == READ else piece


def stream(seed: int) -> Iterator[Document]:
    """Documents of the mixture without end, the same for the same seed."""
    rng = Random(seed)
    while True:
        yield document(rng)
