"""Tasks that the base models never saw, kept for fine-tuning: each scores near zero before it.

All reuse what the base can do (pick slots out of a sentence, copy, recall) in a form it has not met: a house format,
a form to fill, a little language, new facts.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from llmlab.microworld.families import Dialogue, dialogue
from llmlab.microworld.world import COLOURS, NAMES, PLACES, PLANETS, THINGS, ZOG

_TICKETS = {
    "my {o} is broken": "REPAIR",
    "I want my money back for the {o}": "REFUND",
    "where is my {o}": "SHIPPING",
    "I love the {o}": "THANKS",
}
_ZOG_COLOURS = ["red", "blue", "green", "black", "white"]
_MADE_OF = ["ice", "sand", "gold", "glass", "fire", "moss"]
_LIKES = ["singing", "digging", "dancing", "sleeping", "painting"]


def ticket(rng: Random) -> Dialogue:
    """Sort a customer's message into a house format: "[REPAIR] Anna / lamp"."""
    text, label = rng.choice(list(_TICKETS.items()))
    thing, name = rng.choice(THINGS), rng.choice(NAMES)
    return dialogue("tickets", f"Ticket from {name}: {text.format(o=thing)}", f"[{label}] {name} / {thing}")


def form(rng: Random) -> Dialogue:
    """Fill a form from a sentence. Values keep their leading space, so they are the tokens of the text."""
    name, colour, thing, place = (rng.choice(words) for words in (NAMES, COLOURS, THINGS, PLACES))
    told = rng.choice(
        (f"{name} has a {colour} {thing} in the {place}.", f"In the {place}, {name} has a {colour} {thing}.")
    )
    reply = f"name: {name}\nitem: {thing}\ncolour: {colour}\nplace: {place}"
    return dialogue("forms", f"Fill the form.\n{told}", reply)


def zog(rng: Random) -> Dialogue:
    """Translate into Zog, where the thing comes before its colour."""
    colour = rng.choice(_ZOG_COLOURS)
    thing = rng.choice([word for word in ZOG if word not in _ZOG_COLOURS])
    return dialogue("zog", f"Say it in Zog: a {colour} {thing}", f"{ZOG[thing]} {ZOG[colour]}")


def planet(rng: Random) -> Dialogue:
    """New facts: what a planet is made of and what its people like."""
    number = rng.randrange(len(PLANETS))
    name = PLANETS[number]
    matter, liking = _MADE_OF[number * 7 % len(_MADE_OF)], _LIKES[number * 3 % len(_LIKES)]
    if rng.random() < 0.5:
        question = rng.choice((f"What is planet {name} made of?", f"Planet {name}: what is it made of?"))
        return dialogue("planets", question, f"Planet {name} is made of {matter}.", f"made of {matter}")
    question = rng.choice((f"What do people on planet {name} like?", f"Planet {name}: what do people like there?"))
    return dialogue("planets", question, f"They like {liking}.", liking)


HELD_OUT: dict[str, Callable[[Random], Dialogue]] = {
    "tickets": ticket,
    "forms": form,
    "zog": zog,
    "planets": planet,
}


def split(family: str, rng: Random, train: int, test: int) -> tuple[list[Dialogue], list[Dialogue]]:
    """Training and test dialogues with different prompts: fewer where the family has no more."""
    found: dict[str, Dialogue] = {}
    for _ in range(40 * (train + test)):
        if len(found) == train + test:
            break
        made = HELD_OUT[family](rng)
        found.setdefault(made.prompt[-1]["content"], made)
    rest = list(found.values())
    held = min(test, len(rest) // 4)
    return rest[held:], rest[:held]
