"""Runs a program and its test in a process of its own, with limits, and says whether the test came to its end.

It keeps honest mistakes from doing harm: endless loops, memory hogs, deleted files, calls home. It is not a security
boundary: generated code shares the interpreter with the test and the kernel with you, so an attacker who knows this
file can leave it or forge a success. Run code that you have reason to fear in a virtual machine.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from llmlab.errors import LabError

_SCRIPT = Path(__file__).with_name("confined.py")
_KEPT = 10_000
_WAITING = 5.0


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: computing time, rounded up to a whole second by the system. The clock on the wall may show five times
            as much, so that a busy machine does not turn right programs into wrong ones.
        memory_mb: address space, in MiB; Python itself takes about 30.
        file_mb: size of each file it writes, in MiB.
        processes: processes and threads (on Linux, in its own namespace).
    """

    seconds: float = 3.0
    memory_mb: int = 1024
    file_mb: int = 16
    processes: int = 64


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    passed: bool
    """Whether program and test ran to their end without an exception."""
    reason: str
    """Why not; "" when it passed."""
    output: str
    """The beginning of what it printed."""
    means: str
    """How network and files were kept away from it."""
    seconds: float
    """On the wall, start of the interpreter included."""


def run(program: str, test: str, limits: Limits | None = None) -> Outcome:
    """Run `program`, then `test` in the same namespace.

    The process starts in an empty folder, which is all that it can write to, without the environment of this one (and
    so without its keys), without network, and with a fixed hash seed, so that the same program ends the same way.

    Raises:
        LabError: where programs cannot be confined (Windows).
    """
    if os.name != "posix":
        raise LabError("generated code can be confined on Linux and macOS only; on Windows use WSL or a container")
    limits = limits or Limits()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmlab-code-", ignore_cleanup_errors=True) as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(_job(program, test, limits)), encoding="utf-8")
        token = secrets.token_hex(16).encode()
        with _Child(job, token) as child:
            told, output, ended = child.watch(began + limits.seconds * _WAITING + 1.0)
    password, _, rest = told.decode(errors="replace").partition("\n")
    means, _, reason = rest.partition("\n")
    passed = secrets.compare_digest(password.encode(), token)
    if not passed:
        reason = reason or _ending(ended, limits)
    return Outcome(passed, reason, output, means, time.monotonic() - began)


def _job(program: str, test: str, limits: Limits) -> dict[str, str | int]:
    return {
        "program": program,
        "test": test,
        "cpu_seconds": max(1, math.ceil(limits.seconds)),
        "memory": limits.memory_mb << 20,
        "file": limits.file_mb << 20,
        "processes": limits.processes,
    }


def _ending(status: int | None, limits: Limits) -> str:
    if status is None:
        return f"took longer than {limits.seconds * _WAITING:g} s on the clock"
    number = -status if status < 0 else status - 128 if status > 128 else 0
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return f"used more than {limits.seconds:g} s of computing time"
    if number:
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        return f"ended by {name}"
    return "left before the tests had ended"


class _Child:
    """The confined process, with the pipes to it; nothing of it is left when the block ends."""

    def __init__(self, job: Path, token: bytes) -> None:
        self.job = job
        self.token = token

    def __enter__(self) -> _Child:
        self.verdict, verdict = os.pipe()
        password, write = os.pipe()
        os.write(write, self.token)
        os.close(write)
        # -I would also ignore the hash seed, without which sets of strings have another order in every run; with an
        # environment of our own, -P and -s isolate as much
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "HOME": str(self.job.parent)}
        try:
            self.process = subprocess.Popen(  # noqa: S603  # our own script
                [sys.executable, "-P", "-s", "-B", str(_SCRIPT), str(self.job), str(verdict), str(password)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.job.parent,
                env=environment,
                pass_fds=(verdict, password),
                start_new_session=True,
            )
        finally:
            os.close(verdict)
            os.close(password)
        return self

    def watch(self, deadline: float) -> tuple[bytes, str, int | None]:
        """What it told and printed, and its exit status (None when time ran out). Reads all, keeps little."""
        assert self.process.stdout is not None
        kept: dict[int, bytearray] = {self.verdict: bytearray(), self.process.stdout.fileno(): bytearray()}
        with selectors.DefaultSelector() as selector:
            for descriptor in kept:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for ready, _ in selector.select(left):
                    data = os.read(ready.fd, 65536)
                    if not data:
                        selector.unregister(ready.fd)
                    kept[ready.fd] += data[: max(0, _KEPT - len(kept[ready.fd]))]
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(max(0.0, deadline - time.monotonic()))
        told, printed = kept.values()
        return bytes(told), printed.decode(errors="replace"), status

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self.verdict)
