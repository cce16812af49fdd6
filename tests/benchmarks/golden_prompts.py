"""Are our prompts, continuations, readings and metrics those of lm-evaluation-harness, character by character?

    python tests/benchmarks/golden_prompts.py                   # on our own rows, tests/unit_benchmarks/rows
    python tests/benchmarks/golden_prompts.py --rows FOLDER     # on a folder of real rows; nothing of it is kept
    python tests/benchmarks/golden_prompts.py --write           # stores the golden values that `make test` reads

It makes a virtual environment of its own with lm-eval 0.4.13, gives that tool's tasks the same rows in place of the
hub, and compares what each asks and how each scores the same replies. Splits that a folder lacks for shots (HellaSwag
and WinoGrande have no `train` there) are filled, for both sides, with the rows of the scored split.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OWN_ROWS = HERE.parent / "unit_benchmarks" / "rows"
GOLDEN = HERE.parent / "unit_benchmarks" / "golden.json"
PACKAGES = ["torch==2.13.0", "lm-eval==0.4.13"]

# our name, shots, tasks of the reference that ask the same
CASES: list[tuple[str, int, tuple[str, ...]]] = [
    ("arc_challenge", 0, ("arc_challenge",)),
    ("arc_challenge", 25, ("arc_challenge",)),
    ("arc_easy", 0, ("arc_easy",)),
    ("arc_easy", 25, ("arc_easy",)),
    ("gsm8k", 5, ("gsm8k",)),
    ("gsm8k_cot", 8, ("gsm8k_cot",)),
    ("gsm8k_cot_llama", 8, ("gsm8k_cot_llama",)),
    ("gsm8k_cot_zeroshot", 0, ("gsm8k_cot_zeroshot",)),
    ("hellaswag", 0, ("hellaswag",)),
    ("hellaswag", 10, ("hellaswag",)),
    ("mmlu", 0, ("mmlu",)),
    ("mmlu", 5, ("mmlu",)),
    ("truthfulqa", 0, ("truthfulqa_mc1", "truthfulqa_mc2")),
    ("truthfulqa_gen", 0, ("truthfulqa_gen",)),
    ("winogrande", 0, ("winogrande",)),
    ("winogrande", 5, ("winogrande",)),
]
CHAT = frozenset({"gsm8k_cot_llama"})
FOLDERS = {"arc": "ai2_arc", "truthfulqa": "truthful_qa"}
MOST_OWN_SHOTS = 5  # our own rows are few
SHOTS_FROM = {"hellaswag": ("default", "validation"), "winogrande": ("winogrande_xl", "validation")}


# -- replies that both sides score: made from the question, so that no model is needed -----------------------


def logprob(context: str, continuation: str) -> float:
    """A number between -30 and 0 that looks random and is the same everywhere."""
    digest = hashlib.sha256(f"{context}\0{continuation}".encode()).digest()
    return -30 * int.from_bytes(digest[:6], "big") / 2**48


def texts(answer: str, number: int) -> str:
    """Answers in words that a careless reader would trip over."""
    right = answer.rpartition("#### ")[2]
    forms = [
        f"{answer}",
        f"So we have 3 * 4 = 12. #### {right}\n\nQuestion: next? #### 99",
        f"The answer is {right}.",
        f"The answer is ${right}.00. The answer is 7.",
        f"The final answer is {right}",
        "I am not sure.",
        "",
        f"It costs $1,{right} - no, {right}",
        f"Q: again? The answer is {right}.",
        f"= -{right}",
    ]
    return forms[number % len(forms)]


# -- the reference side, run by the other environment ---------------------------------------------------------


def reference(rows: Path, limit: int, most_shots: int) -> None:
    """Print one JSON line per case: what lm-eval asks, and its metrics for the made-up replies."""
    import datasets

    def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
        folder = rows / {"Rowan/hellaswag": "hellaswag"}.get(path, path.rpartition("/")[2])
        config, only = name or "default", None
        if folder.name == "mmlu" and not (folder / config).is_dir():
            config, only = "all", config
        splits = {}
        for file in sorted((folder / config).glob("*.jsonl")):
            found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            found = [row for row in found if only is None or row["subject"] == only]
            if found:
                splits[file.stem] = datasets.Dataset.from_list(found)
        return datasets.DatasetDict(splits)

    datasets.load_dataset = load_dataset
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    for ours, shots, tasks in CASES:
        if not (rows / FOLDERS.get(ours.partition("_")[0], ours.partition("_")[0])).is_dir():
            continue
        if ours == "mmlu":
            file = rows / "mmlu" / "all" / "test.jsonl"
            subjects = dict.fromkeys(json.loads(line)["subject"] for line in file.open(encoding="utf-8"))
            # the reference knows the published subjects only
            tasks = tuple(t for subject in subjects if (t := f"mmlu_{subject}") in manager.all_tasks)
        for name in tasks:
            task = manager.load([name])["tasks"][name]
            if not ours.startswith(("gsm8k_cot", "truthfulqa")):
                task.config.num_fewshot = min(shots, most_shots)
            task.set_fewshot_seed(1234)
            chat = {"apply_chat_template": True, "fewshot_as_multiturn": True} if ours in CHAT else {}
            if chat:
                chat["chat_template"] = lambda messages, add_generation_prompt: json.dumps(messages)
            task.build_all_requests(limit=limit, **chat)
            print(
                json.dumps({"ours": ours, "shots": task.config.num_fewshot, "task": name, "items": list(_items(task))})
            )


def _items(task: Any) -> Iterator[dict[str, Any]]:
    by_item: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_item.setdefault(instance.doc_id, []).append(instance)
    for number, instances in by_item.items():
        if task.OUTPUT_TYPE == "generate_until":
            text = texts(instances[0].doc.get("answer", "It is so."), number)
            for stop in instances[0].args[1]["until"]:
                text = text.split(stop)[0]
            instances[0].resps = [text]
        else:
            for instance in instances:
                instance.resps = [(logprob(*instance.args), False)]
    task.apply_filters()
    for instances in by_item.values():
        metrics = {}
        for key in instances[0].filtered_resps:
            found = task.process_results(instances[0].doc, [i.filtered_resps[key] for i in instances])
            metrics |= {f"{metric},{key}": float(value) for metric, value in found.items()}
        yield {"args": [i.args for i in instances], "metrics": metrics}


# -- our side -----------------------------------------------------------------------------------------------


def compare(case: dict[str, Any], rows: Path) -> tuple[int, list[str]]:
    """How many items were compared, and every difference."""
    from llmlab.benchmarks.base import Reply
    from llmlab.benchmarks.registry import benchmark
    from llmlab.types import ContinuationLogprob, Response

    settings: dict[str, Any] = {"source": rows}
    if case["ours"] == "mmlu":
        settings["subjects"] = case["task"].removeprefix("mmlu_")
    made = benchmark(case["ours"], **settings)
    if made.most_shots is None and made.shots != case["shots"]:
        made = benchmark(case["ours"], shots=case["shots"], **settings)
    problems = []
    for number, (sample, item) in enumerate(zip(made.samples(), case["items"], strict=False)):
        query = made.query(sample, made.protocols[0])
        if query.pairs:
            asked = [[context, text] for context, some in query.pairs for text in some]
            reply = Reply(
                logprobs=tuple(
                    tuple(ContinuationLogprob(logprob(context, text), 1, False) for text in some)
                    for context, some in query.pairs
                )
            )
            # one query holds both sets of TruthfulQA
            if case["ours"] == "truthfulqa":
                asked = [pair for pair in asked if pair in [list(args) for args in item["args"]]]
                wanted = [list(args) for args in item["args"]]
                same = sorted(asked) == sorted(wanted)
            else:
                same = asked == [list(args) for args in item["args"]]
        else:
            answer = sample.metadata.get("solution", "It is so.")
            reply = Reply(Response(texts(answer, number)))
            asked = [_prompt(query.request, case["ours"]), list(made.options("generate").stop or ())]
            same = asked == [item["args"][0][0], item["args"][0][1]["until"]]
        if not same:
            problems.append(f"{case['task']} item {number}: asked {asked!r}\n  reference {item['args']!r}")
        score = made.score(sample, reply)
        for key, value in item["metrics"].items():
            ours = score.metrics[_metric(case["task"], key)]
            if not math.isclose(ours, value, rel_tol=1e-9, abs_tol=1e-9):
                problems.append(f"{case['task']} item {number}: {key} {ours} instead of {value}")
    return len(case["items"]), problems


def _prompt(request: Any, name: str) -> str:
    if name in CHAT:
        return json.dumps([{"role": m.role, "content": m.content} for m in request.messages])
    return str(request.prompt)


def _metric(task: str, key: str) -> str:
    name, _, read = key.partition(",")
    if read in ("strict-match", "flexible-extract"):
        return read.replace("-", "_")
    return {"truthfulqa_mc1": "mc1", "truthfulqa_mc2": "mc2"}.get(task, name)


# -- running both --------------------------------------------------------------------------------------------


def environment(folder: Path) -> Path:
    """Python of the environment that has lm-eval, made when it is not there."""
    python = folder / "bin" / "python"
    if not python.is_file():
        print(f"making {folder} with {', '.join(PACKAGES)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in PACKAGES:
            subprocess.run([python, "-m", "pip", "install", "-q", package], check=True)
    return python


def complete(rows: Path, folder: Path) -> Path:
    """The same rows with the splits that shots need."""
    for file in sorted(rows.glob("*/*/*.jsonl")):
        target = folder / file.relative_to(rows)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file.resolve())
    for name, (config, split) in SHOTS_FROM.items():
        train = folder / name / config / "train.jsonl"
        if not train.exists() and (train.parent / f"{split}.jsonl").exists():
            train.symlink_to((train.parent / f"{split}.jsonl").resolve())
    return folder


def main() -> int:
    """Compare, print one line per case, and return 1 when there is a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=OWN_ROWS)
    parser.add_argument("--limit", type=int, default=10_000, help="items per case, the first ones")
    parser.add_argument("--venv", type=Path, default=Path(tempfile.gettempdir()) / "llmlab-lm-eval")
    parser.add_argument("--write", action="store_true", help="store golden values; only for our own rows")
    parser.add_argument("--most-shots", type=int, help="cut the number of shots, where rows for them are few")
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference:
        reference(options.rows, options.limit, options.most_shots)
        return 0
    most_shots = options.most_shots or (MOST_OWN_SHOTS if options.rows == OWN_ROWS else 25)
    if options.write and options.rows != OWN_ROWS:
        parser.error("golden values are made from our own rows only")
    python = environment(options.venv)
    with tempfile.TemporaryDirectory() as scratch:
        rows = complete(options.rows, Path(scratch))
        command = [python, __file__, "--reference", "--rows", rows, "--limit", str(options.limit)]
        command += ["--most-shots", str(most_shots)]
        quiet = os.environ | {"HF_HUB_OFFLINE": "1", "LOGLEVEL": "ERROR", "TQDM_DISABLE": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=quiet)
        cases = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if options.write:
            GOLDEN.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return report(cases, rows)


def report(cases: list[dict[str, Any]], rows: Path) -> int:
    """Print one line per case and the first differences."""
    totals: dict[tuple[str, int], list[int]] = {}
    differences = []
    for case in cases:
        compared, problems = compare(case, rows)
        total = totals.setdefault((case["ours"], case["shots"]), [0, 0])
        total[0], total[1] = total[0] + compared, total[1] + len(problems)
        differences += problems
    for (name, shots), (compared, wrong) in totals.items():
        print(f"{name:20} {shots:2} shots  {compared:6} items  {wrong} differences")
    print("\n".join(differences[:10]))
    return 1 if differences or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
