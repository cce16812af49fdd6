"""Training data: read, recognised, checked, split, and shown as the model will see it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union, overload

from llmlab.errors import DataError
from llmlab.finetune import duplicates
from llmlab.finetune.formats import FORMS, Example, Form, detect, example
from llmlab.finetune.reading import read
from llmlab.types import digest

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.benchmarks.base import Benchmark
    from llmlab.finetune.leakage import Leakage
    from llmlab.finetune.lengths import Lengths
    from llmlab.finetune.preview import Preview
    from llmlab.models.base import Model

Source: TypeAlias = Union[str, os.PathLike[str], "pd.DataFrame", Iterable[Mapping[str, Any]], "TrainingData"]


def dataset(source: Source, *, form: Form | None = None, split: str = "train", name: str | None = None) -> TrainingData:
    """Training data from a file, a folder, the Hugging Face Hub, a DataFrame or a list.

    Args:
        source: path of a .jsonl, .json, .csv, .parquet or .txt file (or a folder of them), an id of the hub
            ("owner/name"), a DataFrame, or a list of dicts. The forms of rows: see `llmlab.finetune.formats`.
        form: "conversation", "completion", "preference", "labelled", "prompt" or "text"; None finds out from the
            first row. All rows have one form.
        split: of a data set of the hub.
        name: in tables; the file's name by default.

    Raises:
        DataError: for data that is empty or a row that is not what it should be, with file, line and field.

    >>> len(dataset([{"prompt": "2 + 2?", "completion": "4"}]))
    1
    """
    if isinstance(source, TrainingData):
        return source
    if form is not None and form not in FORMS:
        from llmlab.errors import UnknownName

        raise UnknownName.among("form of training data", form, FORMS)
    rows, found = read(source, split)
    examples = []
    for row in rows:
        form = form or detect(row)
        try:
            examples.append(example(row, form))
        except KeyError as error:
            raise DataError(
                f"{row.where}: no field {error} for the form {form!r}; it has {', '.join(row.data)}"
            ) from None
    if not examples or form is None:
        place = source if isinstance(source, str | os.PathLike) else found
        raise DataError(f"{os.fspath(place)}: no rows, so there is nothing to learn from")
    return TrainingData(name or found, form, examples)


class TrainingData:
    """Examples of one form. Methods give new data; `notes` say what was left out on the way.

    Args:
        name: in tables.
        form: see `llmlab.finetune.formats`.
        examples: at least one.
        notes: what was done to them.
    """

    def __init__(self, name: str, form: Form, examples: Sequence[Example], notes: Sequence[str] = ()) -> None:
        self.name = name
        self.form = form
        self.examples = tuple(examples)
        self.notes = tuple(notes)

    # -- what is in it ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> TrainingData: ...
    def __getitem__(self, index: int | slice) -> Example | TrainingData:
        return self._with(self.examples[index]) if isinstance(index, slice) else self.examples[index]

    @property
    def hash(self) -> str:
        """16 hex digits that change with anything that is trained on, or its order."""
        return digest(self.form, [e.key for e in self.examples])

    def preview(self, model: str | Model | None = None, n: int = 3, length: int | None = None) -> Preview:
        """The first n examples as the model will see them, what is trained on in colour.

        Args:
            model: whose tokenizer and template; None shows the turns alone.
            n: how many.
            length: tokens at which they are cut off.
        """
        from llmlab.finetune.preview import preview

        return preview(self, model, n, length)

    def lengths(self, model: str | Model, length: int | None = None) -> Lengths:
        """How long the examples are in tokens, and what would be cut off at `length`."""
        from llmlab.finetune.lengths import lengths

        return lengths(self, model, length)

    # -- what can be done to it -------------------------------------------------------------------------------

    def distinct(self, similarity: float | None = 0.9) -> TrainingData:
        """Without examples that repeat an earlier one.

        Args:
            similarity: Jaccard similarity of word 3-grams from which two are the same, in (0, 1]; None leaves out
                exact copies only. Data made from templates is similar by nature: look before you leave out.
        """
        if similarity is not None and not 0 < similarity <= 1:
            raise DataError(f"similarity should be in (0, 1], it is {similarity}")
        copies = duplicates.exact(e.key for e in self.examples)
        kept = _without(range(len(self)), {d.index for d in copies})
        alike: list[duplicates.Duplicate] = []
        if similarity is not None:
            # a pair's rejected answer is part of what it says
            texts = [
                self.examples[i].words + "\n" + "\n".join(m.content for m in self.examples[i].rejected) for i in kept
            ]
            alike = duplicates.near(texts, similarity)
            kept = _without(kept, {kept[d.index] for d in alike})
        note = f"{len(copies)} copies and {len(alike)} near-copies left out of {len(self)}"
        return self._with([self.examples[i] for i in kept], note if copies or alike else "")

    def split(self, share: float = 0.1, seed: int = 0) -> tuple[TrainingData, TrainingData]:
        """Training and held-out data. Examples with the same prompt stay on one side.

        Args:
            share: of the prompts that is held out, in (0, 1); at least one.
            seed: draws them.

        Raises:
            DataError: when there are fewer than two different prompts.
        """
        if not 0 < share < 1:
            raise DataError(f"share should be in (0, 1), it is {share}")
        prompts = [digest([[m.role, m.content] for m in e.prompt], e.text) for e in self.examples]
        different = list(dict.fromkeys(prompts))
        if len(different) < 2:
            raise DataError(f"{self.name}: {len(different)} different prompt is too few to hold some out")
        n = min(max(1, round(share * len(different))), len(different) - 1)
        held = set(random.Random(seed).sample(different, n))
        sides: tuple[list[Example], list[Example]] = ([], [])
        for one, prompt in zip(self.examples, prompts, strict=True):
            sides[prompt in held].append(one)
        return self._with(sides[0]), self._with(sides[1])

    def leakage(self, benchmark: str | Benchmark, gram: int = 8, threshold: float = 0.5) -> Leakage:
        """Which items of a benchmark are in this data, by their word n-grams; see `llmlab.finetune.leakage`."""
        from llmlab.benchmarks.registry import benchmark as known
        from llmlab.finetune.leakage import overlap

        texts = [(e.words, e.where or f"example {i}") for i, e in enumerate(self.examples)]
        return overlap(texts, known(benchmark), gram, threshold)

    def without(self, benchmark: str | Benchmark, gram: int = 8, threshold: float = 0.5) -> TrainingData:
        """Without the examples that hold an item of a benchmark."""
        found = self.leakage(benchmark, gram, threshold)
        kept = [e for i, e in enumerate(self.examples) if i not in found.examples]
        if not kept:
            raise DataError(f"{self.name}: every example holds an item of {found.benchmark}")
        return self._with(kept, f"{len(self) - len(kept)} examples that hold items of {found.benchmark} left out")

    def _with(self, examples: Sequence[Example], note: str = "") -> TrainingData:
        return TrainingData(self.name, self.form, examples, (*self.notes, note) if note else self.notes)

    # -- how it shows itself ----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        count = f"{len(self):,} example{'s' * (len(self) != 1)}"
        return "; ".join([f"TrainingData: {self.name}, {count} of the form {self.form!r}", *self.notes])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self))}</p>{self.preview(n=2)._repr_html_()}"


def _without(positions: Iterable[int], dropped: set[int]) -> list[int]:
    return [i for i in positions if i not in dropped]
