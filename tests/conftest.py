"""What every test may rely on: no network beyond this machine, no keys, an empty home, a provider's stand-in."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# before anything imports torch: threads that spin for each other slow small models down, the more on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from llmlab.testing import ProviderServer

_SETTINGS = ("LLMLAB_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "AZURE_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_KEPT = ("LLMLAB_BENCHMARKS",)


# how fast an example is drawn says something about the machine, nothing about the code
hypothesis.settings.register_profile("llmlab", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("llmlab")


class NetworkUse(AssertionError):
    """A test tried to leave this machine."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the loopback and sockets of the file system can be reached."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _forbid(self.family, address)
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _forbid(self.family, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_loopback(host):
            raise NetworkUse(f"a test asked for the address of {host!r}; only the loopback may be used")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def _forbid(family: int, address: Any) -> None:
    if family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
        raise NetworkUse(f"a test tried to connect to {address!r}; only the loopback may be used")


def _is_loopback(host: Any) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def clean_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys, addresses or proxies of this machine; a home folder of the test's own; nothing from the hub."""
    for name in list(os.environ):
        if (name.startswith(_SETTINGS) and name not in _KEPT) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    """A stand-in for the providers, answering "The answer is 42."."""
    with ProviderServer() as running:
        yield running


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A key for every provider, recognisable should it leak."""
    known = {name: f"secret-{name.lower()}" for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    return known


@pytest.fixture(autouse=True)
def new_providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits between tries that a test can afford; afterwards no connections and nothing learned is left."""
    from llmlab.models import remote, tries

    monkeypatch.setattr(tries, "FIRST_WAIT", 0.001)
    yield
    remote.forget()
