"""Seconds and bytes of models at one shape: reading prompts, writing tokens, keys and values."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmlab.errors import BadRequest
from llmlab.models.local import room
from llmlab.models.local.loading import device_of

if TYPE_CHECKING:
    from llmlab.models.local.engine import Engine
    from llmlab.models.local.loading import Loaded
    from llmlab.models.local.source import Source


@dataclass(frozen=True)
class Shape:
    """What is read and written: `batch` prompts of `prompt_tokens` at once, `new_tokens` after each."""

    prompt_tokens: int
    new_tokens: int
    batch: int


@dataclass(frozen=True)
class Timing:
    """One repeat.

    Attributes:
        first: seconds until every row has its first token; all prompts have been read then.
        steps: seconds of each further token of the batch.
    """

    first: float
    steps: tuple[float, ...]


def check(shape: Shape, loaded: Loaded, name: str) -> None:
    """Refuse a shape that cannot be measured.

    Raises:
        BadRequest: for counts below one (two new tokens: the first belongs to reading), or beyond the context.
    """
    if min(shape.prompt_tokens, shape.batch) < 1 or shape.new_tokens < 2:
        raise BadRequest(
            f"a profile reads at least one token, writes at least two, in batches of at least one; got prompt_tokens="
            f"{shape.prompt_tokens}, new_tokens={shape.new_tokens}, batch={shape.batch}"
        )
    if shape.prompt_tokens + shape.new_tokens > loaded.context:
        raise BadRequest(
            f"{shape.prompt_tokens} + {shape.new_tokens} tokens are more than the context of {name}, {loaded.context}"
        )


def measure(engines: Sequence[Engine], shape: Shape, repeats: int) -> list[list[Timing]]:
    """The repeats of each engine, in rounds over all of them, every other round backwards.

    What else the machine does in the meantime then meets all of them alike.
    """
    found: list[list[Timing]] = [[] for _ in engines]
    order = range(len(engines))
    for repeat in range(repeats):
        for i in order if repeat % 2 == 0 else reversed(order):
            found[i].append(once(engines[i], shape, seed=repeat))
    return found


def once(engine: Engine, shape: Shape, seed: int) -> Timing:
    """Greedy answers to random prompts without a common beginning.

    The batch is computed as answers to different prompts are, with the same attention and the same products; what
    chooses among many waiting calls is left out. A token before does not count.
    """
    import torch

    from llmlab.models.local.engine import threads

    with engine.held() as loaded, torch.inference_mode(), threads(engine.threads):
        # brings this model's weights and threads back, where another one was computed before
        _timed(engine, _prompts(loaded, Shape(1, 1, 1), seed), new=1)
        return _timed(engine, _prompts(loaded, shape, seed), shape.new_tokens)


def fit_together(sources: Sequence[Source]) -> bool:
    """Whether models can be in memory at once, each computed as it would be alone.

    A third of what is free holds the weights; the rest is for their faster copies and for keys and values.
    """
    import torch

    needed: dict[torch.device, float] = {}
    for source in sources:
        device = device_of(source.device)
        needed[device] = needed.get(device, 0.0) + source.weights_bytes
    return len(sources) == 1 or all(3 * size < room.free_bytes(device) for device, size in needed.items())


def _timed(engine: Engine, prompts: Sequence[Sequence[int]], new: int) -> Timing:
    began = time.perf_counter()
    decoder = engine.decoder(len(prompts))
    # reading the choice waits for the device
    tokens = decoder.add(prompts).argmax(-1).tolist()
    marks = [time.perf_counter()]
    for _ in range(new - 1):
        tokens = decoder.step(tokens).argmax(-1).tolist()
        marks.append(time.perf_counter())
    return Timing(marks[0] - began, tuple(b - a for a, b in itertools.pairwise(marks)))


def _prompts(loaded: Loaded, shape: Shape, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    size = loaded.model.config.get_text_config().vocab_size
    return [[rng.randrange(size) for _ in range(shape.prompt_tokens)] for _ in range(shape.batch)]


def held_bytes(loaded: Loaded) -> int:
    """Bytes of a model's weights as they lie in memory, each counted once."""
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    # bitsandbytes keeps the scales of its blocks beside the weights; where the CPU has instructions of its own for
    # them, the scales of the scales are worked in and gone
    states = [getattr(p, "quant_state", None) for p in tensors]
    for state in (s for s in states if s is not None):
        second = getattr(getattr(state, "state2", None), "absmax", None)
        tensors += [t for t in (state.absmax, second) if t is not None]
    packed = sum(getattr(module, "packed_bytes", 0) for module in loaded.model.modules())
    return packed + sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
