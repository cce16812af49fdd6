"""LLM Lab: benchmark, compare, fine-tune, align and monitor language models from a notebook.

>>> import llmlab as lab
>>> results = lab.evaluate(["micro/small", "micro/base"], ["micro/arc"], n=50)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads of OpenMP spin before they sleep, for some 10 ms each time unless told otherwise: where two programs share the
# cores they hold each other up, and a training took 8 to 20 times as long. It is read when torch is imported.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

# public name -> where it is; loaded on first use, so that `import llmlab` stays quick
_PUBLIC = {
    "Response": "llmlab.types:Response",
    "Results": "llmlab.results:Results",
    "Sample": "llmlab.types:Sample",
    "Store": "llmlab.store:Store",
    "alignment": "llmlab.alignment:",
    "benchmark": "llmlab.benchmarks.registry:benchmark",
    "benchmarks": "llmlab.benchmarks:",
    "costs": "llmlab.evaluation.budgets:costs",
    "dataset": "llmlab.finetune.data:dataset",
    "decided": "llmlab.evaluation.stopping:decided",
    "ensemble": "llmlab.models.ensemble:ensemble",
    "estimate": "llmlab.evaluation.estimate:estimate",
    "evaluate": "llmlab.evaluation.evaluate:evaluate",
    "experiment": "llmlab.experiments.experiment:experiment",
    "experiments": "llmlab.experiments:",
    "finetune": "llmlab.finetune:",
    "ledger": "llmlab.ledger:",
    "memory": "llmlab.finetune.memory:memory",
    "model": "llmlab.models.registry:model",
    "models": "llmlab.models:",
    "monitor": "llmlab.monitor:",
    "optimize": "llmlab.evaluation.optimize:optimize",
    "plan": "llmlab.evaluation.planning:plan",
    "plots": "llmlab.plots:",
    "profile": "llmlab.evaluation.profile:profile",
    "prompts": "llmlab.benchmarks.templates:prompts",
    "rescore": "llmlab.evaluation.rescore:rescore",
    "route": "llmlab.models.router:route",
    "scorers": "llmlab.scorers:",
    "serve": "llmlab.serve:",
    "suite": "llmlab.benchmarks.suite:suite",
    "suites": "llmlab.benchmarks.variants:suites",
    "tune": "llmlab.finetune.search:tune",
    "ui": "llmlab.ui:",
}

__all__ = [
    "Response",
    "Results",
    "Sample",
    "Store",
    "__version__",
    "alignment",
    "benchmark",
    "benchmarks",
    "costs",
    "dataset",
    "decided",
    "ensemble",
    "estimate",
    "evaluate",
    "experiment",
    "experiments",
    "finetune",
    "ledger",
    "memory",
    "model",
    "models",
    "monitor",
    "optimize",
    "plan",
    "plots",
    "profile",
    "prompts",
    "rescore",
    "route",
    "scorers",
    "serve",
    "suite",
    "suites",
    "tune",
    "ui",
]

if TYPE_CHECKING:
    from llmlab import alignment, benchmarks, experiments, finetune, ledger, models, monitor, plots, scorers, serve, ui
    from llmlab.benchmarks.registry import benchmark
    from llmlab.benchmarks.suite import suite
    from llmlab.benchmarks.templates import prompts
    from llmlab.benchmarks.variants import suites
    from llmlab.evaluation.budgets import costs
    from llmlab.evaluation.estimate import estimate
    from llmlab.evaluation.evaluate import evaluate
    from llmlab.evaluation.optimize import optimize
    from llmlab.evaluation.planning import plan
    from llmlab.evaluation.profile import profile
    from llmlab.evaluation.rescore import rescore
    from llmlab.evaluation.stopping import decided
    from llmlab.experiments.experiment import experiment
    from llmlab.finetune.data import dataset
    from llmlab.finetune.memory import memory
    from llmlab.finetune.search import tune
    from llmlab.models.ensemble import ensemble
    from llmlab.models.registry import model
    from llmlab.models.router import route
    from llmlab.results import Results
    from llmlab.store import Store
    from llmlab.types import Response, Sample


def __getattr__(name: str) -> Any:
    try:
        path, _, attribute = _PUBLIC[name].partition(":")
    except KeyError:
        raise AttributeError(f"module 'llmlab' has no attribute {name!r}; it has {', '.join(__all__)}") from None
    found = importlib.import_module(path)
    if attribute:
        found = getattr(found, attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
