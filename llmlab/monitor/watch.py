"""A watch: the same items asked again and again, and what follows from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmlab.benchmarks.base import Benchmark
from llmlab.benchmarks.subset import Subset
from llmlab.errors import DataError, UnknownName
from llmlab.evaluation.plan import Benchmarks, Models, named_benchmarks
from llmlab.models.base import Model
from llmlab.monitor import slots
from llmlab.monitor.config import Settings
from llmlab.monitor.config import settings as read_settings
from llmlab.monitor.detect import Check, Finding, check
from llmlab.monitor.items import Items, choose
from llmlab.monitor.measuring import measure
from llmlab.monitor.readings import Reference
from llmlab.monitor.rounds import Round, moment, slot_of
from llmlab.store import Store

if TYPE_CHECKING:
    from llmlab.monitor.alerts import Alert, Alerts
    from llmlab.monitor.history import History
    from llmlab.monitor.schedule import Schedule
    from llmlab.results import Results

_RESUME = timedelta(hours=24)
"""How old an unfinished round may be to be gone on with; answers of two days are not one night."""


def monitor(
    models: Models | None = None,
    benchmarks: Benchmarks | None = None,
    n: int | None = None,
    *,
    store: str | Store | None = None,
    canary: bool | None = None,
    name: str | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    project: str | None = None,
    seed: int | None = None,
    repeats: int | None = None,
    budget: float | None = None,
    drop: float | None = None,
    alpha: float | None = None,
    correction: Literal["holm", "bh"] | None = None,
    channels: Sequence[str] | None = None,
    sunset: Mapping[str, date] | None = None,
    changed_items: Literal["refuse", "pair"] | None = None,
) -> Watch:
    """A watch over models: `run()` it as often as you like, then ask for `history()`, `alerts()`, a `report(...)`.

    The items are drawn once and kept by their content; every round asks all of them anew. Several watches share a
    store, each under its name. A watch that the store knows can be opened by its name alone.

    Args:
        models: names, Models, a list of them, or a dict from label to either; a label keeps its history when the
            model behind it changes.
        benchmarks: names, Benchmarks, suites, or a list of these.
        n: items per benchmark; None for all.
        store: a Store or its SQLAlchemy URL; None is the default store.
        canary: also ask a few fixed prompts at temperature 0, whose answers tell that a model was changed.
        name: of the watch in its store, "watch" by default.
        config: a YAML file or a dict with these and further settings (`llmlab.monitor.config.Settings`); arguments
            overrule it. Without one, what the store knows of the watch holds.
        project: the runs' project in the store.
        seed: draws the items.
        repeats: answers per item and round.
        budget: US dollars per round, a hard limit.
        drop: a shown drop of at least this much (0.03: three points) is an alarm, a smaller one a warning.
        alpha: chance of any false alarm in 30 rounds, all models and benchmarks together.
        correction: "holm", or "bh" (Benjamini-Hochberg), which sees more when many series fall at once: then false
            ones are at most the share alpha of what is shown.
        channels: where alerts go: names of environment variables with apprise URLs, such as "$SLACK_URL".
        sunset: model -> last day, for what configs/models.yaml does not know.
        changed_items: "pair" compares rounds whose items differ on those that are the same; "refuse" stops.

    Raises:
        UnknownName: for a setting, model or benchmark that does not exist.
        DataError: for a setting that is not allowed.
    """
    given: dict[str, Any] = {
        "n": n, "canary": canary, "name": name, "project": project, "seed": seed, "repeats": repeats,
        "budget": budget, "drop": drop, "alpha": alpha, "correction": correction,
        "channels": list(channels) if channels is not None else None,
        "sunset": sunset,
        "changed_items": changed_items,
    }  # fmt: skip
    said = read_settings(config, **given)
    source = store if isinstance(store, Store) else Store(store or said.store)
    known = (source.documents.get("watch", said.name) or {}).get("settings", {})
    if config is None and known:
        said = read_settings(known, **given)
    return Watch(said, source, models, benchmarks)


class Watch:
    """Made by `lab.monitor`. Times go in as datetimes with a zone and are UTC inside."""

    def __init__(
        self, settings: Settings, store: Store, models: Models | None = None, benchmarks: Benchmarks | None = None
    ) -> None:
        self.store = store
        self._models = _labelled(models) if models is not None else dict(settings.models)
        self._benchmarks = benchmarks if benchmarks is not None else list(settings.benchmarks)
        names = {label: m.name if isinstance(m, Model) else m for label, m in self._models.items()}
        self.settings = settings.model_copy(update={"models": names, "benchmarks": _names(self._benchmarks)})

    @property
    def name(self) -> str:
        """Of the watch in its store."""
        return self.settings.name

    # -- rounds -------------------------------------------------------------------------------------------

    def run(self, at: datetime | None = None, progress: bool = False) -> Check:
        """Ask every item anew, store what came, and compare it with the rounds before.

        A round that was interrupted in the last 24 hours is gone on with: what it has answers for is not asked again.

        Args:
            at: the time this round stands for; None is now.
            progress: show a bar.

        Raises:
            DataError: when there is nothing to ask, when the items changed (see `changed_items`), or when the round
                is done already or under way in another process.
            StoreError: when results cannot be stored; the next `run` goes on.
        """
        found = self.attempt(_utc(at), progress)
        if found is None:
            raise DataError(
                f"the round of {slot_of(_utc(at))} of {self.name!r} is done already or under way in another process"
            )
        return found

    def attempt(self, at: datetime, progress: bool = False, resume: bool = True) -> Check | None:
        """`run`, for schedulers: None when the round is done or under way elsewhere, with nothing asked."""
        if not self._models or not self._benchmarks:
            raise DataError(f"the watch {self.name!r} has nothing to ask: give models and benchmarks, or a config")
        slot = (self._unfinished(at) if resume else None) or slot_of(at)
        with slots.claim(self.store, self.name, slot, self.settings.project) as ours:
            if ours is None:
                return None
            made = self._measured(slot, progress)
            ours.finish({**made.to_document(), "owner": ours.owner, "until": 0.0})
        if made.status != "complete":
            return Check(made, (), (_incomplete(made),))
        return self.check()

    def adopt(self, run: str) -> Check:
        """Take a run of the store as the next round: one that `llmlab import` brought from lm-eval or Inspect, or ours.

        The watch needs no models or benchmarks of its own for that. Runs are adopted in the order of their dates.

        Raises:
            StoreError: for a run that is not there.
            DataError: when it has no rows, or is older than the latest round.
        """
        from llmlab.monitor.adopting import adopt

        adopt(self, run)
        self._change({})
        return self.check()

    def check(self, slot: str | None = None) -> Check:
        """What a round says, the latest when None. Asks nothing.

        Raises:
            DataError: when there is no round, or the baseline's items are not the round's.
        """
        rounds = self.rounds()
        if slot is not None:
            rounds = rounds[: self._place(rounds, slot) + 1]
        if not rounds:
            raise DataError(f"the watch {self.name!r} has no complete round yet; `watch.run()` makes one")
        from llmlab.monitor.alerts import open_since

        body, place = self._document(), {r.slot: i for i, r in enumerate(rounds)}
        since = {key: place[s] for key, s in open_since(self.store, self.name).items() if s in place}
        reference = Reference(place.get(body.get("baseline", ""), 0), place.get(body.get("start", ""), 0), since)
        return check(rounds, reference, self.items(), self.settings, self.settings.models)

    def rounds(self, last: int | None = None) -> list[Round]:
        """The complete rounds, in the order in which they were begun (a clock that jumped does not matter).

        `last` looks at the newest so many only.
        """
        if last is not None and last < 1:
            raise DataError(f"last is how many of the newest rounds to take, 1 or more; got {last}")
        found = self.store.documents.find(slots.KIND, prefix=f"{self.name}/", last=last)
        return [Round.from_document(one["body"]) for one in found if one["body"]["status"] == "complete"]

    def items(self) -> dict[str, Items]:
        """The item sets of this watch, by their hash."""
        found = self.store.documents.find("watch.items", prefix=f"{self.name}/")
        made = [Items.from_document(one["body"]) for one in found]
        return {one.hash: one for one in made}

    def results(self, slot: str | None = None) -> Results:
        """The answers of a round as Results, the latest when None."""
        from llmlab.results import Results

        rounds = self.rounds()
        if not rounds:
            raise DataError(f"the watch {self.name!r} has no complete round yet; `watch.run()` makes one")
        return Results(self.store.results(rounds[self._place(rounds, slot) if slot else -1].run))

    def pin(self, slot: str | None = None) -> str:
        """Take a round (the latest when None) as the new baseline and the start of history; gives its slot.

        For when a change is meant, or accepted: open alerts on scores are closed.
        """
        from llmlab.monitor.alerts import accept

        rounds = self.rounds()
        if not rounds:
            raise DataError(f"the watch {self.name!r} has no complete round to pin; `watch.run()` makes one")
        chosen = rounds[self._place(rounds, slot) if slot else -1].slot
        self._change({"baseline": chosen, "start": chosen})
        accept(self.store, self.name)
        return chosen

    # -- what follows -------------------------------------------------------------------------------------

    def history(self, last: int | None = None) -> History:
        """All rounds: `.frame` is a DataFrame, `.changes` the change points, `.plot()` the trend.

        Args:
            last: only the newest so many; change points are then looked for among these.
        """
        from llmlab.monitor.history import History

        return History(self.name, self.rounds(last), self.items(), self._document().get("baseline", ""))

    def alerts(self, drop: float | None = None, *, deliver: bool = True) -> Alerts:
        """Bring the alerts up to date with the latest round, send what is new, and give those that are open.

        Args:
            drop: overrules the setting: from which drop (0.03: three points) a warning is an alarm.
            deliver: send to the channels; what cannot be sent waits in the store and is tried again next time.
        """
        from llmlab.monitor.alerts import update

        watch = self if drop is None else self._with(drop=drop)
        return update(watch, deliver)

    def acknowledge(self, alert: str, by: str = "", note: str = "") -> Alert:
        """Say that someone takes care of an alert: it stays open, and no longer fails the exit code."""
        from llmlab.monitor.alerts import acknowledge

        return acknowledge(self.store, self.name, alert, by, note)

    def schedule(self, cron: str | None = None, timezone: str | None = None) -> Schedule:
        """When to run: stores it with the watch, and gives what runs it (in process, crontab, GitHub Actions).

        Args:
            cron: "minute hour day month weekday", as crontab has it; None takes what was set before.
            timezone: of the hours, such as "Europe/Berlin".
        """
        from llmlab.monitor.schedule import Schedule

        new = {k: v for k, v in {"cron": cron, "timezone": timezone}.items() if v is not None}
        made = Schedule(self, cron, timezone)
        if new:
            self.settings = self.settings.model_copy(update=new)
            self._change({"scheduled": slot_of(datetime.now(UTC))})
        return made

    def report(self, path: str | Path) -> Path:
        """Write what there is to know: ".html" (one self-contained page), ".md" or ".json"."""
        from llmlab.monitor import report

        return report.write(self, Path(path))

    def __repr__(self) -> str:
        models, names = ", ".join(self._models) or "no models", ", ".join(self.settings.benchmarks) or "no benchmarks"
        n = "all items" if self.settings.n is None else f"n = {self.settings.n}"
        return f"Watch({self.name!r}: {models} on {names}, {n}; {len(self.rounds())} rounds in {self.store!r})"

    # -- inside -------------------------------------------------------------------------------------------

    def _measured(self, slot: str, progress: bool) -> Round:
        benches, items = self._fixed_items()
        return measure(self.settings, self.store, slot, self._models, benches, items, self.rounds(), progress)

    def _fixed_items(self) -> tuple[list[Benchmark], dict[str, Items]]:
        """The benchmarks, cut to the items of this watch, and these items by the benchmark's name."""
        kept = {name: self.items()[h] for name, h in self._document().get("items", {}).items()}
        n, seed, changed = self.settings.n, self.settings.seed, self.settings.changed_items
        benches = named_benchmarks(self._benchmarks)
        items = {b.name: choose(b, n, seed, kept.get(b.name), changed) for b in benches}
        for one in items.values():
            self.store.documents.claim("watch.items", f"{self.name}/{one.hash}", one.to_document())
        self._change({"items": {**self._document().get("items", {}), **{k: v.hash for k, v in items.items()}}})
        return [Subset(b, items[b.name].ids, b.name) for b in benches], items

    def _unfinished(self, at: datetime) -> str | None:
        found = self.store.documents.find(slots.KIND, prefix=f"{self.name}/", last=1)
        if not found or not slots.free(found[-1]["body"]):
            return None
        slot: str = found[-1]["body"]["slot"]
        return slot if timedelta(0) <= at - moment(slot) <= _RESUME else None

    def _document(self) -> dict[str, Any]:
        return self.store.documents.get("watch", self.name) or {}

    def _change(self, fields: Mapping[str, Any]) -> None:
        said = self.settings.model_dump(mode="json", exclude={"store"})
        self.store.documents.claim("watch", self.name, {}, project=self.settings.project)
        self.store.documents.change("watch", self.name, lambda old: {**(old or {}), "settings": said, **fields})

    def _with(self, **fields: Any) -> Watch:
        return Watch(read_settings(self.settings.model_dump(), **fields), self.store, self._models, self._benchmarks)

    def _place(self, rounds: Sequence[Round], slot: str) -> int:
        known = [r.slot for r in rounds]
        if slot not in known:
            raise UnknownName.among(f"complete round of {self.name!r}", slot, known[-10:])
        return known.index(slot)


def _labelled(models: Models) -> dict[str, str | Model]:
    if isinstance(models, Mapping):
        return dict(models)
    listed: Iterable[str | Model] = [models] if isinstance(models, str | Model) else models
    made: dict[str, str | Model] = {}
    for one in listed:
        label = one.name if isinstance(one, Model) else one
        if label in made:
            raise DataError(f"two models are called {label!r}: give labels, models={{'label': model, ...}}")
        made[label] = one
    return made


def _names(benchmarks: Benchmarks) -> list[str]:
    one = isinstance(benchmarks, str | Benchmark)
    return [b.name if isinstance(b, Benchmark) else str(b) for b in ([benchmarks] if one else benchmarks)]


def _utc(at: datetime | None) -> datetime:
    if at is None:
        return datetime.now(UTC)
    if at.tzinfo is None:
        raise DataError(f"a time needs its zone, such as datetime.now(UTC); got {at!r}")
    return at.astimezone(UTC)


def _incomplete(made: Round) -> Finding:
    text = f"the round of {made.slot} ended early ({made.status}) and is not compared; `watch.run()` goes on with it"
    return Finding("incomplete", "warning", "", "", text, first=made.slot)
