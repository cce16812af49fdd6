#!/usr/bin/env python3
"""The local engine beside lm-evaluation-harness: same rows, same model, same machine, CPU seconds of one thread.

    python tests/benchmarks/against_lm_eval.py [--tasks mmlu,hellaswag,arc25,arc25fixed,gsm8k] [--limit 40]

Needs the rows of the benchmarks (LLMLAB_BENCHMARKS, or ../shared/benchmarks beside the checkout) and, once, a
package index: lm-eval gets an environment of its own under --work. The model has SmolLM2-135M's shape and random
weights; its tokenizer is trained on the rows.

Ours is the whole of `lab.evaluate`: wording, tokenising, computing, storing, scoring; of lm-eval only what its model
does is counted, at the best of --batch-sizes. `arc25fixed` (the same shots for every question) is no benchmark of
ours: there the engine gets lm-eval's own requests. Per task: questions, the largest difference of a
log-likelihood, picks (or answers) that agree, both scores, CPU seconds and their ratio, our share of the
machine's matmul peak, and our peak memory.
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
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.4.13"


class Task(NamedTuple):
    """lm-eval's task and shots; our benchmark with its settings, or the first shots for every question."""

    theirs: str
    shots: int
    ours: str = ""
    settings: dict[str, Any] = {}  # noqa: RUF012  # never changed


