"""The memory of a training, part by part, from the shapes of the model's files.

Weights, gradients and the optimiser's moments follow from the shapes in the files. What the backward pass keeps is
counted by a forward pass of one and of two layers on tensors without data (`FakeTensorMode`), so it holds for
every architecture that transformers has; every further layer takes as much as the second did.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.finetune.base import shapes, size
from llmlab.finetune.config import Recipe
from llmlab.finetune.methods import device_of, precision_of

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.models.local.transformers import TransformersModel

# nf4: half a byte, an 8-bit scale per 64 weights, a float32 one per 256 of these
_FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
# TRL computes the head in tiles: at most so many tokens, and so many entries of the vocabulary, at a time
_TILE_TOKENS, _TILE_VOCABULARY = 4096, 32768
# copies of a tile that live at the same time, in torch's own operations on a CPU and in TRL's kernel on a GPU
_TILES_CPU, _TILES_GPU = 8.5, 2
# copies of a chunk of logits in our own loss
_CHUNKS = 3


@dataclass(frozen=True, repr=False)
class Memory:
    """Bytes that a training takes at its peak, beside what Python and the libraries take themselves.

    Attributes:
        weights: the base, and the adapter.
        gradients: of what is trained.
        optimizer: AdamW's two moments.
        activations: what the forward pass keeps for the backward pass.
        head: logits of a tile of tokens, and their gradient.
        reference: a second copy of the weights, which "dpo" and "kto" need when every weight is trained.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    reference: float
    about: Recipe
    name: str

    @property
    def peak(self) -> float:
        """Bytes at the peak.

        Gradients appear while activations go, so the larger of both counts.
        """
        passing = max(self.activations + self.head, self.gradients)
        return self.weights + self.reference + self.optimizer + passing

    @property
    def table(self) -> pd.Series[float]:
        """The parts and the peak, in GB (10^9 bytes)."""
        import pandas as pd

        parts = ("weights", "reference", "optimizer", "gradients", "activations", "head", "peak")
        return pd.Series({part: getattr(self, part) / 1e9 for part in parts}, name="GB")

    def __repr__(self) -> str:
        made = self.about
        parts = ", ".join(f"{name} {value:.2f}" for name, value in self.table.drop("peak").items() if value >= 0.005)
        return (
            f"Memory: {self.peak / 1e9:.2f} GB for {made.method} of {self.name}, {made.batch} × {made.length} tokens "
            f"at a time{', checkpointing' if made.checkpointing else ''} ({parts})"
        )


def predict(base: TransformersModel, made: Recipe) -> Memory:
    """The memory that training `base` by the recipe `made` will take; reads the headers of its files only."""
    folder, device = base.source.folder, device_of(base.source)
    found = shapes(folder)
    matrices = _linear_sizes(found)
    adapter = sum(made.rank * sum(shape) for shape in matrices.values()) if made.adapts else 0
    per_weight = 2 if _halved(made, device, precision_of(made, device)) else 4
    inside = sum(math.prod(shape) for shape in matrices.values())
    rest = size(folder) - inside
    narrow = _fused(made, device) and precision_of(made, device) == "bfloat16"
    per_inside = _FOUR_BITS if made.method == "qlora" else 2 if narrow else per_weight
    weights = inside * per_inside + rest * per_weight
    trained, per_trained = (adapter, 2 if made.method == "qlora" else 4) if made.adapts else (size(folder), 4)
    # a chosen and a rejected answer go through the model together
    examples = made.batch * (2 if made.objective == "dpo" else 1)
    kept = activations(folder, made, examples, precision_of(made, device), device)
    tables = ((s[0], s[1]) for name, s in found.items() if len(s) == 2 and ("embed" in name or "wte" in name))
    vocabulary, hidden = max(tables, default=(0, 0))
    return Memory(
        weights=weights + adapter * per_trained,
        gradients=trained * per_trained,
        optimizer=2 * trained * per_trained,
        activations=kept,
        head=_head(made, examples * made.length, vocabulary, hidden, device),
        reference=weights if made.objective in ("dpo", "kto") and not made.adapts else 0,
        about=made,
        name=base.name,
    )


def _head(made: Recipe, tokens: int, vocabulary: int, hidden: int, device: str) -> float:
    """Bytes of logits and their gradients that live at the same time."""
    from llmlab.finetune.loss import CHUNK

    if made.objective == "sft" and device == "cpu":
        copy = 2 * vocabulary * hidden if precision_of(made, device) == "bfloat16" else 0
        return 4 * _CHUNKS * min(CHUNK, tokens * vocabulary) + copy
    copies = _TILES_CPU if device == "cpu" else _TILES_GPU
    return 4 * copies * min(tokens, _TILE_TOKENS) * min(vocabulary, _TILE_VOCABULARY)


