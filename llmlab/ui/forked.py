"""What a forked process does to be a kernel; light, as the server imports it too."""

from __future__ import annotations

import os


def kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Be a kernel, in a process that was just forked."""
    os.setsid()  # Ctrl-C in the terminal is for the server, which then ends its kernels
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from ipykernel.kernelapp import IPKernelApp

    options = {
        "IPKernelApp.parent_handle": os.getppid(),  # a kernel whose server was killed sees it, and ends
        "HistoryManager.enabled": False,
    }
    IPKernelApp.launch_instance([*arguments, *(f"--{name}={value}" for name, value in options.items())])
