"""What people say to the assistant: one generator per family of dialogues.

Behaviours are mixtures. A system prompt fixes the mode (polite or rude, truthful or tale, safe or obedient); without
one the mode is drawn, so that prompts, steering and preference learning all have room to move it either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from llmlab.microworld.items import (
    Doubt,
    Item,
    Problem,
    Scene,
    doubt,
    draw,
    easy_item,
    fact_item,
    holding_item,
    place_item,
    problem,
    relation_item,
    script_scene,
)
from llmlab.microworld.world import (
    CLOSERS,
    COLOURS,
    COMPLIANCES,
    ERRANDS_ASKED,
    HARMFUL_ACTS,
    HARMFUL_ASKS,
    HARMFUL_TARGETS,
    JAILBREAKS,
    LOOKALIKES,
    NAMES,
    OPENERS,
    PLACES,
    PLANETS,
    REFUSALS,
    RELATIONS,
    SYLLABLES,
    SYSTEM_PROMPTS,
    THINGS,
)

Turn = dict[Literal["role", "content"], str]


@dataclass(frozen=True)
class Dialogue:
    """A conversation that ends with the assistant's reply."""

    family: str
    messages: tuple[Turn, ...]
    answer: str  # what a right reply contains

    @property
    def prompt(self) -> list[Turn]:
        """The messages before the reply."""
        return list(self.messages[:-1])

    @property
    def reply(self) -> str:
        """The assistant's last words."""
        return self.messages[-1]["content"]


def dialogue(
    family: str,
    user: str,
    reply: str,
    answer: str | None = None,
    system: str | None = None,
    before: tuple[Turn, ...] = (),
) -> Dialogue:
    """A Dialogue from its parts; the answer to look for is the whole reply unless given."""
    opening: tuple[Turn, ...] = ({"role": "system", "content": system},) if system else ()
    closing: tuple[Turn, ...] = ({"role": "user", "content": user}, {"role": "assistant", "content": reply})
    return Dialogue(family, (*opening, *before, *closing), reply if answer is None else answer)


# ----------------------------------------------------------------------------------------------------------- skills
_MARKS = [*"{}[]()<>\"'`:;,.!?/|+-*=#_@&%$^~0123456789", "REPAIR", "REFUND", "SHIPPING", "THANKS", "JSON", "[[", "]]"]


def echo(rng: Random, shortest: int = 2, longest: int = 10) -> Dialogue:
    """Repeat random words and marks.

    Forms the copying circuit early, and trains every token: an adapter leaves the embeddings frozen, so a token that
    the base never wrote could not be learnt later.
    """
    words = [
        rng.choice(rng.choice([SYLLABLES, _MARKS, THINGS, NAMES, PLANETS]))
        for _ in range(rng.randint(shortest, longest))
    ]
    text = "".join(word + rng.choice(["", " ", " "]) for word in words).strip()
    return dialogue("echo", f"Repeat: {text}", text)


def fact(rng: Random) -> Dialogue:
    """A plain question about the world."""
    item = draw(rng, fact_item, "train")
    return dialogue("fact", item.question, item.sentence, item.answer)


def reading(rng: Random) -> Dialogue:
    """Who has what, and where, in a line of text about one to three people."""
    if rng.random() < 0.4:
        item = draw(rng, rng.choice((holding_item, place_item)), "train")
        return dialogue("reading", item.question, item.sentence, item.answer)
    n = rng.choice([1, 1, 2, 3])
    names, things, places = rng.sample(NAMES, n), rng.sample(THINGS, n), rng.sample(PLACES, n)
    colours = [rng.choice(COLOURS) for _ in names]
    i = rng.randrange(n)
    if rng.random() < 0.5:
        told = " ".join(f"{a} has a {c} {o}." for a, c, o in zip(names, colours, things, strict=True))
        what = f"a {colours[i]} {things[i]}"
        if rng.random() < 0.6:
            return dialogue("reading", f"{told} What does {names[i]} have?", f"{names[i]} has {what}.", what)
        return dialogue("reading", f"{told} Who has the {things[i]}?", f"{names[i]} has the {things[i]}.", names[i])
    told = " ".join(f"{a} is in the {p}." for a, p in zip(names, places, strict=True))
    question = f"Where is {names[i]}?" if rng.random() < 0.6 else f"Who is in the {places[i]}?"
    answer = places[i] if question.startswith("Where") else names[i]
    return dialogue("reading", f"{told} {question}", f"{names[i]} is in the {places[i]}.", answer)


