"""What generated code cannot do, and that only a test that came to its end counts as passed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmlab import scorers
from llmlab.errors import DataError, NeedsConsent
from llmlab.scorers import sandbox
from llmlab.scorers.programs import find_program
from llmlab.scorers.sandbox import Limits, Outcome, run
from llmlab.types import Sample

pytestmark = pytest.mark.skipif(os.name != "posix", reason="generated code is confined on POSIX systems only")


def ran(program: str, test: str = "", limits: Limits | None = None) -> Outcome:
    return run(program, test, limits)


# -- the verdict ---------------------------------------------------------------------------------------------


def test_right_program_passes_and_wrong_one_says_why() -> None:
    assert ran("x = 1", "assert x == 1").passed
    wrong = ran("x = 2", "assert x == 1, 'x should be 1'")
    assert not wrong.passed
    assert wrong.reason == "AssertionError: x should be 1"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
        ("raise SystemExit", "SystemExit"),
        ("import os\nos._exit(0)", "left before the tests had ended"),
        ("quit()", "SystemExit: None"),
        ("print('passed')\nraise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(:", "SyntaxError"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E", "an exception without a text"),
        ("import os\nos.abort()", "ended by SIGABRT"),
        ("def f(): f()\nf()", "RecursionError"),
        ("input()", "EOFError"),
    ],
)
def test_leaving_before_the_tests_end_is_no_success(program: str, reason: str) -> None:
    outcome = ran(program, "assert False")
    assert not outcome.passed
    assert outcome.reason.startswith(reason)


@pytest.mark.parametrize(
    "program",
    [
        "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None",
        "import os\nos.read = lambda *a: b''\nos.write = lambda *a: 0",
        "import sys, os\nsys.exit = os._exit = lambda *a: None",
        "import atexit\natexit.register(print, 'passed')",
        "import sys\nsys.modules['__main__'].__dict__.update(_run=None, exec=lambda *a: None)",
        "def check(*a): pass\nimport unittest\nunittest.TestCase.run = lambda *a: None",
        "import os\nos.closerange(3, 100)",
        "import builtins\nbuiltins.AssertionError = type('Quiet', (Exception,), {})",
        "import sys\nsys.settrace(lambda *a: None)\nsys.setrecursionlimit(50)",
    ],
)
def test_tampering_does_not_forge_success(program: str) -> None:
    assert not ran(f"{program}\n", "assert 1 == 2").passed


def test_writing_to_every_descriptor_forges_nothing() -> None:
    program = (
        "import os\n"
        "for fd in range(1, 60):\n"
        "    try: os.write(fd, b'0' * 32 + b'\\npassed\\n')\n"
        "    except OSError: pass\n"
    )
    assert not ran(program + "os._exit(0)").passed
    assert not ran(program, "assert False").passed


# -- limits --------------------------------------------------------------------------------------------------


def test_endless_loop_is_ended_by_its_computing_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_WAITING", 60.0)  # on a busy machine a second of computing takes many
    outcome = ran("while True: pass", limits=Limits(seconds=1))
    assert outcome.reason == "used more than 1 s of computing time"


def test_sleeping_program_is_ended_by_the_clock() -> None:
    began = time.monotonic()
    outcome = ran("import time\ntime.sleep(60)", limits=Limits(seconds=0.1))
    assert outcome.reason == "took longer than 0.5 s on the clock"
    assert time.monotonic() - began < 10


def test_program_that_leaves_its_group_is_ended_too(tmp_path: Path) -> None:
    outcome = ran("import os, time\nos.setsid()\ntime.sleep(60)", limits=Limits(seconds=0.1))
    assert "on the clock" in outcome.reason
    assert outcome.seconds < 10


def test_memory_is_bounded() -> None:
    assert ran("x = bytearray(2 << 30)").reason == "MemoryError"
    assert ran("x = bytearray(100 << 20)", limits=Limits(memory_mb=256)).passed
    assert ran("x = bytearray(100 << 20)", limits=Limits(memory_mb=100)).reason == "MemoryError"


def test_huge_output_is_read_but_not_kept() -> None:
    outcome = ran("for _ in range(20): print('x' * 1_000_000)", "assert True")
    assert outcome.passed
    assert len(outcome.output) == 10_000


def test_file_size_is_bounded() -> None:
    program = "with open('big', 'wb') as f:\n    for _ in range(5): f.write(bytes(1 << 20))"
    assert ran(program, limits=Limits(file_mb=8)).passed
    assert not ran(program, limits=Limits(file_mb=2)).passed


@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['true'])",
        "import os\nos.system('true')",
        "import multiprocessing as m\nm.get_context('fork').Process(target=print).start()",
        "import os\nos.execv('/bin/true', ['true'])",
        "import os, sys\nos.posix_spawn(sys.executable, [sys.executable], {})",
    ],
)
def test_other_processes_cannot_be_started(program: str) -> None:
    assert "is not allowed here" in ran(program).reason


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asked of the kernel, which is Linux's to offer")
def test_program_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    beat = "import time\nwhile True: open('beat', 'w').close(); time.sleep(0.05)"
    starter = f"import tempfile\ntempfile.tempdir = {str(tmp_path)!r}\n"
    starter += f"from llmlab.scorers.sandbox import Limits, run\nrun({beat!r}, '', Limits(20))"
    with subprocess.Popen([sys.executable, "-c", starter]) as process:
        _until(lambda: any(tmp_path.rglob("beat")))
        process.kill()
    (found,) = tmp_path.rglob("beat")
    _until(lambda: time.time() - found.stat().st_mtime > 1.0)


def _until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- what is out of reach ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
        "import socket\nsocket.socket().connect(('127.0.0.1', 9))",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
        "import socket\nsocket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
        "import socket\nsocket.gethostbyname('localhost')",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/')",
    ],
)
def test_network_is_out_of_reach(program: str) -> None:
    outcome = ran(program)
    assert not outcome.passed
    assert "not allowed here" in outcome.reason
    assert outcome.means.startswith(("no network (own namespace)", "sockets blocked in the interpreter"))


def test_environment_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    outcome = ran("import os\nprint(dict(os.environ))")
    assert outcome.passed
    assert "HOME" in outcome.output
    assert "secret-key" not in outcome.output


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize(
    "process", ["{os.getppid()}", "1", "self/../" + str(os.getpid())], ids=["parent", "init", "sibling"]
)
def test_environment_of_other_processes_is_out_of_reach(process: str) -> None:
    assert "not allowed here" in ran(f"import os\nprint(open(f'/proc/{process}/environ').read())").reason


def test_files_outside_the_working_folder_cannot_be_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("alive")
    for program in (
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"import os\nos.remove({str(victim)!r})",
        f"import os\nos.open({str(victim)!r}, os.O_WRONLY | os.O_TRUNC)",
        f"import os\nos.symlink({str(tmp_path)!r}, 'way'); open('way/new', 'w')",
        f"import os\nos.rename({str(victim)!r}, 'mine')",
        f"import shutil\nshutil.rmtree({str(tmp_path)!r})",
        f"import os\nos.mkdir({str(tmp_path / 'folder')!r})",
        f"import sqlite3\nsqlite3.connect({str(tmp_path / 'db')!r}).execute('create table t (a)')",
    ):
        assert not ran(program).passed, program
    assert [p.name for p in tmp_path.iterdir()] == ["victim"]
    assert victim.read_text() == "alive"


def test_your_files_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=secret-key")
    for program in (
        f"print(open({str(tmp_path / '.env')!r}).read())",
        f"import os\nprint(os.listdir({str(tmp_path)!r}))",
        f"import pathlib\nprint(pathlib.Path({str(tmp_path / '.env')!r}).read_bytes())",
    ):
        outcome = ran(program)
        assert "not allowed here" in outcome.reason
        assert "secret" not in outcome.output


def test_own_folder_is_free_and_empty_at_first() -> None:
    program = (
        "import os, tempfile\n"
        "found = os.listdir()\n"
        "open('a', 'w').write('1'); os.mkdir('d'); os.rename('a', 'd/b'); text = open('d/b').read()\n"
        "os.remove('d/b'); os.rmdir('d')"
    )
    assert ran(program, "assert (found, text) == ([], '1')").passed


def test_native_code_is_out_of_reach() -> None:
    assert "not allowed" in ran("import ctypes\nctypes.CDLL(None).system(b'true')").reason


def test_ordinary_libraries_work() -> None:
    program = (
        "import asyncio, collections, dataclasses, math, random, re, threading, typing\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import numpy as np\n"
        "@dataclasses.dataclass\nclass P:\n    x: 'int' = 1\n"
        "N = collections.namedtuple('N', 'a b')\n"
        "async def one(): return 1\n"
        "found = [asyncio.run(one()), *ThreadPoolExecutor(2).map(abs, [-2]), P().x, N(1, 2).b, np.eye(3).sum()]\n"
    )
    outcome = ran(program, "assert found == [1, 2, 1, 2, 3.0]", Limits(5))
    assert outcome.passed, outcome


def test_the_same_program_always_ends_the_same_way() -> None:
    program = "print(list({'ant', 'bee', 'cow', 'dog', 'eel', 'fox'}), hash('x'))"
    assert len({ran(program).output for _ in range(3)}) == 1


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    descriptors = len(list(Path("/dev/fd").iterdir()))
    for program in ("x = 1", "open('left', 'w').write('x')", "import os\nos._exit(1)"):
        ran(program)
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/dev/fd").iterdir())) == descriptors


@pytest.fixture
def interpreter_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose kernel offers nothing: macOS, or a container that forbids namespaces and Landlock."""
    script = tmp_path / "without.py"
    load = f"import runpy, sys\nnames = runpy.run_path({str(sandbox._SCRIPT)!r})\n"
    call = (
        "main = names['main']\nmain.__globals__['_libc'] = lambda: None\nmain(sys.argv[1], *map(int, sys.argv[2:]))\n"
    )
    script.write_text(load + call)
    monkeypatch.setattr(sandbox, "_SCRIPT", script)


