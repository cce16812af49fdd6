"""BIG-Bench Hard: 27 kinds of puzzles that need several steps.

Suzgun et al. (2022), https://arxiv.org/abs/2210.09261. Data and prompts: suzgunmirac/BIG-Bench-Hard, MIT; the rows also
as SaylorTwift/bbh on the hub. Definition: lm-evaluation-harness 0.4.13, tasks/bbh (cot_fewshot v4.0, fewshot v2.0),
three fixed examples per task. The score is the mean over all items; items of one task are not independent, so each task
is a cluster. The multiple-choice form of Open LLM Leaderboard v2 is another benchmark.

The examples are files of the paper's repository, not part of this library: in a folder they are
`bbh/cot_prompts/<task>.txt`; beside rows of the hub they are fetched at a pinned commit, once.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from llmlab import settings
from llmlab.benchmarks.base import Card, Query, Reply, Source
from llmlab.benchmarks.rows import RowsBenchmark, completion
from llmlab.benchmarks.sources import Row
from llmlab.benchmarks.text import cut, extract
from llmlab.errors import DataError, UnknownName
from llmlab.types import Options, Protocol, Sample, Score, digest

_REVISION = "b5306be6f827cfafbb545ff5a51f96916029b0fd"
_PROMPTS = (
    "https://raw.githubusercontent.com/suzgunmirac/BIG-Bench-Hard/9ee07bd481feebf959a6b59d61ea57bdcf30964d/cot-prompts"
)
TASKS = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages",
    "formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects",
    "logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation",
    "multistep_arithmetic_two", "navigate", "object_counting", "penguins_in_a_table",
    "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks",
    "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies",
    "word_sorting",
)  # fmt: skip
_STEPS = "A: Let's think step by step."
# the last character is left out: normally the full stop
_ANSWER = r"(?<=the answer is )(.*)(?=.)"


class Example(NamedTuple):
    """A worked example: the question, and the steps that end in "the answer is ..."."""

    question: str
    reasoning: str


class BBH(RowsBenchmark):
    """Three chains of thought per task, then the question; read is what follows "the answer is".

    `tasks` names one task or several; None is all 27.
    """

    card = Card(
        title="BIG-Bench Hard",
        paper="https://arxiv.org/abs/2210.09261",
        source=f"SaylorTwift/bbh@{_REVISION}",
        licence="MIT",
        metric="exact_match",
        description="27 kinds of puzzles, three chains of thought",
        n=6511,
    )
    source: ClassVar[Source] = Source("SaylorTwift/bbh", "bbh", TASKS[0], _REVISION, "test")
    usual_shots = 3
    most_shots = 3
    # any capital Q ends the answer: it stands for the beginning of the next question
    stops: ClassVar[tuple[str, ...]] = ("</s>", "Q", "\n\n")

    def __init__(
        self,
        name: str,
        *,
        tasks: str | Sequence[str] | None = None,
        shots: int | None = None,
        source: str | os.PathLike[str] | None = None,
        split: str | None = None,
    ) -> None:
        super().__init__(name, shots=shots, source=source, split=split)
        chosen = (tasks,) if isinstance(tasks, str) else tuple(tasks or ())
        for task in chosen:
            if task not in TASKS:
                raise UnknownName.among(f"task of {name}", task, TASKS)
        self.tasks = chosen or TASKS
        if chosen:
            self.name = f"{self.name}[tasks={'+'.join(chosen)}]".replace("][", ",")

    def rows(self, split: str) -> Iterator[Row]:
        for task in self.tasks:
            for row in self.place.rows(self.source, task, split):
                yield Row({**row.data, "task": task}, row.where)

    def known_length(self) -> int | None:
        return super().known_length() if self.tasks == TASKS and self.place.folder is None else None

    def sample(self, row: Row) -> Sample:
        task, question, target = row.text("task"), row.text("input"), row.text("target")
        return Sample(question, target, id=f"{task}/{digest(question, target)}", tags=(task,), cluster=task)

    def query(self, sample: Sample, protocol: Protocol) -> Query:
        return Query(protocol, request=completion(self.prefix(sample) + self.ask(str(sample.input))))

    def prefix(self, sample: Sample) -> str:
        description, examples = self._prompts[sample.cluster]
        return f"{description}\n\n" + "".join(f"{self.worked(e)}\n\n" for e in examples[: self.shots])

    def ask(self, question: str) -> str:
        """The question in this benchmark's words."""
        return f"Q: {question}\n{_STEPS}\n"

    def worked(self, example: Example) -> str:
        """A worked example in this benchmark's words."""
        return self.ask(example.question) + example.reasoning

    def options(self, protocol: Protocol) -> Options:
        return Options(temperature=0.0, max_tokens=1024, stop=self.stops)

    def wording(self, protocol: Protocol) -> str:
        return f"{self.shots}-shot chain of thought (lm-eval bbh_cot_fewshot)"

    def read(self, text: str) -> str | None:
        """The answer in a generated text, None when there is none."""
        return extract(_ANSWER, text)

    def score(self, sample: Sample, reply: Reply) -> Score:
        answer = self.read(cut(reply.text, self.stops))
        if answer is None:
            return Score(0.0, None, 'no "the answer is ..."', {"exact_match": 0.0}, parsed=False)
        right = float(answer == sample.target)
        return Score(right, answer, metrics={"exact_match": right})

    @cached_property
    def _prompts(self) -> dict[str, tuple[str, list[Example]]]:
        # all tasks at once: what is missing is reported before anything is asked
        return {task: read_prompt(self._prompt_file(task)) for task in self.tasks}

    def _prompt_file(self, task: str) -> Path:
        if self.place.folder is None:
            return _fetched(task)
        path = self.place.folder / self.source.folder / "cot_prompts" / f"{task}.txt"
        if not path.is_file():
            raise DataError(
                f"no file {path}: the examples of {self.name} are the files of the folder cot-prompts in "
                "https://github.com/suzgunmirac/BIG-Bench-Hard; put them there, or use source='hub' with a connection"
            )
        return path


