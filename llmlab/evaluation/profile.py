"""What local models take: seconds to load, read and write, bytes of memory by part; measured, stored, comparable."""

from __future__ import annotations

import gc
import itertools
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmlab.errors import NeedsLocalModel
from llmlab.evaluation.evaluate import opened
from llmlab.evaluation.plan import Models, named_models
from llmlab.models.local.profile import Shape, Timing, check, held_bytes, measure
from llmlab.stats import median

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from llmlab.models.local.transformers import TransformersModel
    from llmlab.store import Store

KIND = "profile"


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
    """

    table: pd.DataFrame
    ids: dict[str, str]

    def plot(self, axes: Sequence[Axes] | None = None) -> list[Axes]:
        """Tokens per second against the batch, and memory against the length."""
        from llmlab.plots.profile import profile as draw

        return draw(self.table, axes)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table."""
        self.table.to_csv(path, index=False)

    def __repr__(self) -> str:
        return str(self._shown().to_string(index=False))

    def _repr_html_(self) -> str:
        return str(self._shown().to_html(index=False, na_rep="unknown"))

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
    """Measure speed and memory of local models, one after the other, on weights that are loaded afresh.

    Args:
        models: names or models, or a dict of them by the names to be shown: {"full": a, "nf4": b}.
        prompt_tokens: length of the prompts; several are measured one by one.
        new_tokens: tokens to write after each.
        batch: prompts at once; several are measured one by one.
        repeats: of each measurement, after a warm-up; six are needed for intervals.
        store: where the profile is kept; None is the default store.

    Raises:
        NeedsLocalModel: for a model whose weights do not run here.
        BadRequest: for lengths beyond the context.
    """
    import pandas as pd

    shapes = [
        Shape(length, new_tokens, size) for length, size in itertools.product(_several(prompt_tokens), _several(batch))
    ]
    ids, lines = {}, []
    for label, model in named_models(models).items():
        found, settings = _one(_local(model), shapes, repeats)
        lines += [{"model": label, **line} for line in found]
        ids[label] = _keep(label, found, settings, store)
    return Profile(pd.DataFrame(lines), ids)


def _local(model: Any) -> TransformersModel:
    from llmlab.models.local.transformers import TransformersModel

    if not isinstance(model, TransformersModel):
        raise NeedsLocalModel(
            f"{model.name} cannot be profiled: its weights do not run here, or it is wrapped. Give a model of 'hf/…', "
            "'gguf/…', 'adapter/…' or 'micro/…'; how long calls of others take is in results.summary()"
        )
    return model


def _one(model: TransformersModel, shapes: Sequence[Shape], repeats: int) -> tuple[list[dict[str, Any]], Any]:
    """A line per shape, and what the model was computed with."""
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
    lines = []
    for shape in shapes:
        held = _held()
        with peak() as used:
            timings = measure(engine, shape, repeats)
        line = _line(shape, timings) | {"load_seconds": seconds, "weights": held_bytes(loaded) / 1e9}
        tokens = shape.batch * (shape.prompt_tokens + shape.new_tokens)
        line |= {"kv": loaded.token_bytes * tokens / 1e9, "total": (held - before + used.bytes) / 1e9}
        lines.append(line | {"kv_token": loaded.token_bytes / 1e9, "context": loaded.context})
    settings = engine.settings_used() | dict(model.identity())
    engine.close()
    return lines, settings


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
