"""What an evaluation will take: calls, tokens, dollars and minutes with an interval, and what its n can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab import settings
from llmlab.evaluation.plan import Benchmarks, Cell, Models, Unit, at_least_one, cells, pick, units, whole
from llmlab.models.remote import RemoteModel
from llmlab.prices import machine, price
from llmlab.stats import predicted_sum, smallest_detectable
from llmlab.types import NAN, Protocol, Usage

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.models.base import Model
    from llmlab.store import Store

# characters per token of English and code text in current tokenizers: few, typical, many
_CHARACTERS_PER_TOKEN = (2.5, 4.0, 6.0)
_ENOUGH = 10
"""Earlier answers from which their tokens are believed."""
_MOST = 2000
_LEVEL = 0.95
_THREADS = 64


class Range(NamedTuple):
    """A guess with bounds; NaN is unknown."""

    value: float
    low: float
    high: float


_UNKNOWN = Range(NAN, NAN, NAN)


@dataclass(frozen=True)
class Estimate:
    """The forecast of an evaluation.

    Attributes:
        table: a row per model and benchmark.
        total: US dollars of all of it.
        batch: US dollars with `evaluate(batch=True)`; NaN where a provider has a batch API without a listed price.
        minutes: the models one after the other; NaN where a model has no earlier answers to tell from.
        pilot: US dollars that the pilot cost, 0 without one.
    """

    table: pd.DataFrame
    total: Range
    batch: float = NAN
    minutes: Range = _UNKNOWN
    pilot: float = 0.0

    def _repr_html_(self) -> str:
        return f"<p>{self.text()}</p>{self.table.to_html(float_format=_short, na_rep='unknown')}"

    def text(self) -> str:
        """The total in words."""
        if math.isnan(self.total.value):
            return (
                "The cost is unknown: at least one model is unpriced, or nothing limits the length of its answers "
                "(set max_tokens, or ask for a pilot)."
            )
        said = f"About ${self.total.value:.4f} (between ${self.total.low:.4f} and ${self.total.high:.4f})"
        if self.batch < self.total.value:
            said += f"; about ${self.batch:.4f} with batch=True, which may take a day"
        if not math.isnan(self.minutes.value):
            took = self.minutes
            said += f"; about {took.value:.2g} minutes (between {took.low:.2g} and {took.high:.2g})"
        return f"{said}. The pilot cost ${self.pilot:.4f}." if self.pilot else f"{said}."

    def __repr__(self) -> str:
        return f"{self.table.to_string(float_format=_short, na_rep='unknown')}\n{self.text()}"


def estimate(
    models: Models,
    benchmarks: Benchmarks,
    n: int | None = None,
    *,
    seed: int = 0,
    repeats: int | None = None,
    protocol: Protocol | None = None,
    pilot: int = 0,
    store: str | Store | None = None,
) -> Estimate:
    """Forecast an `evaluate` call with the same arguments; nothing is asked, except by a pilot, and no key is needed.

    `pilot` is how many of the items to ask now, of each model and benchmark that has fewer earlier answers. They are
    stored, so `evaluate` does not ask them again; ten or more are needed for a forecast from them.

    Columns: calls (not yet stored), tokens_from (what the forecast rests on), input_tokens, output_tokens, cost with
    cost_low and cost_high (US dollars; 95 % of runs should lie between), batch (dollars by the provider's batch API),
    imputed (dollars for the time of this machine, which nobody charges), minutes with minutes_low and minutes_high, and
    detectable: the smallest difference between two models that this n shows with 80 % power at 5 %, when they disagree
    on a fifth of the items (`lab.plan` knows better where there is a history).

    Tokens and seconds come from earlier answers of the same model to the same benchmark where the store has ten; else
    input is counted in characters (2.5 to 6 per token), output lies between nothing and max_tokens, and the bounds are
    those of the possible. A wrapper (`through`, an ensemble, a route) is forecast as one call to each model inside it;
    models that run here are not billed; what judges cost is not in it.
    """
    import pandas as pd

    from llmlab.evaluation.evaluate import opened

    at_least_one(n=n, repeats=repeats)
    whole(seed=seed, pilot=pilot)
    rows: list[dict[str, Any]] = []
    spent = 0.0
    with settings.unasked() if not pilot else nullcontext():
        plan = cells(models, benchmarks, protocol)
    with opened(store) as source:
        for cell in plan:
            if pilot > len(source.usage(cell.label, cell.benchmark.name, cell.protocol, pilot)):
                spent += _ask(cell, pilot, seed, source)
            work = units(cell, pick(cell.benchmark, n, seed), repeats, seed)
            stored = source.answers([u.key for u in work])
            rows.append(_forecast(cell, work, [u for u in work if u.key not in stored], source))
    table = pd.DataFrame(rows).set_index(["model", "benchmark"])
    total, minutes = (
        Range(*(float(table[c].sum(skipna=False)) for c in (name, f"{name}_low", f"{name}_high")))
        for name in ("cost", "minutes")
    )
    return Estimate(table, total, float(table["batch"].sum(skipna=False)), minutes, spent)


def _ask(cell: Cell, items: int, seed: int, store: Store) -> float:
    from llmlab.evaluation.evaluate import evaluate
    from llmlab.ledger import Ledger

    with Ledger() as bill:
        asked: Any = {cell.label: cell.model}
        evaluate(
            asked, cell.benchmark, items, seed=seed, repeats=1, protocol=cell.protocol, store=store, progress=False
        )
    return bill.spent


def _forecast(cell: Cell, work: list[Unit], left: list[Unit], store: Store) -> dict[str, object]:
    n, calls = len({u.sample.id for u in work}), len(left)
    past = store.usage(cell.label, cell.benchmark.name, cell.protocol, _MOST)
    if len(past) >= _ENOUGH:
        inputs, outputs = (_scaled([float(used[i]) for used in past], calls) for i in (0, 1))
        cost = _scaled([_cost(cell.model, 1, used[0], used[1]) for used in past], calls)
        seconds = _scaled([used[2] for used in past if not math.isnan(used[2])], calls)
        rests_on = f"{len(past):,} answers"
    else:
        inputs, outputs = _from_text(left)
        cost = Range(*(_cost(cell.model, calls, i, o) for i, o in zip(inputs, outputs, strict=True)))
        seconds, rests_on = _UNKNOWN, "length of text"
    # threads share the calls; a run cannot be shorter than one of them
    share = 1 if cell.model.local else max(1, min(_THREADS, calls))
    minutes = Range(*(s / 60 / share for s in seconds)) if calls else Range(0.0, 0.0, 0.0)
    return {
        "model": cell.label,
        "benchmark": cell.benchmark.name,
        "protocol": cell.protocol,
        "n": n,
        "calls": calls,
        "tokens_from": rests_on,
        "input_tokens": inputs.value,
        "output_tokens": outputs.value,
        **_named("cost", cost),
        "batch": _batch(cell.model, calls, inputs.value, outputs.value),
        "imputed": machine(seconds.value).cost if cell.model.local else 0.0,
        **_named("minutes", minutes),
        "detectable": smallest_detectable(n),
    }


def _named(name: str, found: Range) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _cost(model: Model, calls: int, inputs: float, outputs: float) -> float:
    if model.asks:
        return math.fsum(_cost(inner, calls, inputs, outputs) for inner in model.asks)
    if not calls or math.isnan(inputs) or math.isnan(outputs):
        return math.nan if calls and model.billed else 0.0
    return calls * model.price(Usage(round(inputs / calls), round(outputs / calls)))


def _batch(model: Model, calls: int, inputs: float, outputs: float) -> float:
    batches = isinstance(model, RemoteModel) and model.batches is not None  # others are asked as usual
    if not batches or not calls or math.isnan(inputs) or math.isnan(outputs):
        return _cost(model, calls, inputs, outputs)
    usage = Usage(round(inputs / calls), round(outputs / calls))
    return calls * price(model.name, usage, batch=True).cost


def _from_text(left: list[Unit]) -> tuple[Range, Range]:
    characters = 0
    longest: float = 0
    for unit in left:
        query = unit.query
        if query.request is None:
            characters += sum(len(context) + sum(map(len, texts)) for context, texts in query.pairs)
            continue
        characters += sum(len(m.content) for m in query.request.messages)
        limit = query.request.options.max_tokens
        longest += math.nan if limit is None else limit
    few, typical, many = _CHARACTERS_PER_TOKEN
    inputs = Range(characters / typical, characters / many, characters / few)
    return inputs, Range(longest / 2, 0.0, longest)


def _scaled(values: Sequence[float], calls: int) -> Range:
    """The sum of `calls` new values like these, with a prediction interval."""
    if not calls:
        return Range(0.0, 0.0, 0.0)
    found = predicted_sum(values, calls, _LEVEL)
    return Range(found.value, found.low, found.high)


def _short(x: float) -> str:
    return f"{x:.4g}"
