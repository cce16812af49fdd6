"""The form that starts a benchmark and shows it while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

import ipywidgets as w

from llmlab.errors import DataError, LabError
from llmlab.results import display
from llmlab.ui import pieces

if TYPE_CHECKING:
    from llmlab.store import Store


def start(store: str | Store | None, done: Callable[[], None]) -> w.VBox:
    """A form with models, benchmarks, n and budget; `done` is called when a run has ended, however it did."""
    models = pieces.field(w.Text, "Models", value="micro/small", placeholder="names, separated by commas")
    benchmarks = pieces.field(w.Text, "Benchmarks", value="micro/arc", placeholder="names, separated by commas")
    n = pieces.field(w.BoundedIntText, "Items per benchmark", value=20, min=1, max=1_000_000)
    budget = pieces.field(w.BoundedFloatText, "Budget (US dollars)", value=1.0, min=0.0, max=1e6, step=0.5)
    go, stop = w.Button(description="Start", button_style="primary"), w.Button(description="Stop", disabled=True)
    live = Live()

    def work() -> None:
        said = ""
        try:
            said = _evaluate(
                live, pieces.names(models.value), pieces.names(benchmarks.value), n.value, budget.value, store
            )
            done()
        except (LabError, ValueError) as error:
            said = pieces.paragraph(str(error), "bad")
        except Exception as error:  # an exception in a thread would be seen by nobody
            said = pieces.paragraph(f"{type(error).__name__}: {error}", "bad")
        finally:
            live.end(said)
            go.disabled, stop.disabled = False, True

    def started(_: object) -> None:
        go.disabled, stop.disabled = True, False
        live.begin()
        pieces.background(work)

    go.on_click(started)
    stop.on_click(lambda _: live.stop())
    return w.VBox([pieces.row(models, benchmarks, n, budget), pieces.row(go, stop), live.bar, live.words])


def _evaluate(
    live: Live, models: list[str], benchmarks: list[str], n: int, budget: float, store: str | Store | None
) -> str:
    """HTML of the results."""
    from llmlab.evaluation.evaluate import evaluate

    if not models or not benchmarks:
        raise DataError(f"name a {'benchmark' if models else 'model'} or more, separated by commas")
    results = evaluate(models, benchmarks, n, budget=budget, store=store, progress=live)
    early = f"Ended early ({results.status}): start the same again and it goes on from here."
    note = "" if results.status == "complete" else pieces.paragraph(early, "bad")
    return note + results._repr_html_()


class Live:
    """A bar with the running scores: the `progress` of an evaluation, which `stop` ends early, keeping all answers."""

    def __init__(self) -> None:
        self.bar = w.IntProgress(layout=w.Layout(width="100%", display="none"))
        self.words = w.HTML()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._said = ""
        self._ticker: threading.Thread | None = None

    def begin(self) -> None:
        """Say that work is under way."""
        self._stop.clear()
        self.bar.layout.display = ""
        self._ended.clear()
        self.bar.value = 0
        self._said = "Loading the models …"
        self._ticker = pieces.background(self._tick)

    def end(self, said: str) -> None:
        """Say what came of it, as HTML."""
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        self.bar.layout.display = "none"
        self.words.value = said

    def _tick(self) -> None:
        """Show how long it takes. It also tells the server that this page works, and must not end when it is closed."""
        began = time.monotonic()
        while not self._ended.is_set():
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            self.words.value = pieces.paragraph(f"{self._said} · {minutes}:{seconds:02}")
            self._ended.wait(1)

    def stop(self) -> None:
        """End the run as Ctrl-C does, at the next answer."""
        self._stop.set()
        self._said = "Stopping: calls under way are paid for and are waited for …"

    def __call__(self, total: int) -> Live:
        self.bar.max = max(total, 1)
        return self

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is to be given back."""

    def update(self, done: int, scores: Mapping[str, float], cost: float, failed: int) -> None:
        """See `llmlab.evaluation.progress.Progress`."""
        self.bar.value += done
        parts = [f"{self.bar.value:,} of {display.count(self.bar.max, 'answer')}"]
        parts += [f"{name} {display.percent(score)}" for name, score in scores.items()]
        parts += [display.dollars(cost), f"{failed} failed"] if failed else [display.dollars(cost)]
        self.note(" · ".join(parts))

    def note(self, text: str) -> None:
        """See `llmlab.evaluation.progress.Progress`."""
        self._said = text
        if self._stop.is_set():
            self._stop.clear()  # once: the answers under way still come through here
            raise KeyboardInterrupt
