"""A Postgres server in a temporary folder, for tests and timings."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class NoServer(Exception):
    """Why there is no Postgres here."""


def binary(name: str) -> str:
    """The path of a program of Postgres, wherever Debian put it."""
    found = shutil.which(name)
    folders = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if found is None and not folders:
        raise NoServer(f"no Postgres server here ({name}); install Debian's package postgresql")
    return str(folders[-1]) if folders else str(found)


@contextmanager
def postgres(*settings: str) -> Iterator[str]:
    """The URL of a server that runs as long as the block does, without the name of a database.

    Args:
        settings: of the server, such as "fsync=off".
    """
    initdb, server, ready = binary("initdb"), binary("postgres"), binary("pg_isready")
    user = _other_user()
    # not below pytest's folder, which other users cannot enter; short, because a socket's path may not be long
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        if user:
            os.chown(folder, user["user"], user["group"])
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": folder, **user}
        command = [initdb, "-D", f"{folder}/data", "-U", "lab", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(command, check=True, **quiet)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["-k", folder, "-p", str(port)]
        for one in ("listen_addresses=127.0.0.1", *settings):
            options += ["-c", one]
        with Path(folder, "log").open("wb") as log:
            running = subprocess.Popen([server, "-D", f"{folder}/data", *options], **{**quiet, "stdout": log})
            try:
                for _ in range(300):
                    if running.poll() is not None:
                        raise NoServer(Path(folder, "log").read_text())
                    asked = [ready, "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
                    if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
                        break
                    time.sleep(0.05)
                yield f"postgresql://lab:secret@127.0.0.1:{port}"
            finally:
                running.terminate()
                running.wait(60)


def make_database(server: str, name: str) -> str:
    """Make an empty database; gives its URL."""
    import psycopg

    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"{server}/{name}"


def _other_user() -> dict[str, Any]:
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise NoServer("Postgres does not run as root, and there is no user postgres or nobody")
