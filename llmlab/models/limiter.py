"""How many calls may be under way at one provider: rises while calls succeed, halves when the provider objects.

One limiter per (provider, base URL), shared by all its models and threads of this process. Additive increase and
multiplicative decrease as in TCP: Jacobson (1988), https://doi.org/10.1145/52325.52356
"""

from __future__ import annotations

import threading
from typing import NamedTuple

START = 200
"""Calls that may be under way at first: enough not to hold back a hundred threads."""
MOST = 1000


class Slot(NamedTuple):
    """The right to make one call, and how many times the limit had been lowered when it was given."""

    lowered: int


class Limiter:
    """Bounds the calls under way, and learns the bound.

    Args:
        start: calls that may be under way at first.
        most: what it may rise to.
    """

    def __init__(self, start: int = START, most: int = MOST) -> None:
        self.limit = float(start)
        self.most = most
        self.under_way = 0
        self.lowered = 0
        self._free = threading.Condition()

    def acquire(self) -> Slot:
        """Wait until one more call may start."""
        with self._free:
            while self.under_way >= int(self.limit):
                self._free.wait()
            self.under_way += 1
            return Slot(self.lowered)

    def release(self, slot: Slot, limited: bool | None = None) -> None:
        """Give a slot back. limited: True after a rate limit, False after success, None when it says nothing."""
        with self._free:
            # a burst of refusals is one message: calls that began before the last cut do not cut again
            if limited and slot.lowered == self.lowered:
                self.limit = max(1.0, min(self.limit, self.under_way) / 2)
                self.lowered += 1
            elif limited is False and self.under_way >= self.limit / 2:
                self.limit = min(float(self.most), self.limit + 1 / self.limit)
            self.under_way -= 1
            self._free.notify()


_limiters: dict[tuple[str, str], Limiter] = {}
_lock = threading.Lock()


def limiter(provider: str, base_url: str) -> Limiter:
    """The limiter of this process for a provider at a URL."""
    with _lock:
        return _limiters.setdefault((provider, base_url), Limiter())


def forget() -> None:
    """Start anew, as in a new process."""
    with _lock:
        _limiters.clear()
