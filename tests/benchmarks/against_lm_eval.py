#!/usr/bin/env python3
"""The local engine beside lm-evaluation-harness: same rows, same model, same machine, CPU seconds of one thread.

    python tests/benchmarks/against_lm_eval.py [--tasks mmlu,hellaswag,arc25,arc25fixed,arc0,gsm8k] [--limit 40]

Needs the rows of the benchmarks (LLMLAB_BENCHMARKS, or ../shared/benchmarks beside the checkout) and, once, a
package index: lm-eval gets an environment of its own under --work. The model has SmolLM2-135M's shape and random
weights; its tokenizer is trained on the rows. Prints per task the largest difference of a log-likelihood, how many
picks (or answers) agree, CPU seconds of both and their ratio. Both sides run in processes of their own, one after
the other; lm-eval's batch size is the best of --batch-sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.4.13"
# task -> lm-eval's task, shots, and whether the same first shots are given to every question
TASKS: dict[str, tuple[str, int | None, bool]] = {
    "mmlu": ("mmlu_abstract_algebra", 5, False),
    "mmlu_long": ("mmlu_us_foreign_policy", 5, False),
    "hellaswag": ("hellaswag", 0, False),
    "arc0": ("arc_easy", 0, False),
    "arc25": ("arc_challenge", 25, False),
    "arc25fixed": ("arc_challenge", 25, True),
    "winogrande": ("winogrande", 0, False),
    "truthfulqa": ("truthfulqa_mc2", 0, False),
    "gsm8k": ("gsm8k_cot", 8, False),
}
NEW_TOKENS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="mmlu,hellaswag,arc0,arc25,arc25fixed,gsm8k")
    parser.add_argument("--limit", type=int, default=40, help="questions per task")
    parser.add_argument("--batch-sizes", default="1", help="lm-eval's, comma-separated; generation always takes 8")
    parser.add_argument("--vocabulary", type=int, default=8192, help="rows of the model's head (SmolLM2 has 49152)")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "llmlab-against-lm-eval")
    parser.add_argument("--again", action="store_true", help="measure lm-eval again, although it was measured before")
    parser.add_argument("--side", choices=["both", "lm-eval", "llmlab"], default="both", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side == "lm-eval":
        return run_lm_eval(args)
    if args.side == "llmlab":
        return run_llmlab(args)
    python = environment(args.work)
    model(args)
    print(f"{'task':<12}{'questions':>10}{'max diff':>10}{'same picks':>12}{'lm-eval':>9}{'llmlab':>9}{'ratio':>8}  CPU s")
    for task in args.tasks.split(","):
        print(compare(args, task, python), flush=True)


def compare(args: argparse.Namespace, task: str, python: Path) -> str:
    """One line of the table."""
    sizes = [8] if task == "gsm8k" else [int(size) for size in args.batch_sizes.split(",")]
    theirs = []
    for size in sizes:
        out = args.work / f"{task}-{args.limit}-{args.vocabulary}-bs{size}.json"
        if args.again or not out.exists():
            side(args, "lm-eval", python, task, out, "--batch-size", str(size))
        theirs.append(json.loads(out.read_text()))
    best = min(theirs, key=lambda t: t["cpu"])
    out = args.work / f"{task}-llmlab.json"
    side(args, "llmlab", Path(sys.executable), task, out, "--batch-size", str(sizes[0]))
    ours = json.loads(out.read_text())
    if "answers" in best:
        same = sum(a == b for a, b in zip(best["answers"], ours["answers"], strict=True))
        difference, agree = "", f"{same}/{len(best['answers'])}"
    else:
        difference = f"{max(abs(a - b) for a, b in zip(best['logprobs'], ours['logprobs'], strict=True)):.1e}"
        same = sum(pick(best, q) == pick(ours, q) for q in best["questions"])
        agree = f"{same}/{len(best['questions'])}"
    n = len(best.get("questions") or best["answers"])
    return (
        f"{task:<12}{n:>10}{difference:>10}{agree:>12}{best['cpu']:>9.1f}{ours['cpu']:>9.1f}"
        f"{best['cpu'] / ours['cpu']:>7.1f}x  {ours['note']}"
    )


def pick(side: dict[str, Any], question: list[int]) -> int:
    return max(question, key=side["logprobs"].__getitem__)


def side(args: argparse.Namespace, name: str, python: Path, task: str, out: Path, *more: str) -> None:
    """Run one side of the comparison in a process of its own."""
    command = [python, __file__, "--side", name, "--task", task, "--out", out, *more]
    command += ["--limit", args.limit, "--work", args.work, "--vocabulary", args.vocabulary]
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(ROOT) if name == "llmlab" else "",
    }
    subprocess.run([str(c) for c in command], check=True, env=env)


def rows_folder() -> Path:
    folder = Path(os.environ.get("LLMLAB_BENCHMARKS") or ROOT.parent / "shared" / "benchmarks")
    if not folder.is_dir():
        sys.exit("set LLMLAB_BENCHMARKS to a folder of benchmark rows: <name>/<config>/<split>.jsonl")
    return folder


def environment(work: Path) -> Path:
    """lm-eval's own Python, with the same torch and transformers as ours."""
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        import torch
        import transformers

        venv.create(work / "venv", with_pip=True)
        pins = [f"torch=={torch.__version__.split('+')[0]}", f"transformers=={transformers.__version__}"]
        subprocess.run([python, "-m", "pip", "install", "-q", *pins, "accelerate", f"lm-eval=={VERSION}"], check=True)
    return python


