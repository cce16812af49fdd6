"""Experiments of the store: listed in a table, and two of them side by side.

An experiment is a document of the store: `name`, `status`, `config` (setting -> value), `summary` (number by name),
`curves` (a dict per log line), `folder`, `versions`. Who runs experiments of a new kind writes such documents and adds
the kind to `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmlab.errors import UnknownName
from llmlab.evaluation.evaluate import opened
from llmlab.experiments.side_by_side import SideBySide, differences

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.store import Store

KINDS = ("finetune", "experiment", "profile")


def experiments(kind: str | None = None, store: str | Store | None = None) -> pd.DataFrame:
    """The experiments of the store, oldest first.

    Args:
        kind: "finetune", "experiment" or "profile"; None lists every kind.
        store: a Store or its SQLAlchemy URL; None is the default store.

    Returns:
        A line per experiment, by its id: kind, created (UTC), status, the numbers of its summary, those settings in
        which the listed experiments differ, and its folder. `lab.experiments.compare(a, b)` takes two ids.

    Raises:
        UnknownName: for another kind.
        StoreError: when the store cannot be read.
    """
    import pandas as pd

    found = _found(kind, store)
    if not found:
        return pd.DataFrame(columns=["kind", "created", "status", "folder"], index=pd.Index([], name="id"))
    differing = differences([one["body"].get("config", {}) for one in found])
    rows = [_row(one, differing) for one in found]
    return pd.DataFrame(rows, index=pd.Index([one["key"] for one in found], name="id"))


def compare(first: str, second: str, store: str | Store | None = None) -> SideBySide:
    """Two experiments side by side: the settings in which they differ, their numbers, their curves.

    Args:
        first: id of an experiment, or the beginning of one.
        second: another.
        store: as for `lab.experiments`.

    Raises:
        UnknownName: for an id that the store lacks or a beginning that several have.
    """
    found = {one["key"]: one["body"] for one in _found(None, store)}
    names = [_named(name, list(found)) for name in (first, second)]
    return SideBySide(*((name, found[name]) for name in names))


def _found(kind: str | None, store: str | Store | None) -> list[dict[str, Any]]:
    if kind is not None and kind not in KINDS:
        raise UnknownName.among("kind of experiment", kind, KINDS)
    with opened(store) as source:
        found = [one | {"kind": k} for k in KINDS if kind in (None, k) for one in source.documents.find(k)]
    return sorted(found, key=lambda one: one["created"])


def _row(one: Mapping[str, Any], differing: Sequence[str]) -> dict[str, Any]:
    body = one["body"]
    row = {"kind": one["kind"], "created": one["created"], "status": body.get("status")}
    config = {name: body.get("config", {}).get(name) for name in differing}
    # a list is no value that a table can group or sort by
    config = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in config.items()}
    return row | config | dict(body.get("summary", {})) | {"folder": body.get("folder")}


def _named(name: str, known: Sequence[str]) -> str:
    fitting = [name] if name in known else [one for one in known if one.startswith(name)]
    if len(fitting) != 1:
        hint = f"Several begin with {name!r}" if fitting else "lab.experiments() lists them"
        raise UnknownName.among("experiment", name, fitting or known, hint)
    return fitting[0]
