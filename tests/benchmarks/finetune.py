"""Useful tokens per CPU second, peak memory and loss of fine-tuning, ours against plain TRL.

    python tests/benchmarks/finetune.py [--rows 48] [--shape 135M] [--method lora] [--data rows.jsonl] [--rounds 1]
                                        [--precision auto] [--seed 0] [--only trl-same ours]

The same rows, model and seed, batches of 8 of at most 256 tokens, rank 16, one thread, one pass over the rows:

    trl           SFTTrainer in its defaults (rows of prompt and completion, checkpointing, bfloat16 everywhere)
    trl-float32   the same in float32, which is faster where the CPU has no bfloat16 instructions
    trl-same      SFTTrainer with our settings: no checkpointing, our schedule, and our number format
    ours          `lab.finetune`: every example of a batch by itself, no padding
    ours-sorted   with packing=False: padded batches of examples of about one length
    ours-padded   with packing=False, sort_lengths=False: padded batches as they come

Each runs in a process of its own; peak memory is what it holds beyond the imports. Padding is not counted as useful.
The loss is measured afterwards on the same rows, by plain transformers. `trl-same`, `ours` and `ours-padded` see the
same rows in the same steps from the same first adapter, so the losses of their steps are compared too. Rows are
questions and worked answers of very different lengths, made here unless a file is given; the model has no chat
template, so both sides train on the same tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

SHAPES: dict[str, dict[str, Any]] = {
    "135M": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152,
    },
    "40M": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152,
    },
}  # fmt: skip
LENGTH, BATCH, RANK = 256, 8, 16

# seconds of CPU and of the clock, losses of the steps, and what gives the trained model
Ran: TypeAlias = tuple[float, float, list[float], Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--shape", choices=SHAPES, default="135M")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--only", nargs="*", default=["trl", "trl-float32", "trl-same", "ours", "ours-sorted", "ours-padded"]
    )
    parser.add_argument("--rounds", type=int, default=1, help="in turns; medians are reported")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="ours, trl-same")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.child:
        print("RESULT", json.dumps(_child(given.child, given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder), given)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in given.only}
        for name in [*given.only] * given.rounds:
            command = [sys.executable, "-W", "ignore", __file__, "--child", name, "--folder", folder]
            command += ["--method", given.method, "--precision", given.precision, "--seed", str(given.seed)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
            print(name, lines[0].removeprefix("RESULT ") if lines else done.stderr[-2000:], flush=True)
            found[name] += [json.loads(line.removeprefix("RESULT ")) for line in lines]
    _ratios({name: lines for name, lines in found.items() if lines})


def _ratios(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print medians, and each against the first."""
    columns = ("useful_per_cpu_second", "peak_gb", "loss")
    middle = {name: {c: statistics.median(x[c] for x in lines) for c in columns} for name, lines in found.items()}
    base = next(iter(middle.values()))
    for name, one in middle.items():
        speed, size = (one[c] / base[c] for c in columns[:2])
        print(f"{name:12} speed {speed:.2f}x, memory {size:.2f}x, loss {one['loss']:.3f}", flush=True)
    if "trl-same" in found:
        theirs = found["trl-same"][0]["step_losses"]
        for name in {"ours", "ours-padded"} & found.keys():
            most = max(abs(a - b) for a, b in zip(theirs, found[name][0]["step_losses"], strict=True))
            print(f"{name:12} losses of {len(theirs)} steps differ from those of trl-same by at most {most:.1e}")


