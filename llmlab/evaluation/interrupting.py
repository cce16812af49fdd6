"""Who may end a run early, so that no answer is lost half-way: Ctrl-C here, and other programs through the store."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from llmlab.errors import StoreError

if TYPE_CHECKING:
    from llmlab.store import Store

_EVERY = 1.0
"""Seconds between two looks into the store."""


@contextlib.contextmanager
def by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C (the stop button) calls `stop`; a second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.getsignal(signal.SIGINT)

    def once(signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, usual)
        stop()

    signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextlib.contextmanager
def by_store(store: Store, run: str, stop: Callable[[], None]) -> Iterator[None]:
    """`store.stop_run(run)`, in any program, calls `stop`: within about a second, also while no answer comes."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY):
            # a database that is busy, or gone for a moment, is asked again
            with contextlib.suppress(StoreError):
                if store.is_stopping(run):
                    stop()
                    return

    looking = threading.Thread(target=look, daemon=True, name="llmlab-stop")
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
