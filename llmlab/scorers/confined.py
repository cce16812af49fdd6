"""The program that runs generated code, inside the process that `sandbox` starts for it. Standard library only.

Called as `python confined.py JOB VERDICT TOKEN`: JOB is a file with the program, the test and the limits; to the
descriptor VERDICT goes what was found; TOKEN is a descriptor from which the password of success is read, after the
tests have come to their end. It gives up rights in this order: namespaces (no network, no other processes), resource
limits, Landlock (files), and an audit hook that says no to what is left, on every system that runs Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType
from typing import Any

# denied whatever the arguments: processes, connections, native code, and looking for the hook among all objects
_DENIED = frozenset({
    "subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn",
    "os.kill", "os.killpg", "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
    "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "ctypes.dlsym", "ctypes.dlsym/handle",
    "ctypes.call_function", "gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames",
})  # fmt: skip
# events whose first arguments are paths that are about to be changed, and how many of them
_CHANGES = {
    "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.chmod": 1, "os.chown": 1, "os.truncate": 1, "os.utime": 1,
    "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.setxattr": 1, "os.removexattr": 1, "sqlite3.connect": 1,
}  # fmt: skip
_LOOKS = frozenset({"os.listdir", "os.scandir", "os.chdir"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_NEWUSER, _NEWPID, _NEWNET, _NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_PDEATHSIG, _NO_NEW_PRIVS = 1, 38


def main(job_path: str, verdict: int, token: int) -> None:
    """Run the job and report; does not return."""
    with open(job_path, encoding="utf-8") as file:  # noqa: PTH123  # pathlib is not worth its import here
        job = json.load(file)
    os.unlink(job_path)  # noqa: PTH108
    folder = os.path.realpath(os.path.dirname(job_path))  # noqa: PTH120
    try:
        programs = [compile(job["program"], "<program>", "exec"), compile(job["test"], "<test>", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        _report(verdict, "", _words(error))
    isolated = _namespaces()
    roots = _readable()
    _limits(job)
    locked = _landlock(roots, folder)
    network = "no network (own namespace)" if isolated else "sockets blocked in the interpreter"
    means = f"{network}; files {'confined by Landlock' if locked else 'confined in the interpreter'}"
    module = ModuleType("program")
    sys.modules["program"] = sys.modules["__main__"] = module
    sys.argv = ["program"]
    sys.addaudithook(_hook(tuple(os.path.realpath(root) for root in roots), folder))
    _run(programs, module.__dict__, verdict, token, means)


def _run(programs: Sequence[CodeType], names: dict[str, Any], verdict: int, token: int, means: str) -> None:
    # looked up now: the program may put others in their place, so that its tests are never run or reported
    execute, read, write, leave, words = exec, os.read, os.write, os._exit, _words
    reason = ""
    try:
        for program in programs:
            execute(program, names)
    except BaseException as error:  # SystemExit too: leaving before the tests have ended is no success
        reason = words(error)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    if reason:
        write(verdict, f"\n{means}\n{reason}".encode(errors="replace"))
    else:
        write(verdict, read(token, 64) + f"\n{means}\n".encode())
    leave(0)


def _report(verdict: int, means: str, reason: str) -> None:
    os.write(verdict, f"\n{means}\n{reason}".encode(errors="replace"))
    os._exit(0)


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500].rstrip(": ")
    except BaseException:  # its __str__ is the program's
        return "an exception without a text"


# -- what is given up -------------------------------------------------------------------------------------------


def _namespaces() -> bool:
    """Leave the network and the other processes behind, where the system lets an ordinary user do so.

    The end of the namespace's first process is the end of all others in it, and it ends with the one that started it.
    """
    libc = _libc()
    if libc is None:
        return False
    libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if libc.unshare(_NEWUSER | _NEWNET | _NEWPID | _NEWIPC) != 0:
        return False
    # the first process of a namespace does not heed the signal that ends computing time, the second does
    for _ in range(2):
        _continue_in_child()
        libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return True


def _continue_in_child() -> None:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _limits(job: dict[str, Any]) -> None:
    seconds, memory = int(job["cpu_seconds"]), int(job["memory"])
    for kind, limit in {
        "RLIMIT_CPU": seconds, "RLIMIT_AS": memory, "RLIMIT_FSIZE": int(job["file"]), "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 64, "RLIMIT_NPROC": int(job["processes"]),
    }.items():  # fmt: skip
        number = getattr(resource, kind, None)
        if number is None:  # not every system counts everything
            continue
        _, hard = resource.getrlimit(number)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        # the system kills at the hard limit, which a program cannot catch
        most = limit + 1 if kind == "RLIMIT_CPU" and hard == resource.RLIM_INFINITY else limit
        with contextlib.suppress(OSError, ValueError):  # macOS refuses RLIMIT_AS
            resource.setrlimit(number, (limit, most))


def _readable() -> list[str]:
    """Where a program may read: Python itself, its packages, the system's libraries. Not the user's files."""
    system = ["/usr", "/lib", "/lib64", "/System/Library", "/opt/homebrew", "/etc/ld.so.cache", "/etc/localtime"]
    devices = ["/dev/null", "/dev/urandom", "/dev/random", "/dev/zero"]
    python = [sys.prefix, sys.base_prefix]
    inside = tuple(os.path.realpath(p) + os.sep for p in python)
    # an editable install puts a project folder on the path, with all that lies in it
    sys.path[:] = [p for p in sys.path if (os.path.realpath(p) + os.sep).startswith(inside)]
    return [p for p in (*system, *devices, *python) if os.path.exists(p)]  # noqa: PTH110


def _landlock(roots: Sequence[str], folder: str) -> bool:
    """Have Linux (5.13 and later) deny all files but those, for good.

    Source: https://docs.kernel.org/userspace-api/landlock.html
    """
    libc = _libc()
    if libc is None:
        return False
    import ctypes

    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    everything = (1 << {1: 13, 2: 14}.get(version, 15)) - 1
    looking, file_looking = 0b1100, 0b0100
    handled = (ctypes.c_uint64 * 1)(everything)
    ruleset = libc.syscall(444, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    for path in (*roots, folder):
        parent = os.open(path, getattr(os, "O_PATH", 0) | os.O_CLOEXEC)
        # no execute right, not even in its own folder
        rights = (everything & ~1) if path == folder else looking if os.path.isdir(path) else file_looking  # noqa: PTH112
        rights |= 0b10 if path == "/dev/null" else 0
        rule = rights.to_bytes(8, sys.byteorder) + parent.to_bytes(4, sys.byteorder)
        libc.syscall(445, ruleset, 1, ctypes.c_char_p(rule), 0)
        os.close(parent)
    locked: bool = libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and libc.syscall(446, ruleset, 0) == 0
    os.close(ruleset)
    return locked


def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes
    except ImportError:
        return None
    return ctypes.CDLL(None, use_errno=True)


def _hook(roots: tuple[str, ...], folder: str) -> Callable[[str, tuple[Any, ...]], None]:
    # everything it needs is closed over: what a program changes in this module or in os does not reach it
    realpath, decode = os.path.realpath, os.fsdecode
    denied, changes, looks, writing = _DENIED, _CHANGES, _LOOKS, _WRITING
    readable = (*roots, folder)

    def beneath(path: Any, places: tuple[str, ...]) -> bool:
        if path is None:  # the current folder
            return True
        if isinstance(path, int):  # already open
            return True
        full = realpath(decode(path))
        return any(full == place or full.startswith(f"{place}/") for place in places)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in denied or (event == "ctypes.dlopen" and arguments[0] is not None):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & writing) if isinstance(flags, int) else any(c in str(mode) for c in "wax+")
            if writes and not beneath(path, (folder, "/dev/null")):
                raise PermissionError(f"writing to {path!r} is not allowed here")
            if not beneath(path, readable):
                raise PermissionError(f"reading {path!r} is not allowed here")
        elif event in looks and arguments and not beneath(arguments[0], readable):
            raise PermissionError(f"{event} of {arguments[0]!r} is not allowed here")
        elif event in changes and not all(beneath(path, (folder,)) for path in arguments[: changes[event]]):
            raise PermissionError(f"{event} outside the working folder is not allowed here")

    return hook


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
