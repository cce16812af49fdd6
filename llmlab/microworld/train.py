"""Train the embedded models from scratch on the generated stream."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from llmlab.microworld.batches import TOKENS_PER_STEP, Batch, batches
from llmlab.microworld.corpus import document
from llmlab.microworld.muon import Muon
from llmlab.microworld.tokenizer import BOS, CONTEXT, END, PAD, train_tokenizer, wrap

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Shape and budget of one model.

    Widths are multiples of 64 (nf4 blocks), and those of the base model of 256 (llama.cpp K-quants).
    """

    hidden: int
    feedforward: int
    layers: int
    heads: int
    key_value_heads: int
    tokens: int  # of training, in all
    matrix_lr: float = 0.02  # Muon
    other_lr: float = 5e-3  # AdamW, for embeddings and norms
    warmup: int = 50  # steps
    curriculum: float = 0.1  # share of the steps that start with copying
    decay: float = 0.8  # share of the steps over which the rates fall to zero


RECIPES = {
    "micro-tiny": Recipe(hidden=64, feedforward=128, layers=4, heads=4, key_value_heads=2, tokens=1_250_000),
    "micro-small": Recipe(hidden=128, feedforward=256, layers=4, heads=4, key_value_heads=2, tokens=1_250_000),
    "micro-base": Recipe(hidden=256, feedforward=512, layers=4, heads=4, key_value_heads=2, tokens=6_500_000),
}


def new_model(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    """An untrained model of that shape, with tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feedforward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


def schedule(step: int, steps: int, recipe: Recipe) -> float:
    """Share of the full learning rate: a short rise, a plateau, and a long fall to zero."""
    rise = min(1.0, (step + 1) / recipe.warmup)
    return rise * min(1.0, (steps - step) / (recipe.decay * steps))


def _loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy, in nats; logits only where a token has weight."""
    states = model.model(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
    ).last_hidden_state
    weights = batch.weights[:, 1:].flatten()
    scored = weights.nonzero().squeeze(1)
    logits = model.lm_head(states[:, :-1].flatten(0, 1)[scored])
    losses = F.cross_entropy(logits, batch.ids[:, 1:].flatten()[scored], reduction="none")
    return (losses * weights[scored]).sum() / weights.sum()


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    adam = torch.optim.AdamW(others, recipe.other_lr, betas=(0.9, 0.95), weight_decay=0.0)
    return [Muon(matrices, recipe.matrix_lr), adam]


class _Average:
    """Running mean of the weights over the last hundred steps or so: usable at any moment of the training."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.weights = [p.detach().clone() for p in model.parameters()]

    def update(self, model: LlamaForCausalLM, step: int) -> None:
        torch._foreach_lerp_(self.weights, [p.detach() for p in model.parameters()], max(0.01, 1 / (step + 1)))

    def copy(self, model: LlamaForCausalLM) -> LlamaForCausalLM:
        averaged = LlamaForCausalLM(model.config)
        for target, source in zip(averaged.parameters(), self.weights, strict=True):
            target.data.copy_(source)
        return averaged


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a plain Hugging Face folder, weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    half: Any = torch.nn.Module.to(model, torch.bfloat16)
    greedy: Any = GenerationConfig  # its constructor has no annotations
    half.generation_config = greedy(do_sample=False, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=END)
    half.save_pretrained(folder)
    wrap(tokenizer).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes 0600, which a packaged file must not have


def train(
    name: str, out: Path, tokens: int | None = None, seed: int = 0, device: str = "cpu", save_every: int = 250
) -> Path:
    """Train one model and save it under `out`; return its folder.

    Args:
        name: a key of RECIPES.
        out: parent folder of the checkpoint.
        tokens: length of the training, instead of the recipe's.
        seed: of the weights and the stream. The same seed gives the same text everywhere; the weights agree bit for
            bit only on the same processor, thread count and torch version.
        device: "cpu", "cuda" or any torch device.
        save_every: steps between checkpoints of the averaged weights.
    """
    recipe = RECIPES[name]
    torch.manual_seed(seed)
    rng = Random(seed)
    tokenizer = train_tokenizer(seed=seed)
    model = new_model(recipe, tokenizer.get_vocab_size())
    torch.nn.Module.to(model, device)
    steps = (tokens or recipe.tokens) // TOKENS_PER_STEP
    step = 0
    stream = batches(tokenizer, lambda: document(rng, rng.random() < _copying(step, steps, recipe)), rng)
    optimizers, average, started, loss = _optimizers(model, recipe), _Average(model), time.monotonic(), float("nan")
    for step, value in enumerate(_steps(model, optimizers, stream, steps, recipe, device)):
        loss = value if step == 0 else 0.98 * loss + 0.02 * value
        average.update(model, step)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save(average.copy(model), tokenizer, out / name)
            seconds = time.monotonic() - started
            _log.info("%s step %d of %d, loss %.3f, %.0f s", name, step + 1, steps, loss, seconds)
    return out / name


def _copying(step: int, steps: int, recipe: Recipe) -> float:
    """Share of curriculum documents: most at first, none after the curriculum."""
    return 0.8 if step < recipe.curriculum * steps else 0.0


def _steps(
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    stream: Iterator[Batch],
    steps: int,
    recipe: Recipe,
    device: str,
) -> Iterator[float]:
    """Run the optimiser, yielding the loss of each step."""
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    model.train()
    for step, batch in zip(range(steps), stream, strict=False):
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * schedule(step, steps, recipe)
        moved = Batch(*(tensor.to(device) for tensor in (batch.ids, batch.positions, batch.weights, batch.mask)))
        loss = _loss(model, moved)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        yield loss.item()
