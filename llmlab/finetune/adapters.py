"""Adapters on a frozen base, on a CPU: one differentiable step per linear layer, and no more copies than it needs.

PEFT's layer is a chain of operations of which each keeps its input, and which autocast feeds with copies: the frozen
weight is converted in every pass, and the input of query, key and value six times. Here the input is converted once
and kept once, the narrow product is computed anew in the backward pass, and the frozen weights stay in the format of
the products. The numbers are those of PEFT under autocast, to rounding.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


def fuse(model: Any, dtype: torch.dtype) -> int:
    """Have plain LoRA layers of a model compute this way from now on; gives how many.

    Args:
        model: of PEFT, on a CPU, whose adapters are trained under autocast to `dtype`, or without it in float32.
        dtype: of the products; the frozen weights of these layers are held in it.

    What is not plain (dropout, variants such as DoRA, trained biases, quantised layers) is left as it is.
    """
    from peft.tuners.lora.layer import Linear

    found: list[Any] = [module for module in model.modules() if type(module) is Linear and _plain(module)]
    narrow = Narrow(dtype)
    for module in found:
        weight = module.get_base_layer().weight
        weight.data = weight.data.to(dtype)
        module.forward = functools.partial(_forward, module, module.forward, narrow)
    return len(found)


def _plain(module: Any) -> bool:
    base = module.get_base_layer()
    if type(base) is not torch.nn.Linear or base.weight.device.type != "cpu" or len(module.active_adapters) != 1:
        return False
    name = module.active_adapters[0]
    if name not in module.lora_A or name in module.lora_variant or module.merged:
        return False
    frozen = not base.weight.requires_grad and (base.bias is None or not base.bias.requires_grad)
    down, up = module.lora_A[name], module.lora_B[name]
    biased = down.bias is not None or up.bias is not None
    return frozen and not biased and type(module.lora_dropout[name]) is torch.nn.Identity


def _forward(module: Any, before: Any, narrow: Narrow, x: Tensor, *args: Any, **given: Any) -> Tensor:
    given_in, x = x.dtype, narrow(x)
    if module.disable_adapters or module.merged or args or given:
        out: Tensor = before(x, *args, **given)
    else:
        name, base = module.active_adapters[0], module.get_base_layer()
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
        out = adapted(x, base.weight, base.bias, down, up, module.scaling[name])
    # without autocast, as when benchmarks are asked in between, what follows expects the format of the input
    return out if torch.is_autocast_enabled("cpu") else out.to(given_in)


class Narrow:
    """Converts a tensor once for all layers that take it one after the other."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.last: tuple[Tensor, int, bool, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype == self.dtype:
            return x
        if x.is_inference():  # has no version
            return x.to(self.dtype)
        now = (x._version, torch.is_grad_enabled())
        if self.last is None or self.last[0] is not x or self.last[1:3] != now:
            self.last = (x, *now, x.to(self.dtype))
        return self.last[3]


def adapted(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """`x @ weight.T + bias + scale * x @ down.T @ up.T`, differentiable in x, down and up.

    x (..., width) and weight (out, width) of one dtype, down (rank, width), up (out, rank). Kept for the backward pass
    is x alone.
    """
    found: Tensor = _Adapted.apply(x, weight, bias, down, up, scale)  # type: ignore[no-untyped-call]
    return found


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        kind = x.dtype
        rows = x.reshape(-1, x.shape[-1])
        with torch.autocast("cpu", enabled=False):
            out = torch.nn.functional.linear(rows, weight, None if bias is None else bias.to(kind))
            out.addmm_(rows @ down.to(kind).T, up.to(kind).T, alpha=scale)
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale = scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, weight, down, up = ctx.saved_tensors
        kind = x.dtype
        gradient = gradients[0].reshape(-1, weight.shape[0])
        rows, down_, up_ = x.reshape(-1, x.shape[-1]), down.to(kind), up.to(kind)
        through = gradient @ up_
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(through, down_, alpha=ctx.scale).view_as(x)
        of_down = (through.T @ rows).to(down.dtype) * ctx.scale
        of_up = (gradient.T @ (rows @ down_.T)).to(up.dtype) * ctx.scale
        return of_x, None, None, of_down, of_up, None