def test_interpreter_alone_confines_too(interpreter_alone: None, tmp_path: Path) -> None:
    passed = ran("import socket, subprocess\nopen('a', 'w').close()", "assert True")
    assert passed.passed, passed
    assert passed.means == "sockets blocked in the interpreter; files confined in the interpreter"
    for program in (
        "import os\nos.fork()",
        "import socket\nsocket.socket().connect(('127.0.0.1', 9))",
        "import socket\nsocket.gethostbyname('localhost')",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"open({__file__!r})",
        "import os\nopen(f'/proc/{os.getppid()}/environ')",
        "import os\nos.kill(os.getppid(), 0)",
    ):
        assert "not allowed here" in ran(program).reason, program


def test_interpreter_alone_keeps_the_limits(interpreter_alone: None) -> None:
    assert not ran("import os\nos.setsid()\nimport time\ntime.sleep(60)", limits=Limits(0.1)).passed
    assert not ran("import os\nos._exit(0)").passed
    if sys.platform.startswith("linux"):  # others do not count address space
        assert ran("x = bytearray(2 << 30)").reason == "MemoryError"


# -- the scorer ----------------------------------------------------------------------------------------------


def test_scorer_needs_consent() -> None:
    with pytest.raises(NeedsConsent, match=r"scorers.code\(..., allow_code=True\)"):
        scorers.code("assert True")
    with pytest.raises(NeedsConsent):
        scorers.parse("code:allow_code=true")  # a file cannot consent for its reader


