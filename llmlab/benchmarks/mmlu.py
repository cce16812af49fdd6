"""MMLU: four-way questions on 57 subjects, from elementary mathematics to professional law.

Hendrycks et al. (2021), https://arxiv.org/abs/2009.03300. Data: cais/mmlu, MIT. Chance 25 %. Definition:
lm-evaluation-harness 0.4.13, tasks/mmlu/default, 5-shot (model cards quote 5; a bare run of that tool takes 0). The
generative protocol is that of simple-evals (mmlu_eval.py). The score is the mean over all items; items of one subject
are not independent, so each subject is a cluster.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar

from llmlab.benchmarks.base import Card, Source
from llmlab.benchmarks.choice import LETTERS, MultipleChoice
from llmlab.benchmarks.sources import Row
from llmlab.errors import DataError, UnknownName
from llmlab.types import Options, Sample

_REVISION = "c30699e8356da336a370243923dbaf21066bb9fe"

CATEGORIES: dict[str, tuple[str, ...]] = {
    "stem": (
        "abstract_algebra", "anatomy", "astronomy", "college_biology", "college_chemistry", "college_computer_science",
        "college_mathematics", "college_physics", "computer_security", "conceptual_physics", "electrical_engineering",
        "elementary_mathematics", "high_school_biology", "high_school_chemistry", "high_school_computer_science",
        "high_school_mathematics", "high_school_physics", "high_school_statistics", "machine_learning",
    ),
    "humanities": (
        "formal_logic", "high_school_european_history", "high_school_us_history", "high_school_world_history",
        "international_law", "jurisprudence", "logical_fallacies", "moral_disputes", "moral_scenarios", "philosophy",
        "prehistory", "professional_law", "world_religions",
    ),
    "social_sciences": (
        "econometrics", "high_school_geography", "high_school_government_and_politics", "high_school_macroeconomics",
        "high_school_microeconomics", "high_school_psychology", "human_sexuality", "professional_psychology",
        "public_relations", "security_studies", "sociology", "us_foreign_policy",
    ),
    "other": (
        "business_ethics", "clinical_knowledge", "college_medicine", "global_facts", "human_aging", "management",
        "marketing", "medical_genetics", "miscellaneous", "nutrition", "professional_accounting",
        "professional_medicine", "virology",
    ),
}  # fmt: skip
_CATEGORY_OF = {subject: category for category, subjects in CATEGORIES.items() for subject in subjects}


class MMLU(MultipleChoice):
    """All subjects, or those named in `subjects` (a subject, a category, or several).

    Shots are the first rows of the subject's development split.
    """

    card = Card(
        title="MMLU",
        paper="https://arxiv.org/abs/2009.03300",
        source=f"cais/mmlu@{_REVISION}",
        licence="MIT",
        chance=0.25,
        metric="acc",
        description="Multiple-choice questions on 57 subjects",
        n=14042,
    )
    source: ClassVar[Source] = Source("cais/mmlu", "mmlu", "all", _REVISION, "test")
    usual_shots = 5
    shot_splits = ("dev",)
    # the sampler's defaults in simple-evals
    reasoned_options: ClassVar[Options] = Options(temperature=0.5, max_tokens=2048)

    def __init__(
        self,
        name: str,
        *,
        subjects: str | Sequence[str] | None = None,
        shots: int | None = None,
        source: str | os.PathLike[str] | None = None,
        split: str | None = None,
    ) -> None:
        super().__init__(name, shots=shots, source=source, split=split)
        names = (subjects,) if isinstance(subjects, str) else tuple(subjects or ())
        self.subjects = tuple(s for name in names for s in CATEGORIES.get(name, (name,)))
        if names:
            self.name = f"{self.name}[subjects={'+'.join(names)}]".replace("][", ",")

    def sample(self, row: Row) -> Sample:
        choices, answer, subject = row.texts("choices"), row.integer("answer"), row.text("subject")
        if len(choices) != 4:
            raise row.wrong("choices", "four texts", list(choices))
        if not 0 <= answer <= 3:
            raise row.wrong("answer", "0, 1, 2 or 3", answer)
        tags = (_CATEGORY_OF.get(subject, "other"), subject)
        return Sample(row.text("question"), answer, choices=choices, tags=tags, cluster=subject)

    def shot(self, row: Row) -> str:
        sample = self.sample(row)
        assert isinstance(sample.target, int)
        return f"{self.context(sample)} {LETTERS[sample.target]}"

    def rows(self, split: str) -> Iterator[Row]:
        if not self.subjects:
            yield from super().rows(split)
            return
        apart = [self.place.folder is not None and self.place.has(self.source, s, split) for s in self.subjects]
        found = set()
        for subject, alone in zip(self.subjects, apart, strict=True):
            for row in self.place.rows(self.source, subject, split) if alone else ():
                found.add(subject)
                yield row
        rest = {subject for subject, alone in zip(self.subjects, apart, strict=True) if not alone}
        known = set()
        for row in super().rows(split) if rest else ():
            known.add(row.text("subject"))
            if row.text("subject") in rest:
                found.add(row.text("subject"))
                yield row
        for subject in self.subjects:
            if subject not in found:
                raise UnknownName.among(f"subject in {self.where}", subject, known | {*CATEGORIES})

    def shot_pool(self, row: Row) -> Sequence[Row]:
        subject = row.text("subject")
        pool = self._shots_of[subject]
        if len(pool) < self.shots:
            raise DataError(
                f"{self.name}: {self.where} has {len(pool)} rows of {subject!r} in the split {self.shot_split!r}; "
                f"{self.shots} shots need as many (5 is usual), or ask for fewer: shots={len(pool)}"
            )
        return pool

    def draw(self, rng: random.Random, row: Row, pool: Sequence[Row]) -> list[Row]:
        return [other for other in pool if self.shot_split != self.split or other != row][: self.shots]

    def prefix(self, sample: Sample) -> str:
        subject = sample.cluster.replace("_", " ")
        description = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        return description + super().prefix(sample)

    def context(self, sample: Sample) -> str:
        options = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, sample.choices, strict=False))
        return f"{str(sample.input).strip()}\n{options}Answer:"

    def continuations(self, sample: Sample) -> tuple[str, ...]:
        return tuple(LETTERS[: len(sample.choices)])

    def question(self, sample: Sample) -> str:
        return str(sample.input)

    @cached_property
    def _shots_of(self) -> dict[str, list[Row]]:
        table = defaultdict(list)
        for row in self._all_shot_rows:
            table[row.text("subject")].append(row)
        return table