class BBHDirect(BBH):
    """The same examples without their steps: the answer comes at once.

    Spaces around the answer do not count (in lm-eval the space after "A:" can make a right answer wrong).
    """

    card = Card(
        title="BIG-Bench Hard",
        paper="https://arxiv.org/abs/2210.09261",
        source=f"SaylorTwift/bbh@{_REVISION}",
        licence="MIT",
        metric="exact_match",
        description="27 kinds of puzzles, answered at once",
        n=6511,
    )

    def ask(self, question: str) -> str:
        return f"Q: {question}\nA:"

    def worked(self, example: Example) -> str:
        return f"{self.ask(example.question)} {extract(_ANSWER, example.reasoning)}"

    def options(self, protocol: Protocol) -> Options:
        return Options(temperature=0.0, max_tokens=256, stop=self.stops)

    def read(self, text: str) -> str | None:
        return text.strip() or None

    def wording(self, protocol: Protocol) -> str:
        return f"{self.shots}-shot, answered at once (lm-eval bbh_fewshot)"


def read_prompt(path: Path) -> tuple[str, list[Example]]:
    """The description of a task and its examples, out of a file of the paper's repository.

    Raises:
        DataError: for a file of another form.
    """
    # a warning not to train on it comes first, above a line of dashes
    text = path.read_text(encoding="utf-8").partition("-----\n")[2].rstrip("\n")
    description, *questions = re.split(r"\n\nQ: ", text)
    # in one task the steps go on in the same line
    parts = [re.split(rf"\n{re.escape(_STEPS)}\s+", question, maxsplit=1) for question in questions]
    if len(parts) != 3 or any(len(part) != 2 or extract(_ANSWER, part[1]) is None for part in parts):
        raise DataError(f"{path} is not a prompt of BIG-Bench Hard: three examples 'Q: ...', '{_STEPS}' are expected")
    return description, [Example(*part) for part in parts]


@cache
def _fetched(task: str) -> Path:
    path = settings.home() / "benchmarks" / "bbh" / "cot_prompts" / f"{task}.txt"
    if path.is_file():
        return path
    try:
        with urllib.request.urlopen(f"{_PROMPTS}/{task}.txt", timeout=30) as response:  # noqa: S310  # https, fixed
            content = response.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(
            f"the examples of bbh could not be fetched from {_PROMPTS}/{task}.txt ({error}). Use one of: a connection; "
            f"the files of that folder in {path.parent}; or source='folder' with bbh/<task>/test.jsonl and "
            "bbh/cot_prompts/<task>.txt"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)  # another process never sees half a file
    return path
