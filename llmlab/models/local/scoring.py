"""Exact log-likelihoods of continuations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmlab.errors import BadRequest, LabError, ProviderError
from llmlab.models.local.loading import Loaded, is_out_of_memory
from llmlab.models.local.tokens import Pair
from llmlab.types import ContinuationLogprob

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Wanted:
    """The continuation `target` is predicted by the logits at positions start, start + 1, ... of a sequence."""

    index: int
    start: int
    target: tuple[int, ...]
    truncated: int


@dataclass(frozen=True, slots=True)
class Item:
    """A sequence to read, and what is wanted of it."""

    ids: tuple[int, ...]
    wanted: tuple[Wanted, ...]

    @property
    def first(self) -> int:
        """First position whose logits are needed."""
        return min(w.start for w in self.wanted)


def score(loaded: Loaded, pairs: Sequence[Pair], budget: int) -> list[ContinuationLogprob | LabError]:
    """Log-likelihood of every pair, an error in place where there is none.

    Args:
        loaded: the model.
        pairs: what to score. Contexts that are too long lose tokens on the left.
        budget: tokens in one forward pass.
    """
    results: dict[int, ContinuationLogprob | LabError] = {}
    items = prepare(pairs, loaded.context, results)
    _run_plain(loaded, items, budget, results)
    return [results[i] for i in range(len(pairs))]


def prepare(pairs: Sequence[Pair], context: int, results: dict[int, ContinuationLogprob | LabError]) -> list[Item]:
    """Sequences to read, the longest first, each once for all pairs that need the same one.

    Pairs that cannot be scored get their error in `results`.
    """
    wanted: dict[tuple[int, ...], list[Wanted]] = {}
    for i, pair in enumerate(pairs):
        if len(pair.continuation) > context:
            results[i] = BadRequest(
                f"a continuation of {len(pair.continuation)} tokens does not fit into the model's context of {context}"
            )
            continue
        ids = pair.input[-context:]
        truncated = len(pair.input) - len(ids)
        start = len(ids) - len(pair.continuation)
        wanted.setdefault(ids, []).append(Wanted(i, start, pair.continuation, truncated))
    return sorted((Item(ids, tuple(w)) for ids, w in wanted.items()), key=lambda item: -len(item.ids))


def _run_plain(
    loaded: Loaded, items: Sequence[Item], budget: int, results: dict[int, ContinuationLogprob | LabError]
) -> None:
    for batch in batches(items, budget):
        try:
            results.update(_plain(loaded, batch))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) > 1:
                _run_plain(loaded, batch, budget // 2, results)
                continue
            for w in batch[0].wanted:
                results[w.index] = ProviderError(f"out of memory on one sequence of {len(batch[0].ids)} tokens")


def batches(items: Sequence[Item], budget: int) -> Iterator[list[Item]]:
    """Runs of items (longest first) whose padded size is within the budget, or single ones."""
    batch: list[Item] = []
    for item in items:
        if batch and (len(batch) + 1) * len(batch[0].ids) > budget:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _plain(loaded: Loaded, batch: Sequence[Item]) -> dict[int, ContinuationLogprob | LabError]:
    """One padded forward pass. Padding is on the right, where causal attention never looks."""
    import torch

    width = len(batch[0].ids)
    rows = [list(item.ids) + [0] * (width - len(item.ids)) for item in batch]
    first = min(item.first for item in batch)
    ids = torch.tensor(rows, device=loaded.device)
    mask = torch.tensor([[1] * len(i.ids) + [0] * (width - len(i.ids)) for i in batch], device=loaded.device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=width - first).logits
        logits = logits[:, -(width - first) :]
        at = [(row, w) for row, item in enumerate(batch) for w in item.wanted]
        rows_ = [row for row, w in at for _ in w.target]
        columns = [w.start - first + k for _, w in at for k in range(len(w.target))]
        return collect(logits[rows_, columns], [w for _, w in at])


def collect(logits: Tensor, wanted: Sequence[Wanted]) -> dict[int, ContinuationLogprob | LabError]:
    """Results out of logits (tokens, vocabulary): one row for each token of each wanted continuation, in order."""
    import torch

    targets = torch.tensor([t for w in wanted for t in w.target], device=logits.device)
    logits = logits.float()
    chosen = logits.gather(1, targets[:, None])[:, 0]
    logprobs = (chosen - logits.logsumexp(-1)).tolist()
    greedy = (logits.argmax(-1) == targets).tolist()
    results: dict[int, ContinuationLogprob | LabError] = {}
    at = 0
    for w in wanted:
        n = len(w.target)
        total = sum(logprobs[at : at + n])
        if total != total:  # NaN
            results[w.index] = ProviderError("the model's logits are NaN here (weights or dtype are broken)")
        else:
            results[w.index] = ContinuationLogprob(total, n, all(greedy[at : at + n]), w.truncated)
        at += n
    return results
