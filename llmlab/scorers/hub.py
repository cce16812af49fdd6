"""Metrics of Hugging Face's `evaluate`: from the hub, or a script of yours."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import numbers
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmlab.errors import DataError, MissingPackage
from llmlab.scorers.base import Rule, acceptable, no_target, shorten
from llmlab.scorers.numbers import numbers as numbers_in
from llmlab.types import Sample, Score

_lock = threading.Lock()


@dataclass(frozen=True)
class HubMetric(Rule):
    """A metric of Hugging Face's `evaluate`, one answer at a time."""

    name: ClassVar[str] = "hf_evaluate"
    metric: str
    key: str | None = None
    config: str | None = None
    scale: float = 1.0
    settings: str = "{}"
    """JSON text of the keyword arguments of `compute`: a rule holds only what can be hashed."""

    def __call__(self, text: str, sample: Sample) -> Score:
        targets = acceptable(sample)
        if not targets:
            return no_target(sample)
        metric = _loaded(self.metric, self.config)
        prediction = _fit(text, _features(metric)["predictions"])
        if prediction is None:
            return Score(0.0, None, f"{self.metric} compares numbers, and the answer has none", parsed=False)
        results = [self._compute(metric, prediction, reference) for reference in _references(targets, metric)]
        key = self.key or _headline(results[0], self.metric)
        best = max(results, key=lambda found: float(found.get(key, math.nan)))
        if key not in best:
            raise DataError(f"{self.metric} gives no {key!r}; it gives {', '.join(best)}")
        value = best[key] / self.scale
        if not (math.isnan(value) or 0 <= value <= 1):
            raise DataError(
                f"{self.metric} gave {key} = {best[key]:g}, and a score lies in [0, 1]; say scale=100 for percentages"
            )
        return Score(value, shorten(str(prediction), 400), f"{key} {best[key]:g}", best)

    def _compute(self, metric: Any, prediction: Any, reference: Any) -> dict[str, float]:
        with _lock, _quiet():  # a metric collects its inputs in itself
            found = metric.compute(predictions=[prediction], references=[reference], **json.loads(self.settings))
        return {k: float(v) for k, v in (found or {}).items() if isinstance(v, numbers.Real)}


def hf_evaluate(
    metric: str | Path, key: str | None = None, config: str | None = None, scale: float = 1.0, **settings: Any
) -> HubMetric:
    """A metric of Hugging Face's `evaluate`, computed for each answer by itself.

    Args:
        metric: a hub id ("rouge", "owner/name"), or the script or folder of one on this machine. Its code is run:
            use what you trust.
        key: which of its numbers is the score; None takes the one that is called like the metric, or the only one.
        config: name of its configuration, where it has several.
        scale: what its best value is, such as 100 for percentages; the score is the value divided by it.
        settings: passed on to its `compute`.

    Answers and targets become what the metric asks for: text, the last number in them, or all targets as a list.
    Where it takes one reference and the sample has several targets, the best counts. All its numbers stand in the
    metrics. The mean over samples is not the corpus value of metrics that are not means, such as corpus BLEU.

    Raises:
        DataError: when the metric cannot be found or its script does not load.
        MissingPackage: with the command that installs what its script needs.
    """
    if scale <= 0:
        raise DataError(f"scale is the metric's best value, above 0; got {scale!r}")
    _loaded(str(metric), config)  # a metric that does not load must not be found out after the answers are paid for
    return HubMetric(str(metric), key, config, scale, json.dumps(settings, sort_keys=True))


@functools.lru_cache(maxsize=16)
def _loaded(metric: str, config: str | None) -> Any:
    try:
        import evaluate
    except ModuleNotFoundError as error:
        raise MissingPackage("hf_evaluate needs the package: pip install evaluate") from error
    try:
        with _quiet():
            return evaluate.load(metric, config, keep_in_memory=True)
    except (FileNotFoundError, ConnectionError, TimeoutError) as error:
        raise DataError(_nowhere(metric, error)) from error
    except ImportError as error:
        # evaluate lists what to install in its message
        raise MissingPackage(f"the metric {metric} needs a package: {_one_line(error)}") from error
    except Exception as error:  # the script is somebody else's code
        raise DataError(
            f"the metric {metric} does not load: {type(error).__name__}: {_one_line(error)}. A metric script defines "
            "one subclass of evaluate.Metric with _info and _compute; correct it, or name another"
        ) from error


def _nowhere(metric: str, error: Exception) -> str:
    if metric.endswith(".py") or metric.startswith((".", "/", "~")) or Path(metric).exists():
        return f"no metric script at {metric}; a folder needs a script of its own name, {Path(metric).stem}.py, in it"
    return (
        f"no metric {metric!r} here, and the hub does not give it ({_one_line(error)}). Check the name on "
        "https://huggingface.co/evaluate-metric; without the hub, load it once where there is a connection "
        "(it is then cached), or give the path of a copy of its folder"
    )


def _features(metric: Any) -> Mapping[str, Any]:
    found = metric.features[0] if isinstance(metric.features, list) else metric.features
    if not {"predictions", "references"} <= set(found):
        raise DataError(f"{metric.name} compares {', '.join(found)}; a scorer needs predictions and references")
    return dict(found)


def _references(targets: tuple[str, ...], metric: Any) -> list[Any]:
    """What to compare with, one after the other: each target, or all at once where the metric takes a list."""
    kind = _features(metric)["references"]
    inner = getattr(kind, "feature", kind[0] if isinstance(kind, list) else None)
    fitted = [_fit(target, kind if inner is None else inner) for target in targets]
    if None in fitted:
        raise DataError(f"{metric.name} compares numbers, and the target {targets[fitted.index(None)]!r} has none")
    return fitted if inner is None else [fitted]


def _fit(text: str, kind: Any) -> Any:
    """The text as the type that a metric declares; None for a number that is not there."""
    dtype = str(getattr(kind, "dtype", "string"))
    if not dtype.startswith(("int", "uint", "float")):
        return text
    found = numbers_in(text)
    if not found:
        return None
    return found[-1].value if dtype.startswith("float") else round(found[-1].value)


def _headline(found: Mapping[str, float], metric: str) -> str:
    short = Path(metric).stem
    if short in found or len(found) == 1:
        return short if short in found else next(iter(found))
    raise DataError(f"{metric} gives {', '.join(found) or 'no number'}; say which is the score with key=...")


def _one_line(error: Exception) -> str:
    return shorten(" ".join(str(error).split()), 300)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of a metric that was computed over a single item or comes without a citation."""
    import warnings

    logger = logging.getLogger("evaluate")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
