"""The curves of a training in a notebook, while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from html import escape
from typing import Any

from llmlab.finetune.curves import scored
from llmlab.plots.theme import GRID, MUTED, PALETTE

# share of the training's time that drawing may take
_SHARE = 0.03
_WIDTH, _HEIGHT, _EDGE = 300, 120, 18
# what is drawn: title, curve, curve of the held-out data
_PANELS = (
    ("loss (nats per token)", "loss", "eval_loss"),
    ("reward", "reward", ""),
    ("useful tokens per second", "tokens_per_second", ""),
)

Curve = Sequence[tuple[float, float]]


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel, where widgets can be shown."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def live() -> Any:
    """A callback for transformers' trainer that shows progress and curves in a widget."""
    import ipywidgets
    from IPython.display import display
    from transformers import TrainerCallback

    class Live(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = ipywidgets.IntProgress(max=state.max_steps, value=state.global_step)
            self.words, self.drawing = ipywidgets.HTML(), ipywidgets.HTML()
            self.began, self.first, self.drawn, self.cost = time.perf_counter(), state.global_step, 0.0, 0.0
            display(ipywidgets.VBox([ipywidgets.HBox([self.bar, self.words]), self.drawing]))  # type: ignore[no-untyped-call]

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.show(state)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.show(state, whole=True)
            self.bar.bar_style = "success" if state.global_step >= state.max_steps else "info"

        def show(self, state: Any, whole: bool = False) -> None:
            now = time.perf_counter()
            if not whole and _SHARE * (now - self.drawn) < self.cost:
                return
            seconds, done = now - self.began, state.global_step - self.first
            left = seconds / max(1, done) * (state.max_steps - state.global_step)
            self.bar.value = state.global_step
            self.words.value = escape(_told(state, seconds, left))
            self.drawing.value = drawing(state.log_history)
            self.drawn, self.cost = time.perf_counter(), time.perf_counter() - now

    return Live()


def _told(state: Any, seconds: float, left: float) -> str:
    last = {k: line[k] for line in state.log_history for k in ("loss", "eval_loss") if k in line}
    losses = "".join(f" · {k.replace('eval_loss', 'held-out loss')} {v:.3f}" for k, v in last.items())
    return f"step {state.global_step} of {state.max_steps} · {seconds:.0f} s, {left:.0f} s left{losses}"


def drawing(log: Sequence[dict[str, float]]) -> str:
    """Curves of a log as SVG, a panel each; "" while there is nothing to draw."""
    panels = []
    scores = [(f"{name}, share right", f"eval_{name}", "") for name in scored({key for line in log for key in line})]
    for title, name, held in (*_PANELS, *sorted(scores)):
        curves = [[(line["step"], line[key]) for line in log if key and key in line] for key in (name, held)]
        if len(curves[0]) > 1:
            panels.append(_panel(title, *curves))
    return f"<div style='display:flex;gap:1.5em;flex-wrap:wrap'>{''.join(panels)}</div>" if panels else ""


def _panel(title: str, curve: Curve, held: Curve) -> str:
    points = [*curve, *held]
    steps, values = [p[0] for p in points], [p[1] for p in points]
    low, high = min(values), max(values)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = (point[0] - min(steps)) / max(1e-12, max(steps) - min(steps)) * _WIDTH
        return x, _EDGE + (high - point[1]) / max(1e-12, high - low) * (_HEIGHT - 2 * _EDGE)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, curve))
    dots = "".join(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{PALETTE[1]}'/>" for x, y in map(place, held))
    note = f"<tspan fill='{PALETTE[1]}'> ● held out {held[-1][1]:.3g}</tspan>" if held else ""
    return (
        f"<svg viewBox='-4 0 {_WIDTH + 8} {_HEIGHT}' width='{_WIDTH}' role='img' aria-label='{escape(title)}' "
        f"font-size='10' font-family='sans-serif' fill='{MUTED}'>"
        f"<line x1='0' x2='{_WIDTH}' y1='{_HEIGHT - _EDGE}' y2='{_HEIGHT - _EDGE}' stroke='{GRID}'/>"
        f"<polyline points='{line}' fill='none' stroke='{PALETTE[0]}' stroke-width='1.5'/>{dots}"
        f"<text y='11'>{escape(title)}: {curve[-1][1]:.4g}{note}</text>"
        f"<text y='{_HEIGHT - 5}'>steps {min(steps):g} to {max(steps):g}, {low:.3g} to {high:.3g}</text></svg>"
    )