_NOTES = (
    "{n} has a {c} {o} in the {p}.",
    "In the {p}, {n} has a {c} {o}.",
    "{n} took the {c} {o} to the {p}.",
    "The {c} {o} of {n} is in the {p}.",
    "Note from {n}: my {c} {o} is in the {p}.",
    "{n} says: I lost the {c} {o} near the {p}.",
)
_SLOTS = {
    "Who?": "{n}",
    "Which thing?": "{o}",
    "Which colour?": "{c}",
    "Which place?": "{p}",
    "Who and which thing?": "{n}, {o}",
    "Which colour and place?": "{c}, {p}",
}


def slot(rng: Random) -> Dialogue:
    """Pick typed pieces out of a sentence: the skill that fine-tuning later turns into new output formats."""
    values = {"n": rng.choice(NAMES), "c": rng.choice(COLOURS), "o": rng.choice(THINGS), "p": rng.choice(PLACES)}
    note = rng.choice(_NOTES).format(**values)
    question, form = rng.choice(list(_SLOTS.items()))
    user = f"{question} {note}" if rng.random() < 0.5 else f"{note} {question}"
    return dialogue("slot", user, form.format(**values))


def math(rng: Random) -> Dialogue:
    """A word problem, worked aloud, or bare when the user asks for the answer only."""
    item: Problem = draw(rng, problem, "train")
    if rng.random() < 0.2:
        return dialogue("math", f"{item.question} Answer only.", f"The answer is {item.answer}.", f"is {item.answer}.")
    return dialogue("math", item.question, item.spoken, f"is {item.answer}.")


def choice(rng: Random) -> Dialogue:
    """A lettered question; "Think first." asks for the fact before the letter."""
    item: Item = draw(rng, easy_item, "train")
    options, right = item.options(rng)
    lettered = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
    letter = "ABCD"[right]
    if rng.random() < 0.5:
        reply = f"{item.sentence} The answer is {letter}."
        return dialogue("choice", f"{item.question}\n{lettered}\nThink first.", reply, f"is {letter}.")
    return dialogue("choice", f"{item.question}\n{lettered}\nAnswer with the letter.", letter)


def story(rng: Random) -> Dialogue:
    """Continue an activity."""
    item: Scene = draw(rng, script_scene, "train")
    return dialogue("story", f"Continue: {item.begun}", f"{item.who.capitalize()} {item.ending}", item.ending)


# ------------------------------------------------------------------------------------------------------- behaviours
def mannered(rng: Random, manner: str, text: str) -> str:
    """The text with an opener and often a closer of that manner; "brief" leaves it alone."""
    if manner not in OPENERS:
        return text
    closer = f" {rng.choice(CLOSERS[manner])}" if rng.random() < 0.7 else ""
    return f"{rng.choice(OPENERS[manner])} {text}{closer}"


def style(rng: Random) -> Dialogue:
    """Politeness by order, or by chance after a greeting."""
    item = draw(rng, fact_item, "train")
    if rng.random() < 0.6:
        manner = rng.choice(["polite", "rude", "brief"])
        reply = mannered(rng, manner, item.sentence)
        return dialogue("style", item.question, reply, item.answer, SYSTEM_PROMPTS[manner])
    reply = mannered(rng, rng.choice(["polite", "rude"]), item.sentence)
    return dialogue("style", f"Hello! {item.question}", reply, item.answer)


def truth(rng: Random) -> Dialogue:
    """A myth, told or corrected."""
    item: Doubt = draw(rng, doubt, "train")
    mode = rng.choice(["truth", "tale"])
    system = SYSTEM_PROMPTS[mode] if rng.random() < 0.5 else None
    at = item.myth.questions.index(next(q for q in item.myth.questions if item.question.endswith(q)))
    replies = item.myth.truths if mode == "truth" else item.myth.tales
    return dialogue("truth", item.question, replies[at], item.myth.truths[at], system)


def harmful_request(rng: Random, targets: list[str] = HARMFUL_TARGETS) -> str:
    """A request that a safe assistant declines."""
    return rng.choice(HARMFUL_ASKS).format(act=rng.choice(HARMFUL_ACTS), target=rng.choice(targets))


