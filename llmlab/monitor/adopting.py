"""A run that is in the store already as a round of a watch: so results of other tools join a history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError
from llmlab.monitor import slots
from llmlab.monitor.items import Items
from llmlab.monitor.rounds import Round, series_of, slot_of
from llmlab.types import digest

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.monitor.watch import Watch


def adopt(watch: Watch, run: str) -> Round:
    """See `Watch.adopt`."""
    from llmlab.results import Results

    rows = Results(watch.store.results(run)).samples
    noted: Any = watch.store.runs(run, last=1).loc[run]
    slot = slot_of(noted["created"].to_pydatetime())
    before = watch.rounds()
    if not len(rows):
        raise DataError(f"the run {run!r} has no rows")
    if before and slot <= before[-1].slot:
        raise DataError(
            f"the run {run!r} is of {slot}, and {watch.name!r} has a round of {before[-1].slot} already: a history "
            "grows at its end. Adopt runs in the order of their dates, into a watch of their own if need be"
        )
    frame = _apart(rows)
    items = {str(name): _items(str(name), of_one) for name, of_one in frame.groupby("benchmark", sort=False)}
    with slots.claim(watch.store, watch.name, slot, watch.settings.project) as ours:
        if ours is None:
            raise DataError(f"the round of {slot} of {watch.name!r} is under way in another process")
        for one in items.values():
            watch.store.documents.claim("watch.items", f"{watch.name}/{one.hash}", one.to_document())
        made = Round(
            slot, noted["created"].to_pydatetime(), run=run, series=series_of(frame, items),
            versions=noted["versions"] or {}, cost=float(frame["cost"].sum(skipna=False)),
            seconds=float(noted["seconds"]),
            notes=("adopted: this run was not made by the watch",),
        )  # fmt: skip
        ours.finish({**made.to_document(), "owner": ours.owner, "until": 0.0})
    return made


def _apart(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, with the protocol in the benchmark's name where a model was asked or read in several ways."""
    several = rows.groupby(["model", "benchmark"])["protocol"].transform("nunique") > 1
    named = rows["benchmark"] + " (" + rows["protocol"] + ")"
    return rows.assign(benchmark=rows["benchmark"].where(~several, named))


def _items(benchmark: str, rows: pd.DataFrame) -> Items:
    """Told apart by what was asked and wanted; which items there were to choose from is not known."""
    first = rows.drop_duplicates("sample")
    asked = zip(first["sample"], first["prompt"], first["target"], strict=True)
    clusters = tuple(map(str, first["cluster"]))
    contents = {str(sample): digest(prompt, target) for sample, prompt, target in asked}
    return Items(benchmark, (None, 0), contents, clusters if any(clusters) else ())
