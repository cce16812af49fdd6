"""LLM.int8 with outliers of each row, so that an answer does not depend on what else is in its batch."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn.modules import Linear8bitLt
from torch import Tensor, nn


class RowwiseInt8(Linear8bitLt):
    """A product in 8 bits, outliers in 16 (Dettmers et al., 2022, https://arxiv.org/abs/2208.07339).

    bitsandbytes keeps a column in 16 bits for a whole batch as soon as one row has an outlier there, which moves the
    other rows by the rounding of that column. Here each row has its own outliers: it is computed as if it were alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Product with the weights, (..., in) to (..., out)."""
        if self.training or x.numel() == 0 or (torch.is_grad_enabled() and x.requires_grad):
            found: Tensor = super().forward(x)  # which has gradients
            return found
        layer: Any = self  # bitsandbytes' own attributes are not typed
        if layer.weight.CB is not None:
            layer.init_8bit_state()
        ops: Any = torch.ops.bitsandbytes
        weight, scales = layer.state.CB, layer.state.SCB
        rows = x.reshape(-1, x.shape[-1])
        half = rows.to(torch.float16)
        outliers = half.abs() >= self.state.threshold
        small, row_scales, _ = ops.int8_vectorwise_quant(half.masked_fill(outliers, 0), 0.0)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out: Tensor = ops.int8_scaled_mm(small, weight, row_scales, scales, bias=bias, dtype=x.dtype)
        columns = outliers.any(0).nonzero().flatten()
        if len(columns):
            kept = rows[:, columns].masked_fill(~outliers[:, columns], 0)
            out = out.addmm(kept, ops.int8_vectorwise_dequant(weight[:, columns].contiguous(), scales).to(x.dtype).t())
        return out.reshape(*x.shape[:-1], -1)


def by_row(model: nn.Module) -> None:
    """Have every 8 bit layer of a model take the outliers of each row for itself."""
    for module in model.modules():
        if type(module) is Linear8bitLt and module.state.threshold > 0:
            module.__class__ = RowwiseInt8