def test_scorer_runs_the_first_block_of_an_answer() -> None:
    score = scorers.code("assert double(4) == 8", allow_code=True)
    answer = "Like this:\n```python\ndef double(x):\n    return 2 * x\n```\nor\n```\nraise ValueError\n```"
    verdict = score(answer, Sample("Double it."))
    assert (verdict.value, verdict.answer) == (1.0, "def double(x):\n    return 2 * x\n")
    assert verdict.explanation is not None
    assert "[" in verdict.explanation
    assert score("I cannot.", Sample("Double it.")).value == 0.0


def test_test_may_come_with_the_sample() -> None:
    score = scorers.code(allow_code=True)
    assert score("x = 1", Sample("?", metadata={"test": "assert x == 1"})).value == 1.0
    with pytest.raises(DataError, match=r"has no test to run: give scorers.code\(test='assert …'\)"):
        score("x = 1", Sample("?"))


def test_identity_tells_what_the_verdict_depends_on() -> None:
    identity = scorers.code("assert True", timeout=2, allow_code=True).identity()
    assert identity == {"scorer": "code", "test": "assert True", "timeout": 2, "memory_mb": 1024}


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("x = 1", "x = 1"),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```py\r\nx = 1\n```", "x = 1\n"),
        ("```Python3\nx = 1", "x = 1"),
        ("Say:\n```\nx = 1\n```\n```\ny\n```", "x = 1\n"),
        ("", ""),
    ],
)
def test_program_is_found(text: str, program: str) -> None:
    assert find_program(text) == program
