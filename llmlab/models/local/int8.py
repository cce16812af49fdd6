"""Products in 8 bits in which no row depends on another: an answer is the same whatever else is in its batch."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn.modules import Linear8bitLt
from torch import Tensor, nn

from llmlab.errors import DataError


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


class DynamicInt8(Linear8bitLt):
    """A product of bytes alone, each row quantised by its largest value: torch's dynamic int8, row by row.

    oneDNN computes it, on processors with instructions for it (VNNI). There are no outliers in 16 bits, which is why
    it is faster than `RowwiseInt8`, and further from the full model; and it has no gradients.
    """

    packed: Any
    packed_bytes: int

    def pack(self) -> None:
        """Keep the weights as oneDNN's product wants them, in place of the plain ones."""
        layer: Any = self
        if layer.weight.CB is not None:
            layer.init_8bit_state()
        self.packed_bytes = layer.state.CB.nbytes
        self.packed = torch.ops.onednn.qlinear_prepack(layer.state.CB, None)
        self.scales = layer.state.SCB.float() / 127
        self.zeros = torch.zeros(self.out_features, dtype=torch.int32)
        layer.weight.data = layer.state.CB = torch.empty(0, dtype=torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """Product with the weights, (..., in) to (..., out)."""
        if torch.is_grad_enabled() and x.requires_grad:
            raise DataError("quantize='int8-dynamic' has no gradients; take 'int8', 'nf4' or the full model")
        rows = x.reshape(-1, x.shape[-1]).float()
        steps = rows.abs().amax(1, keepdim=True).mul_(1 / 127).clamp_min_(torch.finfo(torch.float32).tiny)
        # the processors multiply unsigned by signed bytes: 128 stands for 0
        small = (rows / steps).round_().add_(128).to(torch.uint8)
        ops: Any = torch.ops.onednn
        out: Tensor = ops.qlinear_pointwise(
            small, 1.0, 128, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        ).mul_(steps)
        out = out if self.bias is None else out.add_(self.bias)
        return out.to(x.dtype).reshape(*x.shape[:-1], self.out_features)


def dynamic(model: nn.Module) -> None:
    """Have every 8 bit layer of a model multiply bytes alone."""
    for module in model.modules():
        if type(module) is Linear8bitLt:
            made: Any = module
            made.__class__ = DynamicInt8
            made.pack()


def by_row(model: nn.Module) -> None:
    """Have every 8 bit layer of a model take the outliers of each row for itself."""
    for module in model.modules():
        if type(module) is Linear8bitLt and module.state.threshold > 0:
            module.__class__ = RowwiseInt8
