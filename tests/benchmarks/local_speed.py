"""Tokens per second of the local engine against transformers, on the same random weights and prompts in one run.

python tests/benchmarks/local_speed.py --layers 30 --rows 16 --repeats 3

The model has the shape of SmolLM2-135M (30 layers; fewer for a quick look) in float32, on one thread. Every way writes
the same number of greedy tokens after the same prompts, in turns: one prompt after the other and all in a padded batch
by `generate`, transformers' continuous batching, ours, and llama.cpp where its package is (one after the other, from a
float32 file and one of 8 bits; it keeps what a prompt shares with the one before). Prompts share most of their tokens,
or none. Told are medians of tokens per CPU second, prompts read and tokens written apart; how many times faster the
whole was than one by one and than the padded batch; and how many answers have the same tokens as one by one.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from llmlab.finetune.presets import named
from llmlab.models.local.engine import Prompted
from llmlab.models.local.generation import Row
from llmlab.models.local.transformers import TransformersModel
from llmlab.testing.tiny import tiny_tokenizer
from llmlab.types import Options, Request

Ids = list[list[int]]
Way = Callable[[Ids, int], Ids]
_PAGE = 256


def build(folder: Path, layers: int) -> None:
    shape = named("smollm2-135m").architecture | {"num_hidden_layers": layers, "initializer_range": 0.1}
    torch.manual_seed(0)
    config = AutoConfig.for_model(**shape, bos_token_id=0, eos_token_id=2, pad_token_id=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def prompts(rows: int, shared: int, own: int, seed: int) -> Ids:
    # different lengths, as questions have, but the same for every seed
    source = torch.Generator().manual_seed(1)
    lengths = torch.randint(own // 2, own + own // 2, (rows,), generator=source).tolist()
    source.manual_seed(seed)
    first = torch.randint(3, 49152, (shared,), generator=source).tolist()
    return [first + torch.randint(3, 49152, (n,), generator=source).tolist() for n in lengths]


def ours(model: TransformersModel) -> Way:
    def write(asked: Ids, new: int) -> Ids:
        engine = model.engine
        request = Request((), Options(max_tokens=new))
        rows = [Row.of(request, ids, engine.tokens, engine.ends, engine.loaded.context) for ids in asked]
        engine.write([Prompted(row) for row in rows])
        return [row.written for row in rows]

    return write


def padded(model: Any) -> Way:
    def write(asked: Ids, new: int) -> Ids:
        width = max(map(len, asked))
        ids = torch.tensor([[2] * (width - len(p)) + p for p in asked])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in asked])
        settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        with torch.inference_mode():
            return model.generate(ids, attention_mask=mask, **settings)[:, width:].tolist()

    return write


def continuous(model: Any) -> Way:
    def write(asked: Ids, new: int) -> Ids:
        settings = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=2)
        # by itself it takes most of the memory for keys and values, and on a CPU a minute to fill it with zeros
        pages = sum(-(-(len(ids) + new) // _PAGE) for ids in asked) + len(asked)
        room = ContinuousBatchingConfig(page_size=_PAGE, num_blocks=pages, max_batch_tokens=2048)
        found = model.generate_batch(asked, settings, room, warmup=False)
        return [found[f"req_{i}"].generated_tokens for i in range(len(asked))]

    return write


def one_by_one(model: Any) -> Way:
    batch = padded(model)
    return lambda asked, new: [row for ids in asked for row in batch([ids], new)]


def llama_cpp(model: TransformersModel, folder: Path, dtype: str) -> Way:
    from llama_cpp import Llama

    from llmlab.finetune.gguf import write as write_gguf

    file = write_gguf(model, folder / f"{dtype}.gguf", dtype)
    llama = Llama(str(file), n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False)

    def write(asked: Ids, new: int) -> Ids:
        found = []
        for ids in asked:
            tokens = llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0)
            found.append([token for token, _ in zip(tokens, range(new), strict=False)])
        return found

    return write


def measure(ways: dict[str, Way], ask: Callable[[int], Ids], new: int, repeats: int) -> None:
    asked = ask(0)
    read, written = sum(map(len, asked)), len(asked) * (new - 1)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    tokens: dict[str, Ids] = {}
    for way in ways.values():
        way(asked[:2], 2)  # warms up
    for repeat in range(1, repeats + 1):
        # new ones each time: ours would find the beginning of those before in its cache
        short, long = ask(2 * repeat), ask(2 * repeat + 1)
        for name, way in ways.items():
            began = time.process_time()
            way(short, 1)
            first = time.process_time() - began
            began = time.process_time()
            tokens[name] = way(long, new)
            times[name].append((first, time.process_time() - began))
    plain, batch = (statistics.median(whole for _, whole in times[name]) for name in ("one by one", "padded"))
    for name in ways:
        prefill = statistics.median(read / first for first, _ in times[name])
        whole = statistics.median(whole for _, whole in times[name])
        decode = written / (whole - statistics.median(first for first, _ in times[name]))
        same = sum(a == b for a, b in zip(tokens[name], tokens["one by one"], strict=True))
        print(
            f"  {name:12} read {prefill:7,.0f}/s  written {decode:6,.0f}/s  whole {whole:6.2f} CPU s  "
            f"{plain / whole:5.2f} x one by one, {batch / whole:5.2f} x padded  same tokens {same}/{len(asked)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"layers": 30, "rows": 16, "shared": 256, "own": 64, "new": 32, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), given.layers)
        local = TransformersModel(f"hf/{folder}", device="cpu", threads=1)
        plain: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        for shared in (given.shared, 0):
            own = given.own if shared else given.own + given.shared // 2
            ask = functools.partial(prompts, given.rows, shared, own)
            print(
                f"{given.rows} prompts, {shared} tokens in common, {sum(map(len, ask(0))) / given.rows:.0f} on average"
            )
            ways = {"one by one": one_by_one(plain), "padded": padded(plain), "continuous": continuous(plain)}
            if importlib.util.find_spec("llama_cpp"):
                kinds = {"llama.cpp": "float32", "llama.cpp q8": "q8_0"}
                ways |= {name: llama_cpp(local, Path(folder), kind) for name, kind in kinds.items()}
            measure(ways | {"ours": ours(local)}, ask, given.new, given.repeats)


if __name__ == "__main__":
    main()
