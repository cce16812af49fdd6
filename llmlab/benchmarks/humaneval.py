"""HumanEval: Python functions written from their docstring, and run against tests.

Chen et al. (2021), https://arxiv.org/abs/2107.03374. Data: openai/openai_humaneval, MIT. Definition:
lm-evaluation-harness 0.4.13, tasks/humaneval (humaneval v1.0, humaneval_instruct v4.0). Several answers per problem
(`repeats=`) give pass@k; the paper samples at temperature 0.2 for pass@1 and 0.8 for pass@100, with top_p 0.95.

What the model writes is run on this machine (`llmlab.scorers.sandbox`): `allow_code=True` says that you agree.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import ClassVar

from llmlab.benchmarks.base import Card, Query, Reply, Source
from llmlab.benchmarks.rows import RowsBenchmark, completion
from llmlab.benchmarks.sources import Row
from llmlab.benchmarks.text import cut
from llmlab.errors import NeedsConsent
from llmlab.scorers.programs import CONSENT, find_program, score_program
from llmlab.types import Message, Options, Protocol, Request, Sample, Score

_REVISION = "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"
_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
_INSTRUCTION = "Write a solution to the following problem and make sure that it passes the tests:\n```python\n{}\n```\n"


class HumanEval(RowsBenchmark):
    """The beginning of a file is continued, as a base model can; what follows the function is cut off."""

    card = Card(
        title="HumanEval",
        paper="https://arxiv.org/abs/2107.03374",
        source=f"openai/openai_humaneval@{_REVISION}",
        licence="MIT",
        chance=0.0,
        metric="pass@1",
        description="Python functions that pass their tests",
        n=164,
    )
    source: ClassVar[Source] = Source(
        "openai/openai_humaneval", "openai_humaneval", "openai_humaneval", _REVISION, "test"
    )
    most_shots = 0
    stops: ClassVar[tuple[str, ...]] = _STOPS

    def __init__(
        self,
        name: str,
        *,
        allow_code: bool = False,
        source: str | os.PathLike[str] | None = None,
        split: str | None = None,
    ) -> None:
        super().__init__(name, source=source, split=split)
        self.allow_code = allow_code

    def sample(self, row: Row) -> Sample:
        entry = row.text("entry_point")
        if not entry.isidentifier():
            raise row.wrong("entry_point", "the name of a function", entry)
        test = f"{row.text('test')}\ncheck({entry})"
        metadata = {"test": test, "entry_point": entry}
        return Sample(row.text("prompt"), row.text("canonical_solution"), id=row.text("task_id"), metadata=metadata)

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        self._consent()
        return Query(protocol, request=self.request(sample))

    def request(self, sample: Sample) -> Request:
        """What the model reads."""
        return completion(str(sample.input))

    def options(self, protocol: Protocol) -> Options:
        return Options(temperature=0.0, max_tokens=1024, stop=self.stops)

    def wording(self, protocol: Protocol) -> str:
        return "0-shot completion, run (lm-eval humaneval)"

    def score(self, sample: Sample, reply: Reply) -> Score:
        self._consent()
        return score_program(self.program(sample, reply.text), str(sample.metadata["test"]))

    def program(self, sample: Sample, text: str) -> str:
        """The file that is run: the given beginning and what the model wrote after it."""
        return str(sample.input) + cut(text, self.stops)

    def _consent(self) -> None:
        if self.allow_code is not True:
            raise NeedsConsent(
                f"{self.name} {CONSENT}: lab.benchmark({self.name!r}, allow_code=True), or "
                f"'{self.name}[allow_code=true]' where a name is written"
            )


class HumanEvalInstruct(HumanEval):
    """The problem is put as a task, and the answer is begun for the model, inside a code block.

    For models that go on with a turn begun for them: local ones, and providers that take a last assistant message.
    """

    stops: ClassVar[tuple[str, ...]] = ("```",)

    def request(self, sample: Sample) -> Request:
        begun = f"Here is the completed function:\n```python\n{sample.input}\n"
        return Request((Message("user", _INSTRUCTION.format(sample.input)), Message("assistant", begun)))

    def options(self, protocol: Protocol) -> Options:
        # the definition keeps the stops of the completion form, and cuts at the fence afterwards
        return Options(temperature=0.0, max_tokens=1024, stop=_STOPS)

    def program(self, sample: Sample, text: str) -> str:
        return str(sample.input) + cut(cut(text, _STOPS), self.stops)

    def wording(self, protocol: Protocol) -> str:
        return "0-shot, answer begun, run (lm-eval humaneval_instruct)"


class HumanEvalChat(HumanEval):
    """The same task for chat models that begin their own answer: the first code block is the program.

    A block without the function's `def` is taken as its body. A protocol of ours: not to be compared with the others.
    """

    stops: ClassVar[tuple[str, ...]] = ()

    def request(self, sample: Sample) -> Request:
        return Request.of(_INSTRUCTION.format(sample.input))

    def options(self, protocol: Protocol) -> Options:
        return Options(temperature=0.0, max_tokens=2048)

    def program(self, sample: Sample, text: str) -> str:
        found = find_program(text)
        if f"def {sample.metadata['entry_point']}" not in found:
            return str(sample.input) + found
        # the imports and helpers of the problem, which an answer often leaves out, come before its function
        before = str(sample.input).partition(f"def {sample.metadata['entry_point']}")[0]
        return f"{before}\n{found}"

    def wording(self, protocol: Protocol) -> str:
        return "0-shot chat, first code block, run"


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Probability that at least one of k answers is right, unbiased from n answers of which some are correct.

    Raises:
        ValueError: unless 0 <= correct <= n and 1 <= k <= n.

    Source: Chen et al. (2021), equation 1.

    >>> pass_at_k(10, 1, 5)
    0.5
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= correct <= n and 1 <= k <= n, got n={n}, correct={correct}, k={k}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def mean_pass_at_k(scores: Iterable[Iterable[float]], k: int) -> float:
    """pass@k of a benchmark: the mean over its items, each with the scores of its repeats (0 or 1; NaN is left out).

    Items with fewer than k scored answers are left out; NaN when none is left.

    >>> mean_pass_at_k([[1, 0], [0, 0]], k=1)
    0.25
    """
    kept = ([s for s in item if not math.isnan(s)] for item in scores)
    each = [pass_at_k(len(item), sum(s >= 1.0 for s in item), k) for item in kept if len(item) >= k]
    return math.fsum(each) / len(each) if each else math.nan
