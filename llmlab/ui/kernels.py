"""Kernels of the pages: forked from a process that has imported everything, and ended soon after their page."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager

from llmlab.ui.forked import kernel

_STARTING = timedelta(minutes=3)
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
"""Whether kernels can be forked: not on Windows, where each imports everything again."""


def warm_up() -> None:
    """Begin to import what kernels need, in the process that they are forked from; returns at once."""
    if FORKS:
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload(["llmlab.ui.warm"])
        forkserver.ensure_running()


class Process:
    """A forked kernel, in the words of `subprocess.Popen` that a provisioner uses."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        make = multiprocessing.get_context("forkserver").Process
        self._process = make(target=kernel, args=(arguments, environment, folder))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def plain(environment: Mapping[str, str]) -> dict[str, str]:
    """As strings and nothing more: some of Voilà's names are members of its own enumeration.

    To read one, each fork would import Voilà, which takes four seconds.
    """
    return {str.__str__(name): str.__str__(value) for name, value in environment.items()}


class Forked(LocalProvisioner):
    """Starts a kernel by a fork."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        folder = str(kwargs.get("cwd") or Path.cwd())
        given = (cmd[cmd.index("-f") :], plain(kwargs.get("env") or os.environ), folder)
        # the first fork waits until all is imported
        self.process: Any = await asyncio.to_thread(Process, *given)
        self.pid = self.pgid = self.process.pid
        self.cwd = folder
        return self.connection_info


class Kernel(ServerKernelManager):
    """A kernel that is forked."""

    async def _async_pre_start_kernel(self, **options: Any) -> tuple[list[str], dict[str, Any]]:
        if self.provisioner is None:
            self.kernel_id = self.kernel_id or options["kernel_id"]
            self.provisioner = Forked(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**options)


class Kernels(AsyncMappingKernelManager):
    """Kernels that work in the folder where the command was given: paths and its `.env` mean the same there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._seen: set[str] = set()
        if FORKS:
            self.kernel_manager_class = f"{__name__}.Kernel"

    def notify_connect(self, kernel_id: str) -> None:
        super().notify_connect(kernel_id)  # type: ignore[no-untyped-call]
        self._seen.add(kernel_id)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """As it is there, but a page that nobody sees yet gets the time to start."""
        kernel: Any = self.get_kernel(kernel_id)
        idle = utcnow() - kernel.last_activity
        if kernel_id in self._seen or idle > _STARTING:
            await super().cull_kernel_if_idle(kernel_id)  # type: ignore[no-untyped-call]

    def cwd_for_path(self, path: str, **_: Any) -> str:
        return str(Path.cwd())