TASKS = {
    "mmlu": Task("mmlu_abstract_algebra", 5, "mmlu", {"subjects": "abstract_algebra", "shots": 5}),
    "mmlu_policy": Task("mmlu_us_foreign_policy", 5, "mmlu", {"subjects": "us_foreign_policy", "shots": 5}),
    "hellaswag": Task("hellaswag", 0, "hellaswag", {"shots": 0}),
    "arc0": Task("arc_easy", 0, "arc_easy", {"shots": 0}),
    "arc25": Task("arc_challenge", 25, "arc_challenge", {"shots": 25}),
    "arc25fixed": Task("arc_challenge", 25),
    "winogrande": Task("winogrande", 0, "winogrande", {"shots": 0}),
    "truthfulqa": Task("truthfulqa_mc2", 0, "truthfulqa"),
    "gsm8k": Task("gsm8k_cot", 8, "gsm8k_cot", {"shots": 8}),
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
    if args.side != "both":
        (run_lm_eval if args.side == "lm-eval" else run_llmlab)(args)
        return
    python = environment(args.work)
    model(args)
    print(
        f"{'task':<12}{'n':>5}{'max diff':>10}{'same':>9}{'scores':>16}{'lm-eval':>9}{'llmlab':>9}{'ratio':>8}  CPU s"
    )
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
        pairs = list(zip(best["answers"], ours["answers"], strict=True))
        difference, agree = "", f"{sum(a == b for a, b in pairs)}/{len(pairs)}"
    else:
        pairs = list(zip(best["logprobs"], ours["logprobs"], strict=True))
        difference = f"{max(abs(a - b) for a, b in pairs):.1e}"
        agree = f"{sum(pick(best, q) == pick(ours, q) for q in best['questions'])}/{len(best['questions'])}"
    scores = f"{best.get('score', float('nan')):.4f} {ours['score']:.4f}" if ours["score"] is not None else ""
    return (
        f"{task:<12}{agree.partition('/')[2]:>5}{difference:>10}{agree:>9}{scores:>16}{best['cpu']:>9.1f}"
        f"{ours['cpu']:>9.1f}{best['cpu'] / ours['cpu']:>7.1f}x  {ours['note']}"
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
    trainer = trainers.BpeTrainer(
        vocab_size=8192, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
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
    name, shots, ours, _ = TASKS[args.task]
    tasks = args.work / "tasks"
    tasks.mkdir(exist_ok=True)
    if not ours:
        name = fixed_shots(tasks, name, shots)

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

    lm = Timed(pretrained=str(model(args)), device="cpu", dtype="float32", batch_size=args.batch_size, max_length=8192)
    done = lm_eval.simple_evaluate(
        model=lm, tasks=[name], num_fewshot=shots, limit=args.limit, task_manager=TaskManager(include_path=str(tasks)),
        bootstrap_iters=0, gen_kwargs=f"max_gen_toks={NEW_TOKENS}" if args.task == "gsm8k" else None,
    )  # fmt: skip
    (metrics,) = done["results"].values()
    keys = ("acc_norm,none", "acc,none", "exact_match,strict-match")
    found: dict[str, Any] = {"cpu": lm.cpu, "score": next(metrics[k] for k in keys if k in metrics)}
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


def fixed_shots(folder: Path, name: str, shots: int) -> str:
    """A task like `name` whose shots are the first ones of the split, for every question."""
    import lm_eval

    original = next(Path(lm_eval.__file__).parent.glob(f"tasks/**/{name}.yaml"))
    lines = [
        f"include: {original}",
        f"task: {name}_fixed",
        f"num_fewshot: {shots}",
        "fewshot_config: {sampler: first_n}",
    ]
    (folder / f"{name}_fixed.yaml").write_text("\n".join(lines) + "\n")
    return f"{name}_fixed"


def local_rows(path: str, name: str | None = None, split: str | None = None, **_: Any) -> Any:
    """`datasets.load_dataset` on the folder of rows."""
    import datasets

    base = rows_folder() / path.partition("/")[2].lower()
    folder = base / (name or "default")
    folder = folder if folder.is_dir() else base / "default"
    found = {
        p.stem: datasets.Dataset.from_list([json.loads(x) for x in p.open()]) for p in sorted(folder.glob("*.jsonl"))
    }
    if not found:
        raise FileNotFoundError(folder)
    # tasks name splits that the folder may lack, for shots that are not drawn here
    for missing in {"train", "validation", "test"} - set(found):
        found[missing] = next(iter(found.values())).select(range(1))
    return datasets.DatasetDict(found) if split is None else found[split]


# -- in ours ------------------------------------------------------------------------------------------------


def run_llmlab(args: argparse.Namespace) -> None:
    import resource

    import llmlab as lab
    from llmlab.benchmarks.subset import Subset
    from llmlab.models.local import decoding, forward, scoring

    dump = next(args.work.glob(f"{args.task}-{args.limit}-{args.vocabulary}-bs*.json"))
    theirs = json.loads(dump.read_text())
    options = {"max_tokens": NEW_TOKENS} if args.task == "gsm8k" else {}
    lm: Any = lab.model(f"hf/{model(args)}", device="cpu", threads=1, **options)
    lm.logprob("Warm", [" up"])
    seen = record(lm)
    work = counted(forward, scoring, decoding)
    task = TASKS[args.task]
    score = None
    if task.ours:
        whole = lab.benchmark(task.ours, source=rows_folder(), **task.settings)
        part = Subset(whole, [sample.id for sample in whole.samples()[: args.limit]], whole.name)
        store = f"sqlite:///{args.work / 'runs.db'}"
        evaluate = lambda: lab.evaluate(lm, part, store=store, cache=False, progress=False)  # noqa: E731
    else:
        evaluate = lambda: lm.logprob_batch(queries(theirs["requests"]))  # noqa: E731
    began = time.process_time()
    results = evaluate()
    cpu = time.process_time() - began
    if task.ours:
        score = float(results.samples["score"].mean())
    if "prompts" in theirs:
        found: dict[str, Any] = {"answers": [seen[prompt] for prompt in theirs["prompts"]]}
    else:
        # a KeyError here means that a prompt of ours is another one
        found = {"logprobs": [seen[tuple(request)] for request in theirs["requests"]]}
    share = flops(lm.load().model, work) / cpu / peak()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    note = f"{share:.0%} of matmul peak, {memory} MB"
    args.out.write_text(json.dumps(found | {"cpu": cpu, "score": score, "note": note}))


def record(lm: Any) -> dict[Any, Any]:
    """Everything that the model is asked from now on, and what it answered."""
    seen: dict[Any, Any] = {}
    score, write = lm.logprob_batch, lm.generate_batch

    def logprob_batch(asked: Any) -> Any:
        results = score(asked)
        for (context, continuations), found in zip(asked, results, strict=True):
            seen.update({(context, c): f.logprob for c, f in zip(continuations, found, strict=True)})
        return results

    def generate_batch(requests: Any) -> Any:
        responses = write(requests)
        seen.update({request.prompt: r.text for request, r in zip(requests, responses, strict=True)})
        return responses

    lm.logprob_batch, lm.generate_batch = logprob_batch, generate_batch
    return seen


def queries(requests: list[list[str]]) -> list[tuple[str, list[str]]]:
    """Contexts with all their continuations."""
    found: dict[str, list[str]] = {}
    for context, continuation in requests:
        found.setdefault(context, []).append(continuation)
    return list(found.items())


def counted(*modules: Any) -> dict[str, int]:
    """Tokens read and rows of logits computed by the engine from now on."""
    work = {"tokens": 0, "rows": 0}
    real = modules[0].forward

    def forward(loaded: Any, ids: Any, positions: Any, plan: Any, rows: Any) -> Any:
        work["tokens"] += sum(map(len, ids))
        work["rows"] += len(ids) * len(rows)
        return real(loaded, ids, positions, plan, rows)

    for module in modules:
        module.forward = forward
    return work


def flops(lm: Any, work: dict[str, int]) -> float:
    """Operations of the matrix products with weights; attention, which comes on top, is left out."""
    inside = sum(p.numel() for p in lm.model.layers.parameters() if p.dim() == 2)
    return 2.0 * (work["tokens"] * inside + work["rows"] * lm.lm_head.weight.numel())


def peak() -> float:
    """Operations per second of this machine's plain float32 matrix product, one thread."""
    import torch

    x, weight = torch.randn(1024, 576), torch.randn(1536, 576)
    best = float("inf")
    for _ in range(20):
        began = time.thread_time()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.thread_time() - began)
    return 2 * 1024 * 576 * 1536 / best


if __name__ == "__main__":
    main()
