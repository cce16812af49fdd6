"""Examples as the data sets that TRL's trainers take, cut to the recipe's length; what that costs is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmlab.errors import DataError
from llmlab.finetune.config import Recipe
from llmlab.finetune.data import TrainingData
from llmlab.finetune.formats import Example, Form, Messages
from llmlab.finetune.lengths import Lengths, longest, measured
from llmlab.finetune.render import Renderer
from llmlab.types import Message

# which forms of data each objective can use
USABLE: dict[str, tuple[Form, ...]] = {
    "sft": ("conversation", "completion", "text", "preference"),
    "dpo": ("preference",),
    "kto": ("labelled", "preference"),
    "grpo": ("prompt", "completion", "conversation"),
}


@dataclass(frozen=True)
class Rows:
    """What goes into a trainer.

    Attributes:
        train: `datasets.Dataset`.
        held: the same for the held-out share, None without one.
        lengths: of the training examples.
        notes: what was left out.
    """

    train: Any
    held: Any
    lengths: Lengths
    notes: tuple[str, ...]


def rows(training: TrainingData, held: TrainingData | None, tokenizer: Any, recipe: Recipe) -> Rows:
    """Render examples for an objective.

    Raises:
        DataError: for a form that the objective cannot use, or when no example has an answer within the length.
    """
    render = Renderer(tokenizer)
    table, found, notes = _table(training, render, recipe)
    other = _table(held, render, recipe)[0] if held is not None else None
    return Rows(table, other, found, notes)


def _table(data: TrainingData, render: Renderer, recipe: Recipe) -> tuple[Any, Lengths, tuple[str, ...]]:
    from datasets import Dataset

    objective = recipe.objective
    if data.form not in USABLE[objective]:
        fits = " or ".join(USABLE[objective])
        raise DataError(f"{data.name}: objective {objective!r} needs data of the form {fits}, this is {data.form!r}")
    made = [longest(render, e) for e in data]
    found = measured(made, [e.where for e in data], recipe.length)
    if objective == "grpo":
        return Dataset.from_list([_prompt_row(e, render, i) for i, e in enumerate(data)]), found, ()
    kept = [i for i, trained in enumerate(found.table["kept_trained"]) if trained]
    if not kept:
        shortest = min(next((i for i, t in enumerate(r.trained) if t), len(r.ids)) for r in made)
        if not any(any(r.trained) for r in made):
            raise DataError(f"{data.name}: no token of any example is trained on; look at data.preview(model)")
        raise DataError(
            f"{data.name}: at length={recipe.length} every answer is cut off: the first begins at token {shortest}, "
            f"the longest example has {found.table['tokens'].max()}; set a larger length"
        )
    if objective == "sft":
        cut = (made[i].cut(recipe.length) for i in kept)
        table = [{"input_ids": list(r.ids), "labels": r.labels} for r in cut]
    elif objective == "dpo":
        table = [_pair_row(data[i], render) for i in kept]
    else:
        table = [row for i in kept for row in _judged_rows(data[i], render)]
        if len({row["label"] for row in table}) < 2:
            raise DataError(
                f"{data.name}: objective 'kto' needs good and bad answers; all of these have the same label"
            )
    return Dataset.from_list(table), found, tuple(_notes(found, len(kept)))


def _notes(found: Lengths, kept: int) -> list[str]:
    notes = []
    if kept < len(found.table):
        notes.append(
            f"{len(found.table) - kept} examples left out: at {found.limit} tokens nothing of their answer is left"
        )
    cut = found.cut_answers - (len(found.table) - kept)
    if cut > 0:
        notes.append(f"{cut} answers are cut off at {found.limit} tokens; from them a model learns not to stop")
    return notes


def _pair_row(example: Example, render: Renderer) -> dict[str, Any]:
    return {
        "prompt": _side(example.context, render, example),
        "chosen": _side(example.answer, render, example),
        "rejected": _side(example.rejected, render, example),
    }


def _judged_rows(example: Example, render: Renderer) -> list[dict[str, Any]]:
    prompt = _side(example.context, render, example)
    if example.label is not None:
        return [{"prompt": prompt, "completion": _side(example.answer, render, example), "label": example.label}]
    return [
        {"prompt": prompt, "completion": _side(turns, render, example), "label": good}
        for turns, good in ((example.answer, True), (example.rejected, False))
    ]


def _prompt_row(example: Example, render: Renderer, number: int) -> dict[str, Any]:
    # the number finds the example again when its answers are judged
    return {"prompt": _side(example.prompt or example.context, render, example), "number": number}


def _side(messages: Messages, render: Renderer, example: Example) -> Any:
    """Turns as TRL takes them: objects for a chat template, text without one."""
    if render.chats:
        return plain(messages)
    if len(messages) != 1:
        raise DataError(
            f"{example.where}: this model's tokenizer has no chat template, so a row can have one prompt and one answer"
        )
    return messages[0].content


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Turns as plain dicts."""
    return [{"role": m.role, "content": m.content} for m in messages]
