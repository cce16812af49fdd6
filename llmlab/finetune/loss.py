"""Cross-entropy of a language model's head, at the trained positions only, in little memory.

The logits of a few positions at a time are turned into their gradient at once, while they are there, so nothing of
the size of the vocabulary is kept for the backward pass or computed twice (as Hsu et al. 2024 do on a GPU,
https://arxiv.org/abs/2410.10989). TRL's own loss computes every position on a CPU, prompts and padding too, and
twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from llmlab.finetune.render import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

# logits that exist at the same time: 32 MB in float32
CHUNK = 8 << 20


class HeadLoss(NamedTuple):
    """Summed cross-entropy in nats, and how many positions were trained on and predicted right."""

    total: Tensor
    n: int
    right: int


def head_loss(hidden: Tensor, weight: Tensor, labels: Tensor) -> HeadLoss:
    """Cross-entropy of `hidden @ weight.T` against the next label.

    hidden (batch, length, width), weight (vocab, width), labels (batch, length) with -100 where nothing is trained.
    Position t predicts label t + 1. The total is float32, and differentiable in hidden and weight.
    """
    wanted = labels[:, 1:]
    there = wanted != IGNORED
    targets = wanted[there]
    total, right = _Loss.apply(hidden[:, :-1][there], weight, targets)  # type: ignore[no-untyped-call]
    return HeadLoss(total, targets.numel(), int(right))


class _Loss(torch.autograd.Function):
    """Rows (n, width), weight (vocab, width), targets (n,) -> total, right."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        of_rows, of_weight = ctx.needs_input_grad[:2]
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else rows.dtype
        matrix = weight.to(kind)
        row_grad = torch.empty_like(rows) if of_rows else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if of_weight else None
        total, right = torch.zeros((), dtype=torch.float32), torch.zeros((), dtype=torch.long)
        step = max(1, CHUNK // weight.shape[0])
        for start in range(0, len(rows), step):
            some, target = rows[start : start + step].to(kind), targets[start : start + step, None]
            logits = (some @ matrix.T).float()
            right += (logits.argmax(-1, keepdim=True) == target).sum()
            log_z = logits.logsumexp(-1, keepdim=True)
            total += (log_z - logits.gather(-1, target)).sum()
            if not (of_rows or of_weight):
                continue
            # softmax minus the one-hot target, in the memory of the logits
            gradient = logits.sub_(log_z).exp_()
            gradient.scatter_add_(-1, target, torch.full_like(log_z, -1.0))
            gradient = gradient.to(kind)
            if row_grad is not None:
                row_grad[start : start + step] = gradient @ matrix
            if weight_grad is not None:
                weight_grad += gradient.T @ some
        ctx.save_for_backward(row_grad, weight_grad)
        ctx.kind = weight.dtype
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        scale = gradients[0]
        row_grad, weight_grad = ctx.saved_tensors
        rows = None if row_grad is None else row_grad * scale.to(row_grad.dtype)
        return rows, None if weight_grad is None else (weight_grad * scale).to(ctx.kind), None


# settings of a model that change its logits after the head
_AFTER = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def fits(model: Any) -> bool:
    """Whether a model's logits are its last hidden states times the head's weight, on a CPU, and nothing else."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and head.bias is None
    changed = any(getattr(config, name, None) is not None for name in _AFTER)
    return (
        plain
        and not changed
        and not getattr(config, "output_router_logits", False)
        and head.weight.device.type == "cpu"
    )
