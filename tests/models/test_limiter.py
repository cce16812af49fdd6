from __future__ import annotations

import threading
import time

from llmlab.models.limiter import Limiter, limiter


def test_a_burst_of_refusals_halves_the_calls_under_way_once() -> None:
    limits = Limiter(start=200)
    slots = [limits.acquire() for _ in range(100)]
    for slot in slots:
        limits.release(slot, limited=True)
    assert limits.limit == 50
    assert limits.under_way == 0


def test_refusals_after_the_cut_halve_again() -> None:
    limits = Limiter(start=8)
    for expected in (4, 2, 1, 1):
        slots = [limits.acquire() for _ in range(int(limits.limit))]
        for slot in slots:
            limits.release(slot, limited=True)
        assert limits.limit == expected


def test_success_raises_the_limit_by_about_one_per_round() -> None:
    limits = Limiter(start=10)
    slots = [limits.acquire() for _ in range(10)]
    for slot in slots:
        limits.release(slot, limited=False)
    assert 10.4 < limits.limit <= 11


def test_success_far_below_the_limit_says_nothing_about_it() -> None:
    limits = Limiter(start=100)
    limits.release(limits.acquire(), limited=False)
    assert limits.limit == 100


def test_the_limit_stays_within_its_bounds() -> None:
    limits = Limiter(start=2, most=2)
    slots = [limits.acquire(), limits.acquire()]
    for slot in slots:
        limits.release(slot, limited=False)
    assert limits.limit == 2


def test_a_hundred_calls_start_without_waiting() -> None:
    limits = limiter("openai", "http://fresh")
    for _ in range(100):
        limits.acquire()
    assert limits.under_way == 100


def test_a_call_waits_until_a_slot_is_free() -> None:
    limits = Limiter(start=1)
    first = limits.acquire()
    started = threading.Event()

    def second() -> None:
        slot = limits.acquire()
        started.set()
        limits.release(slot)

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.02)
    assert not started.is_set()
    limits.release(first)
    thread.join(5)
    assert started.is_set()


def test_models_of_one_provider_at_one_address_share_a_limiter() -> None:
    assert limiter("openai", "http://a") is limiter("openai", "http://a")
    assert limiter("openai", "http://a") is not limiter("openai", "http://b")
