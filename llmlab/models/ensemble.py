"""Several models, or several tries of one, as one model: vote, weighted vote, cascade, self-consistency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from llmlab.errors import DataError
from llmlab.models.answers import final_answer
from llmlab.models.base import Model
from llmlab.models.cascade import Cascade
from llmlab.models.registry import model as make_model
from llmlab.models.voting import Extract, Members, Tries, Vote
from llmlab.types import Request, Response

How: TypeAlias = Literal["vote", "weighted", "cascade", "self-consistency"]


def ensemble(
    models: str | Model | Sequence[str | Model],
    how: How = "vote",
    *,
    weights: Sequence[float] | None = None,
    samples: int | None = None,
    temperature: float = 0.7,
    threshold: float = 0.7,
    confidence: Callable[[Request, Response], float] | None = None,
    extract: Extract = final_answer,
    name: str = "",
) -> Model:
    """Several models as one Model; its cost is the sum of all inner calls, which are kept in the trace.

    Args:
        models: the members; their order breaks ties. For self-consistency a single one; for a cascade the cheapest
            first.
        how: "vote": the answer that most members give. "weighted": each vote counts with its weight.
            "self-consistency": the answer that one model gives most often in `samples` tries at `temperature`.
            "cascade": ask the first member, and the next one while the confidence is below `threshold`; the last
            one's answer stands.
        weights: for "weighted", one per member, for example their scores elsewhere.
        samples: tries per question; 5 for self-consistency, 3 for the confidence of a cascade if None.
        temperature: of those tries, whatever the request says: equal tries would tell nothing.
        threshold: confidence in [0, 1] from which a cascade keeps an answer.
        confidence: for a cascade, a number in [0, 1] from request and response; None takes the share of `samples`
            tries that agree, and for `decide` the probability of the pick. An unknown one (NaN) is too low.
        extract: reads out of a text what is compared; None as its result is no vote. The default reads a final
            letter, number or phrase.
        name: what it is called in tables, else made from the members' names.

    A member whose call fails fails the call of the ensemble: an answer of half an ensemble is not its answer.

    Source: Wang et al. (2022), self-consistency, https://arxiv.org/abs/2203.11171; Chen et al. (2023), cascades,
    https://arxiv.org/abs/2305.05176

    >>> from llmlab.models.scripted import Scripted
    >>> three = [Scripted("The answer is 51."), Scripted("I guess 50"), Scripted("17 * 3 = 51")]
    >>> ensemble(three).generate("What is 17 * 3?").text
    'The answer is 51.'
    """
    members = [make_model(m) for m in ([models] if isinstance(models, str | Model) else models)]
    _check(how, members, weights, threshold)
    label = name or f"{how}({', '.join(m.name for m in members)})"
    if how == "cascade":
        return Cascade(members, label, threshold, confidence, samples or 3, temperature, extract)
    if how == "self-consistency":
        return Vote(Tries(members[0], samples or 5, temperature), None, extract, label)
    return Vote(Members(members), list(weights) if weights else None, extract, label)


def _check(how: str, members: Sequence[Model], weights: Sequence[float] | None, threshold: float) -> None:
    if how not in ("vote", "weighted", "cascade", "self-consistency"):
        raise DataError(f"an ensemble is 'vote', 'weighted', 'cascade' or 'self-consistency', got {how!r}")
    if how == "self-consistency" and len(members) != 1:
        raise DataError(f"self-consistency asks one model several times; got {len(members)} models")
    if how != "self-consistency" and len(members) < 2:
        raise DataError(f"{how} needs at least two models, got {len(members)}")
    if (how == "weighted") != (weights is not None):
        raise DataError(f"weights belong to how='weighted', and only to it; got how={how!r}, weights={weights!r}")
    if weights is not None and (len(weights) != len(members) or not all(w >= 0 for w in weights) or not sum(weights)):
        raise DataError(f"weights are one number per model, not negative and not all 0; got {list(weights)!r}")
    if not 0 <= threshold <= 1:
        raise DataError(f"threshold is a confidence in [0, 1], got {threshold!r}")
