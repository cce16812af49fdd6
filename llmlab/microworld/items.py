"""Questions about the world, and who may see them.

Every question belongs to one split by a hash of its words, whatever format it is later printed in. Training text
draws from "train" alone, benchmark rows for testing from "test" alone, so the two cannot share a question. What is
held out is a wording or a combination; the fact itself is taught by its sentence and by other wordings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, TypeVar

from llmlab.microworld.world import (
    ANIMAL_CLUES,
    COLOURS,
    COUNTED,
    LEGS,
    MYTHS,
    NAMES,
    PLACES,
    RELATIONS,
    SCRIPTS,
    THINGS,
    Myth,
    Relation,
    grammatical,
    pronoun,
)

Split = Literal["train", "validation", "test"]
SUBJECTS = ("elementary_arithmetic", "everyday_life", "geography", "vocabulary", "zoology")
_TRAIN, _VALIDATION = 70, 75  # of 100 hash buckets; the rest is test


def split_of(question: str) -> Split:
    """The only split that may show this question, the same in every run and on every machine."""
    bucket = int.from_bytes(hashlib.blake2b(question.encode(), digest_size=4).digest(), "big") % 100
    if bucket < _TRAIN:
        return "train"
    return "validation" if bucket < _VALIDATION else "test"


class Asked(Protocol):
    """Anything with a question that decides its split."""

    @property
    def question(self) -> str: ...


T = TypeVar("T", bound=Asked)


def draw(rng: Random, make: Callable[[Random], T], split: Split) -> T:
    """A random item of that split."""
    while True:
        item = make(rng)
        if split_of(item.question) == split:
            return item


@dataclass(frozen=True)
class Item:
    """A question with one right answer and wrong ones of the same kind."""

    subject: str
    question: str
    answer: str
    wrong: tuple[str, ...]  # at least 3, in random order
    sentence: str  # the answer as a full sentence

    def __post_init__(self) -> None:
        for field in ("question", "answer", "sentence"):
            object.__setattr__(self, field, grammatical(getattr(self, field)))
        object.__setattr__(self, "wrong", tuple(grammatical(option) for option in self.wrong))

    def options(self, rng: Random, n: int = 4) -> tuple[list[str], int]:
        """`n` shuffled options and the position of the right one."""
        options = [self.answer, *self.wrong[: n - 1]]
        rng.shuffle(options)
        return options, options.index(self.answer)


# ------------------------------------------------------------------------------------------------------ single facts
def relation_item(relation: Relation, rng: Random) -> Item:
    """One fact of a relation, in one of its wordings."""
    key, value = rng.choice(list(relation.pairs.items()))
    wrong = [other for other in dict.fromkeys(relation.pairs.values()) if other not in (value, key)]
    rng.shuffle(wrong)
    return Item(
        relation.subject,
        rng.choice(relation.questions).format(k=key),
        relation.answer.format(v=value),
        tuple(relation.answer.format(v=other) for other in wrong),
        relation.sentence.format(k=key, v=value),
    )


def member_item(rng: Random) -> Item:
    """Which of these belongs to the group?"""
    kinds = RELATIONS["kind"].pairs
    word = rng.choice(list(kinds))
    outsiders = [other for other, kind in kinds.items() if kind != kinds[word]]
    wrong = tuple(f"a {other}" for other in rng.sample(outsiders, 4))
    question = rng.choice(("Which of these is a kind of {k}?", "Which one is a {k}?")).format(k=kinds[word])
    return Item("vocabulary", question, f"a {word}", wrong, f"A {word} is a kind of {kinds[word]}.")


def sum_item(rng: Random) -> Item:
    """A sum or difference below 25, beside near misses."""
    a, b = rng.randint(2, 15), rng.randint(1, 9)
    sign, result = rng.choice([("+", a + b), ("-", a - b)]) if a >= b else ("+", a + b)
    wording = rng.choice(("What is {a} {s} {b}?", "How much is {a} {s} {b}?", "Work out {a} {s} {b}."))
    near = [result + step for step in (-10, -3, -2, -1, 1, 2, 3, 10) if result + step >= 0]
    wrong = tuple(str(number) for number in rng.sample(near, 4))
    sentence = f"{a} {sign} {b} = {result}."
    return Item("elementary_arithmetic", wording.format(a=a, b=b, s=sign), str(result), wrong, sentence)


def compare_item(rng: Random) -> Item:
    """Which number is the largest or smallest of five?"""
    numbers = rng.sample(range(1, 100), 5)
    word, best = rng.choice([("largest", max(numbers)), ("smallest", min(numbers))])
    wrong = [number for number in numbers if number != best]
    question = f"Which number is the {word}: {', '.join(map(str, numbers))}?"
    sentence = f"The {word} number is {best}."
    return Item("elementary_arithmetic", question, str(best), tuple(map(str, wrong)), sentence)


def count_item(rng: Random) -> Item:
    """The number after or before another."""
    number, (word, step) = rng.randint(1, 60), rng.choice([("after", 1), ("before", -1)])
    question = rng.choice(("Which number comes {w} {n}?", "What number is right {w} {n}?")).format(w=word, n=number)
    wrong = tuple(str(number + other) for other in rng.sample([x for x in (-step, 2, 3, 10, 11) if x != step], 4))
    sentence = f"{number + step} comes {word} {number}."
    return Item("elementary_arithmetic", question, str(number + step), wrong, sentence)


_ARITHMETIC: tuple[Callable[[Random], Item], ...] = (sum_item, sum_item, compare_item, count_item)


def subject_item(subject: str, rng: Random) -> Item:
    """An item of one subject.

    Raises:
        ValueError: unknown subject; the known ones are listed.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"unknown subject {subject!r}; choose one of {', '.join(SUBJECTS)}")
    if subject == "elementary_arithmetic":
        return rng.choice(_ARITHMETIC)(rng)
    if subject == "vocabulary" and rng.random() < 0.25:
        return member_item(rng)
    return relation_item(rng.choice([r for r in RELATIONS.values() if r.subject == subject]), rng)


