"""Two-layer random models of several families with a tokenizer of their own: made in milliseconds, every path real.

>>> from llmlab.testing.tiny import tiny_model
>>> folder = tiny_model(tmp_path / "llama")  # doctest: +SKIP
>>> lab.model(f"hf/{folder}").generate("The river")  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# the text that the tokenizer is trained on
WORDS = (
    "The river runs past the old mill and the baker sells bread to every traveller who crosses the bridge. "
    "Question: how many apples does Mira have if she buys three and eats one? Answer: she has two apples left. "
    "A. red B. green C. blue D. yellow. In winter the children skate on the frozen pond, and in summer they swim. "
    "You are a careful helper. system user assistant Antwort: zwölf Äpfel, naïve café, 日本. "
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SHAPE = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # large enough that a random model's answers are not one token repeated
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_STATES = {
    "vocab_size": 400, "hidden_size": 64, "state_size": 8, "num_hidden_layers": 2, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _SHAPE,
    "gpt2": {
        "vocab_size": 400, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.3,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2,
    },
    "qwen2": _SHAPE | {"tie_word_embeddings": True},
    "qwen3": _SHAPE | {"tie_word_embeddings": True, "head_dim": 16},
    "mistral": _SHAPE | {"sliding_window": 16},
    # caps low enough that most scores and logits meet them
    "gemma2": _SHAPE | {
        "head_dim": 16, "sliding_window": 16, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 2.0,
    },
    # queries and keys normalised, a window in every other layer with a rotary base of its own
    "gemma3_text": _SHAPE | {
        "head_dim": 16, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 16,
    },
    "phi3": _SHAPE | {"sliding_window": 16},
    # a layer without positions
    "smollm3": _SHAPE | {"tie_word_embeddings": True, "no_rope_layers": [1, 0], "no_rope_layer_interval": 2},
    "olmo": _SHAPE | {"clip_qkv": 8.0},
    "olmo2": _SHAPE,
    # two experts of four for every token
    "mixtral": _SHAPE | {"intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": _SHAPE | {"intermediate_size": 64} | _EXPERTS,
    # experts that every token sees beside those that it chooses
    "qwen2_moe": _SHAPE | _EXPERTS | {"shared_expert_intermediate_size": 64},
    "qwen3_moe": _SHAPE | _EXPERTS | {"head_dim": 16},
    # positions as a bias of the attention
    "bloom": {
        "vocab_size": 400, "hidden_size": 64, "n_layer": 2, "n_head": 4, "seq_length": 256, "initializer_range": 0.3,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2,
    },
    # no attention at all
    "mamba": _STATES,
    "falcon_mamba": _STATES,
}  # fmt: skip


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 tokens with a ChatML template; adds no special tokens by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS], trainer)
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    make: Any = PreTrainedTokenizerFast  # not typed
    tokenizer: PreTrainedTokenizerFast = make(tokenizer_object=bpe, **special)
    tokenizer.chat_template = CHATML
    return tokenizer


def tiny_model(folder: Path, family: str = "llama", seed: int = 0, **changes: Any) -> Path:
    """Write a random model and its tokenizer into a folder; gives the folder back.

    Args:
        folder: made if it is not there.
        family: one of `FAMILIES` (grouped heads, learned positions, tied weights, sliding windows, capped logits).
        seed: of the random weights.
        changes: of the configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    torch.manual_seed(seed)
    config = CONFIG_MAPPING[family](**FAMILIES[family] | changes)
    make: Any = AutoModelForCausalLM.from_config  # not typed
    model = make(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
