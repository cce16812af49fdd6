"""`lab.models()`: what is known by name, and what of it can be used here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.models.availability import missing
from llmlab.models.local.known import known
from llmlab.settings import config

if TYPE_CHECKING:
    import pandas as pd


def models(provider: str | None = None, usable: bool | None = None, local: bool = False) -> pd.DataFrame:
    """The models that are known by name, and which can be used here now.

    Columns: name, aliases, family, context (tokens), shutdown (date, where the provider announced one), usable, and
    what is missing otherwise (a key, a package, weights). Any other `provider/name` works as well.

    With `local` the models whose weights run here, smallest first: parameters, GB of weights as float32, bfloat16, int8
    and nf4, the widest of these that `fits` this machine now, and whether the weights are `here`.
    """
    import pandas as pd

    if local:
        table = known()
        table = table if provider is None else table[table.index.str.startswith(provider + "/")]
        return table if usable is None else table[table["here"] == usable]

    rows = []
    for full, entry in config("models.yaml")["models"].items():
        entry = entry or {}
        lacking = missing(full)
        rows.append(
            {
                "name": full,
                "aliases": ", ".join(entry.get("aliases", ())),
                "family": entry.get("family", ""),
                "context": entry.get("context"),
                "shutdown": entry.get("shutdown"),
                "usable": not lacking,
                "missing": lacking,
            }
        )
    table = pd.DataFrame(rows).set_index("name")
    if provider is not None:
        table = table[table.index.str.startswith(provider + "/")]
    return table if usable is None else table[table["usable"] == usable]