def _linear_sizes(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The matrices that get an adapter and are quantised: those of the layers, not embeddings and head."""
    outside = ("embed", "lm_head", "wte", "wpe")
    return {name: s for name, s in found.items() if len(s) == 2 and not any(part in name for part in outside)}


def _halved(made: Recipe, device: str, precision: str) -> bool:
    """Whether `methods.load` reads the whole base in bfloat16."""
    return precision == "bfloat16" and device != "cpu" and made.adapts


def _fused(made: Recipe, device: str) -> bool:
    """Whether `llmlab.finetune.adapters` computes the adapted layers."""
    return device == "cpu" and made.method == "lora" and made.objective == "sft" and not made.dropout


def activations(folder: Path, made: Recipe, examples: int, precision: str, device: str = "cpu") -> float:
    """Bytes that a forward pass keeps for the backward pass."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
    one, two = (_kept(_shortened(config, n), made, examples, precision, device) for n in (1, 2))
    per_layer = two - one
    if not made.checkpointing:
        return one + (layers - 1) * per_layer
    # kept are the inputs of every layer, and one layer at a time in full
    width = 2 if precision == "bfloat16" else 4
    return one + layers * examples * made.length * hidden * width


def _shortened(config: Any, layers: int) -> Any:
    from copy import deepcopy

    short = deepcopy(config)
    short.num_hidden_layers = layers
    if getattr(short, "layer_types", None):
        short.layer_types = short.layer_types[:layers]
    return short


def _kept(config: Any, made: Recipe, examples: int, precision: str, device: str) -> float:
    """Bytes of the tensors that autograd saves in the body of a model, its own parameters left out."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM

    saved: dict[int, Any] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        build: Any = AutoModelForCausalLM.from_config
        model = build(config, dtype=torch.bfloat16 if _halved(made, device, precision) else torch.float32)
        if _fused(made, device):
            _fuse(model, made.rank, torch.bfloat16 if precision == "bfloat16" else torch.float32)
        elif made.method == "qlora":
            _four_bits(model, torch.bfloat16 if _halved(made, device, precision) else torch.float32)
            # TRL keeps adapters of quantised bases in bfloat16: what goes into each is converted, and kept once more
            _adapt(model, made.rank, torch.bfloat16)
        elif made.adapts:
            _adapt(model, made.rank, torch.float32)
        model.train()
        body = getattr(model, model.base_model_prefix)
        own = {id(p.untyped_storage()) for p in model.parameters()}

        def save(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            if id(storage) not in own:
                saved[id(storage)] = storage  # held, so that no other gets its number
            return tensor

        ids = torch.zeros(examples, made.length, dtype=torch.long)
        mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
        with mixed, torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            out = body(ids, use_cache=False)
        return float(sum(storage.nbytes() for storage in saved.values()) + out.last_hidden_state.nbytes)


def _four_bits(model: Any, dtype: Any) -> None:
    """Have every linear layer but the head keep what one of bitsandbytes does, which computes in `dtype`."""
    import torch
    from torch.nn.functional import linear

    def forward(m: Any, x: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return linear(x.to(dtype), m.weight, None if m.bias is None else m.bias.to(dtype)).to(x.dtype)

    head = model.get_output_embeddings()
    for module in list(model.modules()):
        if isinstance(module, torch.nn.Linear) and module is not head:
            module.weight = torch.nn.Parameter(module.weight.to(dtype), requires_grad=False)
            made: Any = module
            made.forward = functools.partial(forward, module)


def _adapt(model: Any, rank: int, dtype: Any) -> None:
    """Add to every linear layer but the head what an adapter adds; PEFT itself cannot work without data."""
    import torch
    from torch.nn.functional import linear

    model.requires_grad_(False)
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        if isinstance(module, torch.nn.Linear) and module is not head:
            module.lora_a = torch.nn.Parameter(torch.empty(rank, module.in_features, dtype=dtype))
            module.lora_b = torch.nn.Parameter(torch.empty(module.out_features, rank, dtype=dtype))

            def update(m: Any, given: Any, out: Any) -> Any:
                return out + (linear(linear(given[0].to(dtype), m.lora_a), m.lora_b) * 2.0).to(out.dtype)

            module.register_forward_hook(update)


def _fuse(model: Any, rank: int, dtype: Any) -> None:
    """Add to every linear layer but the head what an adapter adds, as `llmlab.finetune.adapters` computes it."""
    import torch

    from llmlab.finetune.adapters import Narrow, adapted

    model.requires_grad_(False)
    head, narrow = model.get_output_embeddings(), Narrow(dtype)

    def forward(m: Any, x: Any) -> Any:
        return adapted(narrow(x), m.weight, m.bias, m.lora_a, m.lora_b, 2.0)

    for module in list(model.modules()):
        if isinstance(module, torch.nn.Linear) and module is not head:
            module.lora_a = torch.nn.Parameter(torch.empty(rank, module.in_features))
            module.lora_b = torch.nn.Parameter(torch.empty(module.out_features, rank))
            module.weight = torch.nn.Parameter(module.weight.to(dtype), requires_grad=False)
            made: Any = module
            made.forward = functools.partial(forward, module)
