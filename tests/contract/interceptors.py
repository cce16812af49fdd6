"""One line per interceptor; a new one adds a case here and is held to the whole contract."""

from __future__ import annotations

from typing import Any, NamedTuple

from llmlab import alignment, scorers
from llmlab.alignment.metrics import pushback
from llmlab.models.scripted import Scripted
from llmlab.types import Call, Interceptor, Request, Response

ANSWER = "The river is long and blue, said the miller."


class Case(NamedTuple):
    """An interceptor, and how many calls of the model one answer to a harmless question takes."""

    interceptor: Interceptor
    calls: int = 1
    edits: bool = False
    """Whether it changes a harmless answer."""


def looked_at(request: Request, call: Call) -> Response:
    return call(request)


def trimmed(text: str) -> str:
    return text.strip()


def seeded(request: Request) -> Request:
    return request.with_options(seed=1)


def never_harmful(text: str) -> float:
    return 0.0


def not_empty(text: str) -> bool:
    return bool(text)


def last_arm(request: Request) -> str:
    return "brief"


HOUSE: dict[str, Any] = {
    "framework": "house",
    "principles": [{"id": "no-shouting", "text": "The answer does not shout.", "check": {"patterns": ["!!"]}}],
}

CASES = {
    "interceptor": Case(alignment.interceptor(looked_at)),
    "plain-function": Case(looked_at),
    "interceptor-text": Case(alignment.interceptor(trimmed)),
    "interceptor-request": Case(alignment.interceptor(seeded)),
    "modifier-output": Case(alignment.modifier(str.upper), edits=True),
    "modifier-input": Case(alignment.modifier(trimmed, "input")),
    "validator": Case(alignment.validator(not_empty)),
    "validator-input": Case(alignment.validator(not_empty, side="input")),
    "validator-again": Case(alignment.validator(not_empty, "ask_again")),
    "validator-flag": Case(alignment.validator(not_empty, "flag")),
    "validator-scorer": Case(alignment.validator(scorers.contains("river"), "flag")),
    "filter": Case(alignment.safety_filter()),
    "filter-input": Case(alignment.safety_filter(side="input")),
    "filter-output": Case(alignment.safety_filter(side="output", classifier="micro/rude")),
    "filter-cascade": Case(alignment.safety_filter(classifier="micro/guard", judge=never_harmful)),
    "redact": Case(alignment.redact()),
    "redact-emails": Case(alignment.redact(["email"], side="output")),
    "best_of": Case(alignment.best_of(len, 3), calls=3),
    "pushback": Case(pushback(), calls=2),
    "constitution": Case(alignment.constitution(HOUSE)),
    "constitution-careful": Case(alignment.constitution("careful")),
    "constitution-helpful": Case(alignment.constitution("helpful", tries=3, select=1)),
    "prompts": Case(alignment.prompts({"plain": "", "brief": "Be brief."})),
    "prompts-epsilon": Case(alignment.prompts({"plain": "", "brief": "Be brief."}, "epsilon")),
    "prompts-rules": Case(alignment.prompts({"plain": "", "brief": {"template": "In short: {prompt}"}}, last_arm)),
}


class Broken:
    """A check, function or reward that raises, whatever it is used as."""

    name = "broken"
    __name__ = "broken"

    def __call__(self, *args: Any) -> Any:
        raise ValueError("boom")


def one(text: str) -> Any:
    raise ValueError("boom")


def none_of(request: Request, principles: Any) -> Any:
    raise ValueError("boom")


def two(request: Request, call: Call) -> Response:
    call(request)
    raise ValueError("boom")


def vowels(prompts: Any, answers: Any) -> list[float]:
    return [float(sum(c in "aeiou" for c in answer)) for answer in answers]


def local(name: str, model: Any) -> Any:
    """A technique that works inside a local model, by name; `LOCAL` lists them."""
    pairs = [("The river runs", "The baker sells"), ("In winter they skate", "In summer they swim")]
    steering = alignment.steering(model, pairs, layers=[1])
    made = {
        "steering": lambda: steering * 1.5,
        "ablation": steering.ablation,
        "logit_bias": lambda: alignment.logit_bias({5: 3.0}),
        "dexperts": lambda: alignment.dexperts(None, model, 0.5, plausible=0.1),
        "contrastive": lambda: alignment.contrastive(model),
        "guided": lambda: alignment.guided(vowels, 1.0, k=3),
    }
    return made[name]()


LOCAL = ("steering", "ablation", "logit_bias", "dexperts", "contrastive", "guided")

BROKEN = {
    "interceptor": alignment.interceptor(two),
    "plain-function": two,
    "modifier-output": alignment.modifier(one),
    "modifier-input": alignment.modifier(one, "input"),
    "validator": alignment.validator(one),
    "validator-flag": alignment.validator(one, "flag"),
    "validator-input": alignment.validator(one, side="input"),
    "filter-classifier": alignment.safety_filter(classifier=one, side="output"),
    "filter-judge": alignment.safety_filter(judge=one, side="input"),
    "best_of": alignment.best_of(one, 2),
    "constitution": alignment.constitution(reviewer=Scripted([ValueError("boom")])),
    "constitution-select": alignment.constitution(HOUSE, select=none_of),
    "prompts": alignment.prompts({"a": "", "b": ""}, one),
    "prompts-reward": alignment.prompts({"a": "", "b": ""}, reward=one),
    "no response": lambda request, call: "just text",
}
