"""What local models take: seconds to load, read and write, bytes of memory by part; measured, stored, comparable."""

from __future__ import annotations

import gc
import itertools
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmlab.errors import NeedsLocalModel
from llmlab.evaluation.evaluate import opened
from llmlab.evaluation.plan import Models, named_models
from llmlab.models.local.profile import Shape, Timing, check, fit_together, held_bytes, measure, once
from llmlab.stats import median

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.models.local.engine import Engine
    from llmlab.models.local.transformers import TransformersModel
    from llmlab.store import Store

KIND = "profile"

_IN_TURN = (
    "Measured one model after the other, since memory does not hold all of them with room to spare: other work on the "
    "machine during one looks like a property of that one."
)


@dataclass(frozen=True, repr=False)
class Profile:
    """What models took.

    Attributes:
        table: a line per model, prompt length and batch: `prefill` and `decode` in tokens per second over the whole
            batch (medians of the repeats, `_low` and `_high` their 95 % intervals, NaN below six repeats);
            `first_p50`, `first_p95` seconds to the first token, `token_p50`, `token_p95` seconds per further token;
            `load_seconds`; in GB (10^9 bytes) `weights`, `kv` (keys and values of all rows at the end) and `total`
            (peak of the process above what it held before loading; NaN where the system does not tell).
        ids: model -> id of its document in the store; `lab.experiments()` lists them.
        together: whether the repeats went round over the models, so that load of the machine met all alike; False where
            they do not fit into memory at once and were measured one after the other.
    """

    table: pd.DataFrame
    ids: dict[str, str]
    together: bool = True

    def plot(self, axes: Sequence[Axes] | None = None) -> list[Axes]:
        """Tokens per second against the batch, and memory against the length."""
        from llmlab.plots.profile import profile as draw

        return draw(self.table, axes)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table."""
        self.table.to_csv(path, index=False)

    def __repr__(self) -> str:
        return "\n".join([str(self._shown().to_string(index=False)), *self._notes()])

    def _repr_html_(self) -> str:
        notes = "".join(f"<small>{note}</small>" for note in self._notes())
        return str(self._shown().to_html(index=False, na_rep="unknown")) + notes

    def _notes(self) -> list[str]:
        return [] if self.together else [_IN_TURN]

    def _shown(self) -> pd.DataFrame:
        table = self.table
        shown = table[["model", "prompt_tokens", "batch"]].copy()
        for name in ("prefill", "decode"):
            shown[f"{name}, tokens/s"] = [
                f"{v:,.0f} [{low:,.0f}, {high:,.0f}]"
                for v, low, high in zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
            ]
        for name, title in (("first", "first token, ms"), ("token", "per token, ms")):
            shown[title] = [
                f"{1000 * a:.1f} (p95 {1000 * b:.1f})"
                for a, b in zip(table[f"{name}_p50"], table[f"{name}_p95"], strict=True)
            ]
        shown["load, s"] = table["load_seconds"].round(2)
        for part in ("weights", "kv", "total"):
            shown[f"{part}, GB"] = table[part].map("{:.3g}".format)
        return shown.assign(n=table["repeats"])


def profile(
    models: Models,
    prompt_tokens: int | Sequence[int] = 128,
    new_tokens: int = 32,
    batch: int | Sequence[int] = (1, 8),
    *,
    repeats: int = 6,
    store: str | Store | None = None,
) -> Profile:
    """Measure speed and memory of local models, on weights that are loaded afresh.

    Repeats go round over the models, so that their medians compare whatever else the machine does, where memory holds
    all of them with room to spare; else they are measured one after the other, and the result says so.

    Args:
        models: names or models, or a dict of them by the names to be shown: {"full": a, "nf4": b}.
        prompt_tokens: length of the prompts; several are measured one by one.
        new_tokens: tokens to write after each.
        batch: prompts at once; several are measured one by one.
        repeats: of each measurement, after a warm-up of each model; six are needed for intervals.
        store: where the profile is kept; None is the default store.

    Raises:
        NeedsLocalModel: for a model whose weights do not run here.
        BadRequest: for lengths beyond the context.
    """
    import pandas as pd

    shapes = [
        Shape(length, new_tokens, size) for length, size in itertools.product(_several(prompt_tokens), _several(batch))
    ]
    asked = {label: _local(model) for label, model in named_models(models).items()}
    together = fit_together([model.source for model in asked.values()])
    found: dict[str, list[dict[str, Any]]] = {}
    ids = {}
    for group in [asked] if together else [{label: model} for label, model in asked.items()]:
        ready = {label: _warmed_up(model, shapes) for label, model in group.items()}
        found |= _measured(ready, shapes, repeats)
        for label, one in ready.items():
            settings = one.engine.settings_used() | dict(group[label].identity()) | {"together": together}
            ids[label] = _keep(label, found[label], settings, store)
            one.engine.close()
    lines = [{"model": label, **line} for label in asked for line in found[label]]
    return Profile(pd.DataFrame(lines), ids, together)


def _local(model: Any) -> TransformersModel:
    from llmlab.models.local.transformers import TransformersModel

    if not isinstance(model, TransformersModel):
        raise NeedsLocalModel(
            f"{model.name} cannot be profiled: its weights do not run here, or it is wrapped. Give a model of 'hf/…', "
            "'gguf/…', 'adapter/…' or 'micro/…'; how long calls of others take is in results.summary()"
        )
    return model


@dataclass(frozen=True)
class _Ready:
    """Weights that were read afresh and warmed up: seconds that the reading took, and per shape the peak in bytes."""

    engine: Engine
    load_seconds: float
    peaks: list[float]


def _warmed_up(model: TransformersModel, shapes: Sequence[Shape]) -> _Ready:
    """Done for one model at a time, so that the memory that is taken is its own."""
    import transformers.modeling_utils  # noqa: F401  # the library's own memory is not the model's

    from llmlab.finetune.heap import give_back, trim
    from llmlab.finetune.peak import peak

    give_back()
    gc.collect()
    trim()
    engine = model.engine.fresh()
    before, began = _held(), time.perf_counter()
    loaded = engine.loaded
    seconds = time.perf_counter() - began
    for shape in shapes:
        check(shape, loaded, model.name)
    peaks = []
    for shape in shapes:
        held = _held()
        with peak() as used:
            once(engine, shape, seed=-1)
        peaks.append(held - before + used.bytes)
    return _Ready(engine, seconds, peaks)


def _measured(ready: Mapping[str, _Ready], shapes: Sequence[Shape], repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Each model's lines, one per shape."""
    lines: dict[str, list[dict[str, Any]]] = {label: [] for label in ready}
    for i, shape in enumerate(shapes):
        timings = measure([one.engine for one in ready.values()], shape, repeats)
        tokens = shape.batch * (shape.prompt_tokens + shape.new_tokens)
        for (label, one), times in zip(ready.items(), timings, strict=True):
            loaded = one.engine.loaded
            memory = {
                "weights": held_bytes(loaded) / 1e9,
                "kv": loaded.token_bytes * tokens / 1e9,
                "total": one.peaks[i] / 1e9,
                "kv_token": loaded.token_bytes / 1e9,
            }
            line = _line(shape, times) | {"load_seconds": one.load_seconds} | memory
            lines[label].append(line | {"context": loaded.context})
    return lines