def _prepare(folder: Path, given: argparse.Namespace) -> None:
    from llmlab.testing.tiny import tiny_model

    fixed = {"max_position_embeddings": 2048, "initializer_range": 0.02, "tie_word_embeddings": True}
    tiny_model(folder / "model", "llama", **fixed, **SHAPES[given.shape])
    # the library would render rows by it, a plain script would not
    (folder / "model" / "chat_template.jinja").unlink()
    if given.data:
        rows = [json.loads(line) for line in given.data.read_text().splitlines()][: given.rows]
        rows = [{"prompt": f"Question: {r['question']}\nAnswer:", "completion": " " + r["answer"]} for r in rows]
    else:
        rng = random.Random(0)
        words = ["river", "mill", "baker", "bread", "apples", "seven", "three", "takes", "gives", "then", "the", "a"]
        text = lambda n: " ".join(rng.choice(words) for _ in range(n))  # noqa: E731
        # as in GSM8K: questions of about 45 words, answers of about 50, both with a long tail
        sizes = [(int(rng.lognormvariate(3.3, 0.45)), int(rng.lognormvariate(3.3, 0.6))) for _ in range(given.rows)]
        rows = [{"prompt": f"Question: {text(a)}\nAnswer:", "completion": f" {text(b)}"} for a, b in sizes]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _child(name: str, given: argparse.Namespace) -> dict[str, Any]:
    import bitsandbytes  # noqa: F401
    import peft  # noqa: F401
    import torch
    import trl  # noqa: F401
    from transformers import AutoTokenizer

    from llmlab.models.local import loading  # noqa: F401

    torch.set_num_threads(1)
    folder = given.folder
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    useful = sum(min(LENGTH, len(tokenizer(r["prompt"] + r["completion"])["input_ids"]) + 1) for r in rows)
    base = _resident()
    Path("/proc/self/clear_refs").write_text("5")
    cpu, wall, losses, after = (_ours if name.startswith("ours") else _trl)(folder, rows, given, name)
    peak = next(
        int(x.split()[1]) * 1024 for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")
    )
    return {
        "useful_tokens": useful,
        "cpu_seconds": round(cpu, 1),
        "seconds": round(wall, 1),
        "useful_per_cpu_second": round(useful / cpu, 1),
        "peak_gb": round((peak - base) / 1e9, 2),
        "loss": round(_loss(after(), tokenizer, rows), 4),
        "step_losses": [round(x, 5) for x in losses],
    }


def _loss(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> float:
    """Loss per token of the answers of some rows, in nats."""
    import torch

    total, n = 0.0, 0
    for row in rows[:8]:
        ids = tokenizer(row["prompt"] + row["completion"], return_tensors="pt")["input_ids"][:, :LENGTH]
        labels = ids.clone()
        labels[:, : len(tokenizer(row["prompt"])["input_ids"])] = -100
        with torch.no_grad():
            logits = model.eval()(ids).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum"))
        n += int((labels[:, 1:] != -100).sum())
    return total / n


def _trl(folder: Path, rows: list[dict[str, str]], given: argparse.Namespace, name: str) -> Ran:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    from llmlab.finetune.config import recipe
    from llmlab.finetune.methods import precision_of

    plain: dict[str, Any] = {"bf16": False} if name == "trl-float32" else {}
    if name == "trl-same":
        made = recipe("lora", precision=given.precision)
        plain = {"activation_checkpointing": False, "gradient_checkpointing": False, "lr_scheduler_type": "cosine"}
        plain |= {"warmup_steps": math.ceil(made.warmup * math.ceil(len(rows) / BATCH))}
        plain |= {"bf16": precision_of(made, "cpu") == "bfloat16"}
    config = SFTConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=BATCH, num_train_epochs=1, max_length=LENGTH,
        use_cpu=True, save_strategy="no", learning_rate=1e-4, disable_tqdm=True, seed=given.seed, logging_steps=1,
        **plain,
    )  # fmt: skip
    adapter = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    four: Any = None
    if given.method == "qlora":
        make: Any = BitsAndBytesConfig
        four = make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, quantization_config=four)
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        peft_config=adapter if given.method != "full" else None,
    )
    start = time.process_time(), time.perf_counter()
    trainer.train()
    spent = time.process_time() - start[0], time.perf_counter() - start[1]
    trainer.save_model(str(folder / "theirs"))

    def again() -> Any:
        """In float32, as ours is measured: the trainer's model computes in its own format."""
        kept = folder / ("theirs" if given.method == "full" else "model")
        base = AutoModelForCausalLM.from_pretrained(kept, dtype=torch.float32, quantization_config=four)
        return base if given.method == "full" else PeftModel.from_pretrained(base, folder / "theirs")

    return *spent, [line["loss"] for line in trainer.state.log_history if "loss" in line], again


def _ours(folder: Path, rows: list[dict[str, str]], given: argparse.Namespace, name: str) -> Ran:
    from llmlab.finetune.train import finetune

    tuned = finetune(
        f"hf/{folder / 'model'}", rows, given.method, folder=folder / name, cache=False, progress=False, threads=1,
        epochs=1, batch=BATCH, length=LENGTH, rank=RANK, learning_rate=1e-4, validation=0.0, accumulate=1,
        checkpointing=False, packing="auto" if name == "ours" else False, sort_lengths=name != "ours-padded",
        precision=given.precision, seed=given.seed,
    )  # fmt: skip
    spent = tuned.record["spent"]
    losses = tuned.curves["loss"].dropna().tolist()
    return spent["cpu_seconds"], spent["seconds"], losses, lambda: tuned.model.load().model  # type: ignore[attr-defined]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
