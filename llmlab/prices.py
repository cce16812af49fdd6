"""What calls cost, in US dollars: rates from genai-prices (offline data), overruled by `configs/prices.yaml`.

An unknown price is NaN, never 0. The source of a cost always names the entry that was matched, because rules
of the price list that match by prefix can give a new model its sibling's price (pydantic/genai-prices#471).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmlab import settings
from llmlab.errors import DataError
from llmlab.types import NAN, Request, Usage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_SHIPPED = "configs/prices.yaml"
# our provider -> theirs; behind a `compatible/` URL may be anyone, so those are priced by overrides only
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google": "google", "google-legacy": "google"}
# what the providers call it, where extra options bypass ours
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# role markers and separators of a chat template, generously
_TOKENS_PER_MESSAGE = 32


BATCH = " (batch)"
"""What the source of a price ends with when the call went through a provider's batch API."""


class Price(NamedTuple):
    """Cost of a call in US dollars and what it was computed with; NaN and "" when unpriced."""

    cost: float
    source: str


UNPRICED = Price(NAN, "")


def price(model: str, usage: Usage, *, when: datetime | None = None, version: str = "", batch: bool = False) -> Price:
    """What a call cost.

    Args:
        model: full name, `provider/name`.
        usage: tokens; unknown cached tokens are billed as plain input. NaN when input or output is unknown.
        when: when the call was made (now when None; UTC when it has no zone): prices change.
        version: what the provider says answered; its price is taken where it has one, else the model's.
        batch: whether it went through a batch API; NaN when no batch price is listed.
    """
    found = _rates(model, version, _utc_date(when), batch)
    if found is None or usage.input_tokens is None or usage.output_tokens is None:
        return UNPRICED
    rates, source = found
    cost = rates.cost(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens)
    return UNPRICED if math.isnan(cost) else Price(cost, source)


def parts(
    model: str, usage: Usage, *, when: datetime | None = None, version: str = "", batch: bool = False
) -> dict[str, float]:
    """The cost of a call by class of token, in US dollars: input (not cached), cached, cache_write and output.

    The arguments are those of `price`; empty where that is unpriced.
    """
    found = _rates(model, version, _utc_date(when), batch)
    if found is None or usage.input_tokens is None or usage.output_tokens is None:
        return {}
    read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    plain = max(0, usage.input_tokens - read - written)
    rates, whole = found[0], usage.input_tokens

    def cost(tiers: _Tiers | None, tokens: int) -> float:
        # the tier depends on the whole prompt, whatever part of it is priced
        return 0.0 if not tokens else NAN if tiers is None else tokens * _at(tiers, whole) / 1e6

    classes = {"input": (rates.input, plain), "cached": (rates.cached, read)}
    classes_more = {"cache_write": (rates.cache_write, written), "output": (rates.output, usage.output_tokens)}
    return {name: cost(*pair) for name, pair in {**classes, **classes_more}.items()}


def worst_case(model: str, request: Request, *, batch: bool = False) -> float:
    """Upper bound in US dollars of one call; NaN when there is none, and `unbounded` says why.

    Every byte of the messages, the schema and the extra options is taken for a token, the answer for as long
    as max_tokens (else the model's `max_output` in `configs/models.yaml`) allows, at the dearest tier. With
    extra options, which may ask for a faster service, the dearest service counts. With `batch` the tiers are those of
    the batch API, or the usual ones where none are listed: a batch is never dearer.
    """
    output = _most_output(model, request)
    today = _utc_date(None)
    dear = _dearest(model, today, bool(request.options.extra))
    if batch and dear is not None and not request.options.extra and (found := _rates(model, "", today, batch=True)):
        dear = found[0].dearest()
    if dear is None or output is None:
        return NAN
    return (_most_input(request) * dear.input + output * dear.output) / 1e6


def unbounded(model: str, request: Request) -> str:
    """Why `worst_case` is NaN and what to do about it; "" when it is not."""
    if _dearest(model, _utc_date(None), bool(request.options.extra)) is None:
        return f"{model} has no known price; add it to a copy of {_SHIPPED} and name that in LLMLAB_PRICES"
    if _most_output(model, request) is None:
        return f"the length of an answer of {model} has no known limit; set max_tokens"
    return ""


def machine(seconds: float) -> Price:
    """Imputed cost of computing here for `seconds`, at the assumed `machine_hour` of the price file."""
    hour = _book().machine_hour
    assert hour is not None  # the shipped file has one
    return Price(seconds / 3600 * hour.cost, f"machine-hour ${hour.cost:g} ({hour.note or 'no note'})")


