"""Which runs may be forgotten: the old ones, but never a pinned baseline, nor what an experiment rests on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError, UnknownName
from llmlab.monitor import slots

if TYPE_CHECKING:
    from llmlab.store import Store


def forgettable(
    store: Store, older_than: float | None = None, watch: str | None = None, keep: int | None = None
) -> list[str]:
    """Ids of runs that a retention rule lets go, oldest first. The rounds of watches, and so their trends, all stay.

    Args:
        store: to look in.
        older_than: days; runs that began before then go.
        watch: only runs of this watch.
        keep: all runs of the watch go but those of its newest so many rounds; with `older_than`, those that are
            both.

    Raises:
        DataError: when no rule is given, or `keep` without a watch.
        UnknownName: for a watch that the store does not know.
    """
    if older_than is None and keep is None:
        raise DataError("say what may go: runs older than so many days, or all but the newest so many of a watch")
    if keep is not None and watch is None:
        raise DataError(f"keep={keep} needs the name of a watch: which runs are the newest {keep} of?")
    if (older_than or 0) < 0 or (keep or 0) < 0:
        raise DataError("days and numbers of rounds are not negative")
    created = store.runs()["created"].iloc[::-1]
    wanted = set(created.index) if watch is None else _runs_of(store, watch, keep or 0)
    wanted -= _needed(store)
    before = datetime.now(UTC) - timedelta(days=older_than) if older_than is not None else None
    return [str(run) for run, at in created.items() if run in wanted and (before is None or at < before)]


def _runs_of(store: Store, watch: str, keep: int) -> set[str]:
    known = [one["key"] for one in store.documents.find("watch")]
    if watch not in known:
        raise UnknownName.among("watch", watch, known)
    rounds = [one["body"] for one in store.documents.find(slots.KIND, prefix=f"{watch}/")]
    kept = {run for body in (rounds[-keep:] if keep else []) for run in _runs_in(body)}
    return {run for body in rounds for run in _runs_in(body)} - kept


def _needed(store: Store) -> set[str]:
    """Runs that other things point at: baselines (the first round where none is pinned) and whatever is no round."""
    made: set[str] = set()
    for one in store.documents.find("watch"):
        rounds = [r["body"] for r in store.documents.find(slots.KIND, prefix=f"{one['key']}/")]
        complete = [body for body in rounds if body.get("status") == "complete"]
        pinned = one["body"].get("baseline") or (complete[0]["slot"] if complete else None)
        made |= {run for body in rounds if body.get("slot") == pinned for run in _runs_in(body)}
    for kind in ("experiment", "finetune"):
        made |= {run for one in store.documents.find(kind) for run in _named_runs(one["body"])}
    return made


def _runs_in(body: dict[str, Any]) -> list[str]:
    return [run for run in (body.get("run"), body.get("canary_run")) if run]


def _named_runs(value: Any) -> Iterator[str]:
    """Everything that a document says under "run" or "runs", however deep."""
    if isinstance(value, list):
        for inner in value:
            yield from _named_runs(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            listed = inner if isinstance(inner, list) else [inner]
            yield from (one for one in listed if key in ("run", "runs") and isinstance(one, str))
            yield from _named_runs(inner)
