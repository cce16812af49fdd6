"""A model as one GGUF file, as llama.cpp and its kin read it.

Llama, Mistral, Qwen2 and Qwen3 with a byte-level BPE tokenizer. The layout follows llama.cpp's
`convert_hf_to_gguf.py`; for other architectures export "merged" and run that script on the folder.
"""

from __future__ import annotations

import ctypes
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import DataError, MissingPackage, NeedsLocalModel, UnknownName
from llmlab.models.local.transformers import TransformersModel

if TYPE_CHECKING:
    from llmlab.models.base import Model

# model_type of transformers -> architecture of GGUF
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0", "q5_0": "Q5_0", "q4_0": "Q4_0"}
_FILE_TYPES = {"F32": "ALL_F32"} | {kind: f"MOSTLY_{kind}" for kind in ("F16", "BF16", "Q8_0", "Q5_0", "Q4_0")}
_K_QUANTS = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K")
_BY_LLAMA_CPP = (
    "K-quants are made by llama.cpp alone: pip install 'llmlab[llamacpp]', or write 'float16' and run `llama-quantize "
    "in.gguf out.gguf Q4_K_M`; 'gguf/out.gguf' and 'llamacpp/out.gguf' read them"
)
# these matter more than they take: llama.cpp keeps them finer than the rest as well
_FINER = ("token_embd.weight", "output.weight")


def write(model: Model, path: str | os.PathLike[str], dtype: str = "float16") -> Path:
    """Write a local model as a GGUF file; gives the path.

    Args:
        model: of `hf/`, `adapter/` or `micro/`.
        path: of the file; its folder is made.
        dtype: of the matrices: "float32", "float16", "bfloat16", "q8_0", "q5_0" or "q4_0", or GGUF's own name of one
            ("F16"). Vectors stay float32; with 4 and 5 bits embeddings and head are "q8_0". Where llama-cpp-python is,
            K-quants, too ("q4_k_m"), as it makes them of float16.

    Raises:
        UnknownName: for another format, and for K-quants without llama-cpp-python.
        NeedsLocalModel: for a model whose weights are not here.
        DataError: for an architecture or tokenizer that has no layout here.
    """
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingPackage("GGUF files need the package 'gguf': pip install 'llmlab[gguf]'") from error
    path = Path(path)
    kind = _TYPES.get(dtype.lower(), dtype.upper())
    if kind in _K_QUANTS and find_spec("llama_cpp") is not None:
        return _by_llama_cpp(model, path, kind)
    if kind not in _TYPES.values():
        raise UnknownName.among("number format of GGUF", dtype, _TYPES, _BY_LLAMA_CPP)
    if not isinstance(model, TransformersModel):
        raise NeedsLocalModel(
            f"{model.name} has no weights here to be written; give a model of hf/, adapter/ or micro/"
        )
    loaded: Any = model.engine.whole()
    config = loaded.model.config
    if config.model_type not in _ARCHITECTURES:
        raise DataError(
            f"{model.name} is of the architecture {config.model_type!r}; GGUF is written for "
            f"{', '.join(_ARCHITECTURES)}. Export kind='merged' and run llama.cpp's convert_hf_to_gguf.py on it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    writer = gguf.GGUFWriter(half, _ARCHITECTURES[config.model_type])
    _describe(writer, model.name, config, _FILE_TYPES[kind])
    _tokens(writer, loaded.tokenizer, config)
    _tensors(writer, loaded.model, config, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return half.rename(path)


def _by_llama_cpp(model: Model, path: Path, kind: str) -> Path:
    """The float16 file as llama.cpp quantises it."""
    import llama_cpp
    from llama_cpp._logger import set_verbose

    set_verbose(False)
    whole, half = write(model, path.with_suffix(".float16"), "float16"), path.with_suffix(".part")
    asked = llama_cpp.llama_model_quantize_default_params()
    asked.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    try:
        failed = llama_cpp.llama_model_quantize(str(whole).encode(), str(half).encode(), ctypes.byref(asked))
    finally:
        whole.unlink()
    if failed:
        raise DataError(f"llama.cpp cannot write {model.name} as {kind}; its messages on the terminal say why")
    return half.rename(path)


def _describe(writer: Any, name: str, config: Any, file_type: str) -> None:
    import gguf

    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") != "default":
        raise DataError(f"{name}: rotary scaling of the type {rope['rope_type']!r} has no layout here")
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType[file_type])


def _tokens(writer: Any, tokenizer: Any, config: Any) -> None:
    """The vocabulary and merges of a byte-level BPE tokenizer, its special tokens and template."""
    import gguf

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "BPE" or "ByteLevel" not in json.dumps(state["pre_tokenizer"]):
        raise DataError(
            "GGUF is written for byte-level BPE tokenizers; export kind='merged' and run llama.cpp's "
            "convert_hf_to_gguf.py on it"
        )
    added = {token["id"]: token for token in state["added_tokens"]}
    by_id = {i: text for text, i in tokenizer.get_vocab().items()}
    texts, kinds = [], []
    for i in range(config.vocab_size):
        special = i in added and added[i]["special"]
        # embeddings beyond the tokenizer's end are never asked for
        texts.append(by_id.get(i, f"[PAD{i}]"))
        kinds.append(
            gguf.TokenType.CONTROL
            if special
            else gguf.TokenType.USER_DEFINED
            if i in added
            else gguf.TokenType.NORMAL
            if i in by_id
            else gguf.TokenType.UNUSED
        )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitter(state, config))
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in state["model"]["merges"]])
    for name in ("bos", "eos", "pad", "unk"):
        found = getattr(tokenizer, f"{name}_token_id")
        if found is not None:
            getattr(writer, f"add_{name}_token_id")(int(found))
    encoded = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(bool(encoded) and encoded[0] == tokenizer.bos_token_id)
    if tokenizer.chat_template is not None:
        # llama.cpp's templates know no marks of what is trained on
        template = str(tokenizer.chat_template).replace("{% generation %}", "").replace("{% endgeneration %}", "")
        writer.add_chat_template(template)


def _splitter(state: dict[str, Any], config: Any) -> str:
    """llama.cpp's name for the way a tokenizer splits text before merging."""
    text = json.dumps(state["pre_tokenizer"])
    if config.model_type.startswith("qwen"):
        return "qwen2"
    if '"Digits"' in text:
        return "smollm"
    return "llama-bpe" if "1,3" in text else "gpt-2"


def _tensors(writer: Any, model: Any, config: Any, kind: str) -> None:
    import gguf

    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[_ARCHITECTURES[config.model_type].upper()], config.num_hidden_layers
    )
    tied = config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise DataError(f"the tensor {name} has no place in GGUF's {config.model_type}")
        data = tensor.float().cpu().numpy()
        if _ARCHITECTURES[config.model_type] == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            data = _interleaved(data, heads)
        quantised = _format(kind, place, data)
        writer.add_tensor(place, gguf.quantize(data, quantised), raw_dtype=quantised)


def _format(kind: str, place: str, data: Any) -> Any:
    """The format of one tensor."""
    import gguf

    if data.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    found = gguf.GGMLQuantizationType["Q8_0" if place in _FINER and kind in ("Q4_0", "Q5_0") else kind]
    # blocks do not go beyond the end of a row
    return gguf.GGMLQuantizationType.F16 if data.shape[-1] % gguf.GGML_QUANT_SIZES[found][0] else found


def _interleaved(weight: Any, heads: int) -> Any:
    """Rows as llama.cpp rotates them: pairs side by side, where transformers rotates halves."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