def model(args: argparse.Namespace) -> Path:
    """A random model of SmolLM2-135M's shape with a tokenizer of 8192 tokens."""
    folder: Path = args.work / f"smol-{args.vocabulary}"
    if (folder / "config.json").exists():
        return folder
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8192, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=special[0], eos_token=special[2], pad_token=special[2], model_max_length=8192
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
        vocab_size=args.vocabulary, tie_word_embeddings=True, max_position_embeddings=8192, initializer_range=1 / 24,
        rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=2, pad_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    )  # fmt: skip
    LlamaForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def corpus() -> list[str]:
    files = ["gsm8k/main/test.jsonl", "ai2_arc/ARC-Challenge/test.jsonl", "mmlu/all/validation.jsonl"]
    return [line for file in files for line in (rows_folder() / file).read_text().splitlines()]


# -- in lm-eval's environment -------------------------------------------------------------------------------


def run_lm_eval(args: argparse.Namespace) -> None:
    import datasets
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(1)
    datasets.load_dataset = local_rows
    name, shots, fixed = TASKS[args.task]
    spec: Any = name
    manager = TaskManager()
    if fixed:
        spec = {"task": name, "fewshot_config": {"sampler": "first_n"}, "num_fewshot": shots}

    class Timed(HFLM):
        cpu = 0.0

        def _timed(self, f: Any, *a: Any, **k: Any) -> Any:
            began = time.process_time()
            try:
                return f(*a, **k)
            finally:
                self.cpu += time.process_time() - began

        def loglikelihood(self, requests: Any, **k: Any) -> Any:
            self.requests = requests
            self.results = self._timed(super().loglikelihood, requests, **k)
            return self.results

        def generate_until(self, requests: Any, **k: Any) -> Any:
            self.requests = requests
            self.results = self._timed(super().generate_until, requests, **k)
            return self.results

    lm = Timed(
        pretrained=str(model(args)), device="cpu", dtype="float32", batch_size=args.batch_size, max_length=8192
    )
    lm_eval.simple_evaluate(
        model=lm, tasks=[spec], num_fewshot=None if fixed else shots, limit=args.limit, task_manager=manager,
        bootstrap_iters=0, gen_kwargs=f"max_gen_toks={NEW_TOKENS}" if args.task == "gsm8k" else None,
    )  # fmt: skip
    found: dict[str, Any] = {"cpu": lm.cpu}
    if args.task == "gsm8k":
        found |= {"prompts": [r.args[0] for r in lm.requests], "until": lm.requests[0].args[1]["until"]}
        found["answers"] = lm.results
    else:
        found |= {"requests": [list(r.args) for r in lm.requests], "logprobs": [r[0] for r in lm.results]}
        found["greedy"] = [r[1] for r in lm.results]
        documents: dict[int, list[int]] = {}
        for i, request in enumerate(lm.requests):
            documents.setdefault(request.doc_id, []).append(i)
        found["questions"] = list(documents.values())
    args.out.write_text(json.dumps(found))


def local_rows(path: str, name: str | None = None, split: str | None = None, **_: Any) -> Any:
    """`datasets.load_dataset` on the folder of rows."""
    import datasets

    base = rows_folder() / path.partition("/")[2].lower()
    folder = base / (name or "default")
    folder = folder if folder.is_dir() else base / "default"
    found = {p.stem: datasets.Dataset.from_list([json.loads(x) for x in p.open()]) for p in sorted(folder.glob("*.jsonl"))}
    if not found:
        raise FileNotFoundError(folder)
    return datasets.DatasetDict(found) if split is None else found[split]


# -- in ours ------------------------------------------------------------------------------------------------


def run_llmlab(args: argparse.Namespace) -> None:
    import resource

    import llmlab as lab
    from llmlab.types import Message, Options, Request

    dump = next(args.work.glob(f"{args.task}-{args.limit}-{args.vocabulary}-bs*.json"))
    theirs = json.loads(dump.read_text())
    lm = lab.model(f"hf/{model(args)}", device="cpu", threads=1)
    lm.load()
    lm.logprob("Warm", [" up"])
    began = time.process_time()
    if "prompts" in theirs:
        options = Options(max_tokens=NEW_TOKENS, stop=tuple(theirs["until"]))
        requests = [Request((Message("user", p),), options, template=False) for p in theirs["prompts"]]
        found: dict[str, Any] = {"answers": [r.text for r in lm.generate_batch(requests)]}
    else:
        queries: list[tuple[str, list[str]]] = []
        for context, continuation in theirs["requests"]:
            if queries and queries[-1][0] == context:
                queries[-1][1].append(continuation)
            else:
                queries.append((context, [continuation]))
        found = {"logprobs": [r.logprob for results in lm.logprob_batch(queries) for r in results]}
    found["cpu"] = time.process_time() - began
    found["note"] = f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
    args.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