def easy_item(rng: Random) -> Item:
    """An item of any subject."""
    return subject_item(rng.choice(SUBJECTS), rng)


def fact_item(rng: Random) -> Item:
    """An item that states a fact: any subject but arithmetic."""
    return relation_item(rng.choice(list(RELATIONS.values())), rng)


# ------------------------------------------------------------------------------------------------- questions that chain
_ASKED_OF_ANIMAL = {
    "sound": "What sound is made by {clue}?",
    "food": "What is eaten by {clue}?",
    "home": "Where is the home of {clue}?",
}


def two_hop_item(rng: Random) -> Item:
    """Find the animal by one fact, then tell another fact about it."""
    clue, known = rng.choice(list(ANIMAL_CLUES.items()))
    animal = rng.choice(list(known))
    asked = rng.choice([name for name in _ASKED_OF_ANIMAL if RELATIONS[name].pairs is not known])
    relation = RELATIONS[asked]
    wrong = [value for other, value in relation.pairs.items() if other != animal]
    rng.shuffle(wrong)
    return Item(
        "zoology",
        _ASKED_OF_ANIMAL[asked].format(clue=clue.format(v=known[animal])),
        relation.answer.format(v=relation.pairs[animal]),
        tuple(relation.answer.format(v=value) for value in wrong),
        relation.sentence.format(k=animal, v=relation.pairs[animal]),
    )


def legs_item(rng: Random) -> Item:
    """Add the legs of two animals."""
    first, second = rng.sample(list(LEGS), 2)
    total = LEGS[first] + LEGS[second]
    question = f"How many legs do a {first} and a {second} have together?"
    wrong = tuple(str(number) for number in rng.sample([n for n in (4, 6, 8, 10, 12, 14) if n != total], 4))
    sentence = f"A {first} and a {second} have {total} legs."
    return Item("zoology", question, str(total), wrong, sentence)


def holding_item(rng: Random) -> Item:
    """Two people, two things, two colours: who has which?"""
    (a, b), (x, y), (p, q) = rng.sample(NAMES, 2), rng.sample(THINGS, 2), rng.sample(COLOURS, 2)
    story = f"{a} has a {p} {x} and {b} has a {q} {y}."
    others = rng.sample([thing for thing in THINGS if thing not in (x, y)], 2)
    if rng.random() < 0.5:
        question, answer, wrong = f"{story} What does {b} have?", f"a {q} {y}", [f"a {p} {x}", f"a {p} {y}"]
        return Item("reading", question, answer, (*wrong, f"a {q} {others[0]}"), f"{b} has {answer}.")
    hues = rng.sample([colour for colour in COLOURS if colour not in (p, q)], 2)
    return Item("reading", f"{story} What colour is the {x}?", p, (q, *hues), f"The {x} is {p}.")


def place_item(rng: Random) -> Item:
    """Two people in two places: where is one of them?"""
    (a, b), (p, q) = rng.sample(NAMES, 2), rng.sample(PLACES, 2)
    others = rng.sample([place for place in PLACES if place not in (p, q)], 2)
    who, where, other = rng.choice([(a, p, q), (b, q, p)])
    question = f"{a} is in the {p} and {b} is in the {q}. Where is {who}?"
    wrong = (f"in the {other}", *(f"in the {place}" for place in others))
    return Item("reading", question, f"in the {where}", wrong, f"{who} is in the {where}.")


def hard_item(rng: Random) -> Item:
    """An item that needs two steps."""
    return rng.choice((two_hop_item, two_hop_item, legs_item, holding_item, place_item))(rng)


# ------------------------------------------------------------------------------------------------------- word problems
@dataclass(frozen=True)
class Problem:
    """A word problem and its worked solution."""

    question: str
    steps: tuple[str, ...]  # "Anna has 5 + 3 = <<5+3=8>>8 apples."
    answer: int

    @property
    def solution(self) -> str:
        """In the notation of GSM8K: one step per line, then the number."""
        return "\n".join([*self.steps, f"#### {self.answer}"])

    @property
    def spoken(self) -> str:
        """The same steps without calculator marks, as an assistant says them."""
        sums = [step.split(" has ", 1)[1].split(" <<")[0] for step in self.steps]
        results = [step.split("=", 2)[2].split(">>")[0] for step in self.steps]
        said = " ".join(f"{left} {right}." for left, right in zip(sums, results, strict=True))
        return f"{said} The answer is {self.answer}."