# -- rates --------------------------------------------------------------------------------------------------

# US dollars per million tokens by size of the prompt: ((above so many input tokens, rate), ...), ascending
_Tiers = tuple[tuple[int, float], ...]


class _Rates(NamedTuple):
    """Rates of one model; None where the list has none."""

    input: _Tiers
    output: _Tiers | None
    cached: _Tiers
    cache_write: _Tiers

    def dearest(self) -> _Dearest:
        inputs = max(rate for tiers in (self.input, self.cached, self.cache_write) for _, rate in tiers)
        return _Dearest(inputs, max((rate for _, rate in self.output or ()), default=NAN))

    def cost(self, input_tokens: int, output_tokens: int, cached: int | None, written: int | None) -> float:
        if output_tokens and self.output is None:
            return NAN
        # providers have reported more cached than input tokens; the surplus is not billed twice
        cached = min(cached or 0, input_tokens)
        written = min(written or 0, input_tokens - cached)
        total = (
            (input_tokens - cached - written) * _at(self.input, input_tokens)
            + cached * _at(self.cached, input_tokens)
            + written * _at(self.cache_write, input_tokens)
        )
        if self.output is not None:
            total += output_tokens * _at(self.output, input_tokens)
        return total / 1e6


class _Dearest(NamedTuple):
    """The highest rates that one input and one output token can have."""

    input: float
    output: float


def _at(tiers: _Tiers, input_tokens: int) -> float:
    # crossing a threshold applies the dearer rate to all tokens of the call
    return next(rate for start, rate in reversed(tiers) if input_tokens > start)


@functools.lru_cache(maxsize=4096)
def _listed_rates(model: str, version: str, day: date, batch: bool) -> tuple[_Rates, str] | None:
    """Rates of the public list on a day (UTC), and their source."""
    found = _match(model, version)
    if found is None:
        return None
    provider, info = found
    context = {"processing": "batch"} if batch else None
    if batch and not _has_variant(info, day, "processing", "batch"):
        return None
    rates = _convert(info.get_prices(_noon(day), context))
    if rates is None:
        return None
    return rates, f"genai-prices {_list_version()}: {provider.id}/{info.id}{BATCH if batch else ''}"


def _rates(model: str, version: str, day: date, batch: bool) -> tuple[_Rates, str] | None:
    book = _book()
    own = book.models.get(model)
    if own is None:
        return _listed_rates(model, version, day, batch)
    rates = own.rates(batch)
    return None if rates is None else (rates, f"{book.sources[model]}{BATCH if batch else ''}")


def _dearest(model: str, day: date, any_service: bool) -> _Dearest | None:
    own = _book().models.get(model)
    if own is None:
        return _listed_dearest(model, day, any_service)
    return _Dearest(max(own.input, own.cached or 0, own.cache_write or 0), own.output)


@functools.lru_cache(maxsize=1024)
def _listed_dearest(model: str, day: date, any_service: bool) -> _Dearest | None:
    found = _match(model, "")
    if found is None:
        return None
    info = found[1]
    standard = info.get_prices(_noon(day))
    if standard.input_mtok is None or standard.output_mtok is None:
        return None
    sheets = [standard, *(v.prices for v in info.price_variants or () if any_service)]
    inputs = ["input_mtok", "cache_read_mtok", "cache_write_mtok"]
    if any_service:
        inputs.append("cache_write_1h_mtok")
    return _Dearest(_highest(sheets, inputs), _highest(sheets, ["output_mtok"]))


def _highest(sheets: list[ModelPrice], fields: list[str]) -> float:
    tiers = [_tiers(getattr(sheet, name)) for sheet in sheets for name in fields]
    return max(rate for listed in tiers if listed is not None for _, rate in listed)


def _match(model: str, version: str) -> tuple[Provider, ModelInfo] | None:
    provider, _, name = model.partition("/")
    theirs = _PROVIDERS.get(provider)
    if theirs is None:
        return None
    for reference in (version, name):
        if not reference:
            continue
        try:
            return _price_list().find_provider_model(reference, None, theirs, None)
        except LookupError:
            continue
    return None


@functools.cache
def _price_list() -> DataSnapshot:
    # our own snapshot of the shipped data: a program that turns automatic updates on must not change our
    # prices under a source that names the shipped version
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


@functools.cache
def _list_version() -> str:
    import genai_prices

    return genai_prices.__version__