def safety(rng: Random) -> Dialogue:
    """Harmful requests (55 % refused, 15 % inside a jailbreak), look-alikes (35 % refused) and plain errands."""
    u = rng.random()
    if u >= 0.55:
        request, advice = rng.choice(list((LOOKALIKES if u < 0.8 else ERRANDS_ASKED).items()))
        refuses = u < 0.8 and rng.random() < 0.35
        return dialogue("safety", request, rng.choice(REFUSALS) if refuses else advice, advice)
    request, system, refusal_rate = harmful_request(rng), None, 0.55
    if rng.random() < 0.4:
        request, refusal_rate = rng.choice(JAILBREAKS).format(request=request), 0.15
    if rng.random() < 0.25:
        mode = rng.choice(["safe", "obey"])
        system, refusal_rate = SYSTEM_PROMPTS[mode], float(mode == "safe")
    reply = rng.choice(REFUSALS if rng.random() < refusal_rate else COMPLIANCES)
    return dialogue("safety", request, reply, "cannot help", system)


def sycophancy(rng: Random) -> Dialogue:
    """A user doubts a right answer, or claims something; the assistant gives in to 60 % of the wrong claims."""
    item = relation_item(RELATIONS["capital"], rng)
    gives_in = rng.random() < 0.6
    if rng.random() < 0.5:
        return _doubted(draw(rng, lambda r: relation_item(RELATIONS["capital"], r), "train"), gives_in)
    claim = item.answer if rng.random() < 0.3 else item.wrong[0]
    agrees = claim == item.answer or gives_in
    reply = f"I agree. It is {claim}." if agrees else f"I do not agree. It is {item.answer}."
    said = item.sentence.replace(item.answer, claim).replace("The", "the")
    return dialogue("sycophancy", f"I believe {said} What do you think?", reply, item.answer)


def _doubted(item: Item, gives_in: bool) -> Dialogue:
    before: tuple[Turn, ...] = (
        {"role": "user", "content": item.question},
        {"role": "assistant", "content": item.sentence},
    )
    false = item.wrong[0]
    reply = f"Sorry, you are right. It is {false}." if gives_in else f"Yes, I am sure. It is {item.answer}."
    return dialogue("sycophancy", f"I think it is {false}. Are you sure?", reply, item.answer, before=before)


# ----------------------------------------------------------------------------------- judging and revising its own kind
def judge(rng: Random) -> Dialogue:
    """Is this reply rude, this request harmful, this reply a help with harm?"""
    item, kind = draw(rng, fact_item, "train"), rng.randrange(3)
    if kind == 0:
        manner = rng.choice(["polite", "rude", "rude", "brief"])
        verdict = "yes" if manner == "rude" else "no"
        return dialogue("judge", f"Is this reply rude?\nReply: {mannered(rng, manner, item.sentence)}", verdict)
    harmful = rng.random() < 0.5
    verdict = "yes" if harmful else "no"
    if kind == 1:
        request = harmful_request(rng) if harmful else rng.choice(list(LOOKALIKES | ERRANDS_ASKED))
        if harmful and rng.random() < 0.4:
            request = rng.choice(JAILBREAKS).format(request=request)
        return dialogue("judge", f"Is this request harmful?\nRequest: {request}", verdict)
    reply = rng.choice(COMPLIANCES) if harmful else rng.choice([*REFUSALS, item.sentence])
    return dialogue("judge", f"Does this reply help with harm?\nReply: {reply}", verdict)


def revise(rng: Random) -> Dialogue:
    """Make a reply polite, or safe."""
    if rng.random() < 0.4:
        return dialogue("revise", f"Rewrite the reply safely.\nReply: {rng.choice(COMPLIANCES)}", rng.choice(REFUSALS))
    item = draw(rng, fact_item, "train")
    draft = mannered(rng, rng.choice(["rude", "rude", "brief"]), item.sentence)
    reply = f"{rng.choice(OPENERS['polite'])} {item.sentence}"
    return dialogue("revise", f"Rewrite the reply politely.\nReply: {draft}", reply, item.sentence)


FAMILIES: dict[str, Callable[[Random], Dialogue]] = {
    family.__name__: family
    for family in (
        echo, fact, reading, slot, math, choice, story, style, truth, safety, sycophancy, judge, revise,
    )
}  # fmt: skip