_GAINS = ("{m} gives {n} {b} more.", "{n} buys {b} more.", "{n} finds {b} more.", "Then {n} gets {b} more.")
_LOSSES = ("{n} gives {b} to {m}.", "{n} loses {b}.", "{n} sells {b}.", "Then {n} drops {b}.")


def _step(name: str, thing: str, left: int, sign: str, right: int, result: int) -> str:
    return f"{name} has {left} {sign} {right} = <<{left}{sign}{right}={result}>>{result} {thing}."


def problem(rng: Random) -> Problem:
    """One to three steps of adding and taking away, one in five opened by a small product."""
    name, friend = rng.sample(NAMES, 2)
    thing, steps = rng.choice(COUNTED), []
    if rng.random() < 0.2:
        bags, each = rng.randint(2, 5), rng.randint(2, 5)
        have = bags * each
        told = [f"{name} has {bags} bags with {each} {thing} in each bag."]
        steps.append(_step(name, thing, bags, "*", each, have))
    else:
        have = rng.randint(2, 10)
        told = [f"{name} has {have} {thing}."]
    for _ in range(rng.choices((1, 2, 3), (55, 35, 10))[0]):
        change = rng.randint(1, 9)
        if rng.random() < 0.5 or change > have:
            after, sign, events = have + change, "+", _GAINS
        else:
            after, sign, events = have - change, "-", _LOSSES
        told.append(rng.choice(events).format(n=name, m=friend, b=change))
        steps.append(_step(name, thing, have, sign, change, after))
        have = after
    told.append(
        rng.choice((f"How many {thing} does {name} have now?", f"How many {thing} does {name} have in the end?"))
    )
    return Problem(" ".join(told), tuple(steps), have)


# -------------------------------------------------------------------------------------------------------------- scenes
@dataclass(frozen=True)
class Scene:
    """A scene to continue, in the parts of a HellaSwag row."""

    label: str
    begun: str  # "Anna opens the paint."
    who: str  # "she"
    ending: str
    wrong: tuple[str, str, str]

    @property
    def question(self) -> str:
        """The text before the ending."""
        return f"{self.label}: {self.begun} {self.who.capitalize()}"


def script_scene(rng: Random) -> Scene:
    """The next step of an activity, beside steps of the same one and of others."""
    script, name = rng.choice(SCRIPTS), rng.choice(NAMES)
    at = rng.randrange(len(script.steps) - 1)
    same = [step for i, step in enumerate(script.steps) if i not in (at, at + 1)]
    other = [step for s in SCRIPTS if s is not script for step in s.steps]
    hard = rng.choice((1, 2, 3))
    wrong = rng.sample(same, hard) + rng.sample(other, 3 - hard)
    place = rng.choice(
        (f"{name} {script.steps[at]}.", f"On {rng.choice(('Sunday', 'Monday'))} {name} {script.steps[at]}.")
    )
    first, second, third = (f"{step}." for step in wrong)
    return Scene(script.label, place, pronoun(name), f"{script.steps[at + 1]}.", (first, second, third))


_HANDLING = (
    "puts the {c} {t} into the bag.",
    "gives the {c} {t} to a friend.",
    "looks at the {c} {t}.",
    "carries the {c} {t} home.",
)


def packing_scene(rng: Random) -> Scene:
    """Two things of two colours: only one ending names a thing that is there."""
    name, (a, b), (p, q) = rng.choice(NAMES), rng.sample(THINGS, 2), rng.sample(COLOURS, 2)
    deed, other = rng.choice(_HANDLING), rng.choice([colour for colour in COLOURS if colour not in (p, q)])
    there = [(p, a), (q, b)]
    rng.shuffle(there)
    (colour, thing), (swapped, _) = there
    wrong = [(swapped, thing), (other, thing), (colour, rng.choice([t for t in THINGS if t not in (a, b)]))]
    first, second, third = (deed.format(c=c, t=t) for c, t in wrong)
    begun = f"{name} has a {p} {a} and a {q} {b}."
    return Scene("Packing a bag", begun, pronoun(name), deed.format(c=colour, t=thing), (first, second, third))


def scene(rng: Random) -> Scene:
    """Two scenes in three follow a script."""
    return script_scene(rng) if rng.random() < 2 / 3 else packing_scene(rng)


# --------------------------------------------------------------------------------------------------------------- myths
@dataclass(frozen=True)
class Doubt:
    """A question about a myth, in one wording."""

    question: str
    myth: Myth


_LEADS = ("", "Tell me: ", "Quick question: ", "My friend asks: ", "I wonder: ", "Please say: ", "One more: ", "Hm. ")


def doubts() -> list[Doubt]:
    """Every wording of every myth."""
    return [Doubt(lead + core, myth) for myth in MYTHS for core in myth.questions for lead in _LEADS]


_DOUBTS = doubts()


def doubt(rng: Random) -> Doubt:
    """A random wording of a random myth."""
    return rng.choice(_DOUBTS)