def _line(shape: Shape, timings: Sequence[Timing]) -> dict[str, Any]:
    import numpy as np

    steps = [step for timing in timings for step in timing.steps]
    firsts = [timing.first for timing in timings]
    read, written = shape.batch * shape.prompt_tokens, shape.batch * (shape.new_tokens - 1)
    rates = {
        "prefill": median([read / t.first for t in timings]),
        "decode": median([written / sum(t.steps) for t in timings]),
    }
    line: dict[str, Any] = asdict(shape) | {"repeats": len(timings)}
    for name, found in rates.items():
        line |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    for name, seconds in (("first", firsts), ("token", steps)):
        line |= {f"{name}_p{q}": float(np.percentile(seconds, q)) for q in (50, 95)}
    return line


def _keep(label: str, lines: Sequence[dict[str, Any]], settings: Any, store: str | Store | None) -> str:
    key = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    largest = max(lines, key=lambda line: line["batch"])
    numbers = ("prefill", "decode", "first_p50", "first_p95", "token_p50", "token_p95", "load_seconds", "total")
    body = {
        "name": label,
        "status": "done",
        "config": dict(settings) | {name: largest[name] for name in ("prompt_tokens", "new_tokens", "batch")},
        "summary": {name: largest[name] for name in numbers},
        "lines": list(lines),
    }
    with opened(store) as kept:
        kept.documents.put(KIND, key, body)
    return key


def _held() -> float:
    """Bytes that this process has now, on the GPU where there is one."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.memory_allocated())
    return float(psutil.Process().memory_info().rss)


def _several(given: int | Sequence[int]) -> list[int]:
    return [given] if isinstance(given, int) else list(given)
