"""Live progress: a bar with the running score, the money spent and the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol


class Progress(Protocol):
    """What `evaluate` tells while it runs."""

    def __enter__(self) -> Progress: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, done: int, scores: Mapping[str, float], cost: float, failed: int) -> None:
        """`done` more items; running mean score by model; US dollars spent; items failed so far."""

    def note(self, text: str) -> None:
        """What is waited for, when no items come."""


def progress(total: int, shown: bool | Callable[[int], Progress]) -> Progress:
    """A tqdm bar in a notebook, a rich bar in a terminal, silence elsewhere; or what the caller makes for so many."""
    if not isinstance(shown, bool):
        return shown(total)
    if not shown or not total:
        return _Silent()
    if "ipykernel" in sys.modules:
        return _Notebook(total)
    return _Terminal(total) if sys.stderr.isatty() else _Silent()


def _text(scores: Mapping[str, float], cost: float, failed: int) -> str:
    parts = [f"{name} {value:.2f}" for name, value in list(scores.items())[:3]]
    if len(scores) > 3:
        parts.append(f"+{len(scores) - 3} models")
    parts.append(f"${cost:.4f}")
    if failed:
        parts.append(f"{failed} failed")
    return " · ".join(parts)


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, done: int, scores: Mapping[str, float], cost: float, failed: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Notebook:
    def __init__(self, total: int) -> None:
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(total=total, unit="item", leave=True)

    def __enter__(self) -> _Notebook:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, done: int, scores: Mapping[str, float], cost: float, failed: int) -> None:
        self._bar.set_postfix_str(_text(scores, cost, failed), refresh=False)
        self._bar.update(done)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text)


class _Terminal:
    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("items", total=total, text="")

    def __enter__(self) -> _Terminal:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, scores: Mapping[str, float], cost: float, failed: int) -> None:
        self._bar.update(self._task, advance=done, text=_text(scores, cost, failed))

    def note(self, text: str) -> None:
        self._bar.update(self._task, text=text)
