"""The scorer that runs code: the answer is a program, and it passes its test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from llmlab.errors import DataError, NeedsConsent
from llmlab.scorers.base import Rule, shorten
from llmlab.scorers.sandbox import Limits, run
from llmlab.types import Sample, Score

_FENCED = re.compile(r"```[ \t]*(?:python|py)?[0-9.]*[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Code(Rule):
    """The program in the answer passes a test; `code` makes it, with consent."""

    name: ClassVar[str] = "code"
    test: str | None = None
    timeout: float = Limits.seconds
    memory_mb: int = Limits.memory_mb

    def __call__(self, text: str, sample: Sample) -> Score:
        test = self.test if self.test is not None else sample.metadata.get("test")
        if not isinstance(test, str):
            raise DataError(
                f"sample {sample.id} has no test to run: give scorers.code(test='assert …'), or each row a field 'test'"
            )
        return score_program(find_program(text), test, Limits(self.timeout, self.memory_mb))


def code(
    test: str | None = None,
    timeout: float = Limits.seconds,
    memory_mb: int = Limits.memory_mb,
    *,
    allow_code: bool = False,
) -> Code:
    """The program in the answer runs, and then `test` does, without an exception.

    The first fenced block of the answer is the program, or all of it where there is none. It runs in a process of its
    own, with limits and without network, keys or your files (`llmlab.scorers.sandbox`). That stops accidents, not a
    determined attacker: in a program written to deceive, success can be forged and the sandbox left.

    Args:
        test: Python that raises when the program is wrong, normally `assert` lines; it sees the program's names. None
            takes `sample.metadata["test"]`.
        timeout: seconds of computing time; on the clock five times as long.
        memory_mb: address space in MiB.
        allow_code: your consent to running what models write on this machine.

    Raises:
        NeedsConsent: without allow_code=True.

    >>> code("assert double(4) == 8", allow_code=True)("def double(x): return 2 * x", Sample("?")).value
    1.0
    """
    if allow_code is not True:
        raise NeedsConsent(f"scorers.code {CONSENT}: scorers.code(..., allow_code=True)")
    return Code(test, timeout, memory_mb)


CONSENT = (
    "runs code that a model wrote on this machine (in a process with limits, without network and without access to "
    "your files, which is no protection from a determined attacker); say that you agree"
)


def find_program(text: str) -> str:
    r"""The first fenced block of an answer, all of it when there is none.

    >>> find_program("Sure:\n```python\nx = 1\n```\nIt sets x.")
    'x = 1\n'
    """
    found = _FENCED.search(text)
    return found[1] if found else text


def score_program(program: str, test: str, limits: Limits | None = None) -> Score:
    """The verdict of a test on a program; why it failed and how it was confined are in the explanation."""
    outcome = run(program, test, limits)
    found = "passed" if outcome.passed else outcome.reason
    printed = f"; printed {shorten(outcome.output)!r}" if outcome.output and not outcome.passed else ""
    means = f" [{outcome.means}]" if outcome.means else ""
    return Score(float(outcome.passed), shorten(program, 2000), f"{found}{printed}{means}")
