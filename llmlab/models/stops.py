"""Stop sequences, enforced here as well: providers take a few, or none, and cut at different places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def cut(text: str, stop: tuple[str, ...] | None) -> str:
    """The text up to the first stop sequence.

    >>> cut("4 apples. Question: 5?", ("Question:", "apples"))
    '4 '
    """
    places = [place for s in stop or () if s and (place := text.find(s)) >= 0]
    return text[: min(places)] if places else text


def until(pieces: Iterable[str], stop: tuple[str, ...] | None) -> Iterator[str]:
    """Pieces of a text up to the first stop sequence, which may lie across several of them.

    All pieces are consumed, so that what follows the text (usage) is still read.
    """
    longest = max((len(s) for s in stop or ()), default=0)
    held, ended = "", False
    for piece in pieces:
        if ended:
            continue
        held += piece
        kept = cut(held, stop)
        if len(kept) < len(held):
            ended = True
        else:  # the tail may be the beginning of a stop sequence
            kept = held[: max(0, len(held) - longest + 1)] if longest else held
        held = held[len(kept) :]
        if kept:
            yield kept
    if not ended and held:
        yield held
