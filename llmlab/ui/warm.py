"""What the kernel of every page imports. The process that they are forked from imports this, so has it all already."""

from __future__ import annotations

import contextlib
import gc
import sys
from importlib import import_module

sys.modules["debugpy"] = None  # type: ignore[assignment]  # nobody debugs a page, and it takes half a second

for _name in (
    *("IPython.core.completerlib", "IPython.core.oinspect"),
    *("ipykernel.debugger", "ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.zmqshell"),
    *("anywidget", "ipywidgets", "matplotlib.figure", "pandas", "scipy.stats"),
    *("llmlab.evaluation.budgets", "llmlab.evaluation.evaluate", "llmlab.monitor.alerts", "llmlab.monitor.watch"),
    *(f"llmlab.ui.{page}" for page in ("compare", "costs", "feedback", "home", "monitor", "prompt_tester", "runs")),
):
    import_module(_name)
for _name in ("jinja2", "matplotlib.pyplot", "ruptures", "yaml", "llmlab.plots.trend", "llmlab.results.pages"):
    with contextlib.suppress(ImportError):  # some come with other extras; the page that needs one says so
        import_module(_name)

gc.freeze()  # else each kernel's collector looks at, and so copies, the memory that all share