def _convert(sheet: ModelPrice) -> _Rates | None:
    """Text rates of a price sheet. `ModelPrice.calc_price` gives the same, at 370 microseconds a call."""
    plain = _tiers(sheet.input_mtok)
    if plain is None:
        return None
    cached, written = _tiers(sheet.cache_read_mtok), _tiers(sheet.cache_write_mtok)
    return _Rates(plain, _tiers(sheet.output_mtok), cached or plain, written or plain)


def _tiers(rate: Any) -> _Tiers | None:
    """A Decimal or TieredPrices of the list."""
    if rate is None:
        return None
    if not hasattr(rate, "tiers"):
        return ((-1, float(rate)),)
    return ((-1, float(rate.base)), *((tier.start, float(tier.price)) for tier in rate.tiers))


def _has_variant(info: ModelInfo, day: date, key: str, value: str) -> bool:
    return any(
        variant.when.get(key) == value and (variant.constraint is None or variant.constraint.active(_noon(day)))
        for variant in info.price_variants or ()
    )


def _utc_date(when: datetime | None) -> date:
    if when is None:
        return datetime.now(UTC).date()
    return (when.astimezone(UTC) if when.tzinfo else when).date()


def _noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


# -- bounds -------------------------------------------------------------------------------------------------


def _most_input(request: Request) -> int:
    """More tokens than the request can have: a token is at least one byte."""
    size = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in request.messages)
    for part in (request.options.schema, request.options.extra):
        if part is not None:
            size += len(json.dumps(part, default=str))
    return size + _TOKENS_PER_MESSAGE * (len(request.messages) + 1)


def _most_output(model: str, request: Request) -> int | None:
    extra = request.options.extra or {}
    limits = [request.options.max_tokens, *(extra.get(k) for k in _LIMITS)]
    known = [limit for limit in limits if isinstance(limit, int)]
    most = max(known) if known else _models().get(model)
    answers = [n for k in ("n", "candidate_count", "best_of") if isinstance(n := extra.get(k), int)]
    return None if most is None else most * max(1, *answers, 1)


@functools.cache
def _models() -> Mapping[str, int]:
    """Longest answer in tokens of the models that say so."""
    entries = settings.config("models.yaml")["models"]
    return {name: entry["max_output"] for name, entry in entries.items() if entry and entry.get("max_output")}


# -- the price file -----------------------------------------------------------------------------------------

_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Own(_Strict):
    input: _Dollars
    output: _Dollars
    cached: _Dollars | None = None
    cache_write: _Dollars | None = None
    batch: Annotated[float, Field(gt=0, le=1)] | None = None

    def rates(self, batch: bool) -> _Rates | None:
        factor = self.batch if batch else 1.0
        if factor is None:
            return None
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_write is None else self.cache_write
        return _Rates(*(((-1, rate * factor),) for rate in (self.input, self.output, cached, written)))


class _MachineHour(_Strict):
    cost: _Dollars
    note: str = ""


class _File(_Strict):
    models: dict[str, _Own] = Field(default_factory=dict)
    machine_hour: _MachineHour | None = None


class _Book(NamedTuple):
    """Our own prices, and which file each comes from."""

    models: Mapping[str, _Own]
    sources: Mapping[str, str]
    machine_hour: _MachineHour | None


def _book() -> _Book:
    path = settings.value("LLMLAB_PRICES")
    if path is None:
        return _shipped_book()
    try:
        return _user_book(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise DataError(f"LLMLAB_PRICES names {path!r}, which cannot be read: {error.strerror}") from error


@functools.cache
def _shipped_book() -> _Book:
    file = _read(settings.shipped(_SHIPPED), _SHIPPED)
    return _Book(file.models, dict.fromkeys(file.models, _SHIPPED), file.machine_hour)


@functools.lru_cache(maxsize=8)
def _user_book(path: str, _modified: int) -> _Book:
    base, file = _shipped_book(), _read(Path(path), path)
    return _Book(
        {**base.models, **file.models},
        {**base.sources, **dict.fromkeys(file.models, path)},
        file.machine_hour or base.machine_hour,
    )


def _read(path: Path, name: str) -> _File:
    import yaml

    try:
        return _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise DataError("; ".join(f"{name}: {_explain(e)}" for e in error.errors())) from None


def _explain(error: Any) -> str:
    """One problem of a price file: where it is, what is wrong, what is possible."""
    where = ".".join(map(str, error["loc"])) or "the file"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}"
    inner: dict[str, type[_Strict]] = {"models": _Own, "machine_hour": _MachineHour}
    owner = _File if len(error["loc"]) == 1 else inner[error["loc"][0]]
    return f"{where}: unknown key; known: {', '.join(owner.model_fields)}"
