"""Predicted against measured peak memory of a training, part by part.

    python tests/benchmarks/memory.py [--shapes small medium] [--methods full lora qlora] [--checkpointing]
                                      [--precision bfloat16]

Each cell trains two steps on rows of the full length in a process of its own; measured is the resident memory at the
peak beyond what it was after the imports. Of a GPU nothing is said here: `torch.cuda.max_memory_allocated` is exact.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 2, "vocab_size": 8192,
    },
    "medium": {
        "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 12,
        "num_key_value_heads": 4, "vocab_size": 16384,
    },
    "135M": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152,
    },
}  # fmt: skip
BATCH, LENGTH = 8, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=["small", "medium"])
    parser.add_argument("--methods", nargs="*", default=["full", "lora", "qlora"])
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--child", nargs=2, metavar=("SHAPE", "METHOD"))
    given = parser.parse_args()
    if given.child:
        print("RESULT", json.dumps(_child(*given.child, given.checkpointing, given.precision)))
        return
    print(f"{'shape':8} {'method':6} {'predicted':>9} {'measured':>9} ratio   parts (MB)")
    for shape in given.shapes:
        for method in given.methods:
            found = measured(shape, method, given.checkpointing, given.precision)
            parts = ", ".join(f"{k} {v:.0f}" for k, v in found["parts"].items() if v >= 0.5)
            line = f"{shape:8} {method:6} {found['predicted']:9.0f} {found['measured']:9.0f} {found['ratio']:5.2f}"
            print(f"{line}   {parts}", flush=True)


def measured(shape: str, method: str, checkpointing: bool = False, precision: str = "auto") -> dict[str, Any]:
    """Predicted and measured peak in MB, their ratio, and the parts of the prediction."""
    command = [sys.executable, "-W", "ignore", __file__, "--precision", precision, "--child", shape, method]
    command += ["--checkpointing"] if checkpointing else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return found


def _child(shape: str, method: Any, checkpointing: bool, precision: str) -> dict[str, Any]:
    import bitsandbytes  # noqa: F401  # what the imports take is not the training's
    import peft  # noqa: F401
    import torch
    from datasets import Dataset

    import llmlab as lab
    from llmlab.finetune import methods, trainers
    from llmlab.finetune.base import fresh_tokenizer
    from llmlab.finetune.memory import memory
    from llmlab.finetune.rows import Rows
    from llmlab.finetune.watch import Watch
    from llmlab.testing.tiny import tiny_model

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = tiny_model(
            Path(place) / "model", max_position_embeddings=512, tie_word_embeddings=True, **SHAPES[shape]
        )
        source = lab.model(f"hf/{folder}").source  # type: ignore[attr-defined]
        fields: dict[str, Any] = {
            "batch": BATCH,
            "length": LENGTH,
            "checkpointing": checkpointing,
            "precision": precision,
        }
        predicted = memory(folder, method, **fields)
        made = predicted.about.model_copy(update={"steps": 2, "validation": 0.0})
        ids = list(range(5, 5 + LENGTH))
        rows = Rows(Dataset.from_list([{"input_ids": ids, "labels": ids}] * 2 * BATCH), None, None, ())  # type: ignore[arg-type]
        tokenizer = fresh_tokenizer(folder)
        trainers._classes("sft")  # imports the trainer
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        with methods.quiet():
            model = methods.load(source, made)
            trainers.trainer(model, tokenizer, rows, made, Path(place) / "run", Watch(), source).train()
        peak = _status("VmHWM") - before
    parts = (predicted.table.drop("peak") * 1000).round(1).to_dict()
    return {"predicted": predicted.peak / 1e6, "measured": peak / 1e6, "ratio": predicted.peak / peak, "parts": parts}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
