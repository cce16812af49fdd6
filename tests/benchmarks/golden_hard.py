"""Are BBH, GPQA, HumanEval and IFEval those of lm-evaluation-harness: every prompt, reading and verdict?

    python tests/benchmarks/golden_hard.py                     # on our own rows, tests/unit_benchmarks/rows
    python tests/benchmarks/golden_hard.py --rows FOLDER       # on a folder of real rows, nothing of it is kept
    python tests/benchmarks/golden_hard.py --write             # stores the golden values that `make test` compares with

As golden_prompts.py, whose environment it shares (and adds IFEval's packages to). FOLDER has what there is of
`bbh/<task>/test.jsonl` with `bbh/cot_prompts/<task>.txt`, `gpqa/gpqa_<subset>/train.jsonl`,
`ifeval/default/train.jsonl`, `openai_humaneval/openai_humaneval/test.jsonl`. IFEval needs nltk's punkt_tab, in
--nltk-data or where nltk finds it. The answers that both sides read are made up (golden_answers.py).

Two things of the reference depend on chance and are fixed for both sides: the seed of langdetect, and the order of
GPQA's options (here the order of their hashes). Its letter check for "#" and "!" draws a letter and is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from golden_answers import generated
from golden_prompts import OWN_ROWS, environment, logprob

GOLDEN = OWN_ROWS.parent / "golden_hard.json"
PACKAGES = ["langdetect==1.0.9", "immutabledict", "nltk==3.10.4"]
FOLDERS = {
    "SaylorTwift/bbh": "bbh",
    "Idavidrein/gpqa": "gpqa",
    "openai/openai_humaneval": "openai_humaneval",
    "google/IFEval": "ifeval",
}
TASKS = [
    ("gpqa", 0, "gpqa_diamond_zeroshot"),
    ("gpqa", 3, "gpqa_diamond_n_shot"),
    ("gpqa_cot", 0, "gpqa_diamond_cot_zeroshot"),
    ("gpqa_cot", 3, "gpqa_diamond_cot_n_shot"),
    ("humaneval", 0, "humaneval"),
    ("humaneval_instruct", 0, "humaneval_instruct"),
    ("ifeval", 0, "ifeval"),
]


# -- the reference side, run by the other environment -------------------------------------------------------------


def reference(rows: Path, limit: int) -> None:
    """Print one JSON line per task: what lm-eval asks, the made-up answers, and its verdicts on them."""
    import datasets

    def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
        config = {"openai_humaneval": "openai_humaneval"}.get(FOLDERS[path], name or "default")
        files = sorted((rows / FOLDERS[path] / config).glob("*.jsonl"))
        read = {f.stem: [json.loads(line) for line in f.open(encoding="utf-8")] for f in files}
        return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in read.items()})

    datasets.load_dataset = load_dataset
    _fix_chance()
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    bbh = [(f"bbh{kind}", task.name) for kind in ("", "_direct") for task in sorted((rows / "bbh").glob("*/"))]
    cases = [
        (ours, 3, f"bbh_{'fewshot' if '_' in ours else 'cot_fewshot'}_{t}") for ours, t in bbh if t != "cot_prompts"
    ]
    for ours, shots, name in cases + TASKS:
        folder = {"humaneval_instruct": "openai_humaneval", "humaneval": "openai_humaneval"}.get(
            ours, ours.split("_")[0]
        )
        if not (rows / folder).is_dir():
            continue
        task = manager.load([name])["tasks"][name]
        if ours.startswith("bbh") and rows == OWN_ROWS:
            _own_examples(task, rows, ours)
        if ours.startswith("gpqa") and shots:
            task.config.num_fewshot = shots
        task.set_fewshot_seed(1234)
        task.build_all_requests(limit=limit)
        print(json.dumps({"ours": ours, "shots": shots, "task": name, "items": list(_items(ours, task))}))


def _fix_chance() -> None:
    import langdetect

    langdetect.DetectorFactory.seed = 0

    def by_hash(options: list[str]) -> None:
        options.sort(key=_hash)

    random.shuffle = by_hash  # type: ignore[assignment]
    random.Random.shuffle = lambda self, options: by_hash(options)  # type: ignore[assignment,method-assign]
    # the metric is not asked: it would be fetched from the hub, and run the code
    stand_in = types.ModuleType("evaluate")
    stand_in.load = lambda *_, **__: types.SimpleNamespace(compute=lambda **_: ({}, {}))  # type: ignore[attr-defined]
    sys.modules["evaluate"] = stand_in


def _own_examples(task: Any, rows: Path, ours: str) -> None:
    """Our rows have other examples than the tasks that ship with lm-eval."""
    text = (rows / "bbh" / "cot_prompts" / f"{task.config.dataset_name}.txt").read_text(encoding="utf-8")
    description, *examples = text.split("-----\n")[1].rstrip("\n").split("\n\nQ: ")
    pairs = [re.split(r"\nA: Let's think step by step\.\s", example) for example in examples]
    if ours == "bbh_direct":
        pairs = [(question, re.findall(r"the answer is (.*)\.$", steps)[0]) for question, steps in pairs]
    task.config.description = description + "\n\n"
    task.sampler.df = [{"input": question, "target": answer} for question, answer in pairs]
    task.sampler._loaded = True


def _items(ours: str, task: Any) -> Iterator[dict[str, Any]]:
    by_item: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_item.setdefault(instance.doc_id, []).append(instance)
    writes = task.OUTPUT_TYPE == "generate_until"
    made = {number: generated(ours, some[0].doc, number) if writes else [""] for number, some in by_item.items()}
    verdicts: dict[int, list[Any]] = {number: [] for number in by_item}
    for turn in range(max(map(len, made.values()))):
        for number, instances in by_item.items():
            for instance in instances:
                instance.filtered_resps.clear()
                if writes:
                    text = made[number][turn % len(made[number])]
                    instance.resps = [_stopped(text, instance.args[1]["until"])]
                else:
                    instance.resps = [(logprob(*instance.args), False)]
        task.apply_filters()
        for number, instances in by_item.items():
            if turn < len(made[number]):
                verdicts[number].append(_verdict(ours, task, instances))
    for number, instances in by_item.items():
        yield {"args": [i.args for i in instances], "texts": made[number], "verdicts": verdicts[number]}


def _verdict(ours: str, task: Any, instances: Sequence[Any]) -> dict[str, Any]:
    doc, first = instances[0].doc, instances[0]
    if ours.startswith("humaneval"):
        return {"program": first.filtered_resps["create_test"][0]}
    found = {}
    for key in first.filtered_resps:
        scored = task.process_results(doc, [i.filtered_resps[key] for i in instances])
        found |= {f"{metric},{key}": value for metric, value in scored.items()}
    return found


def _stopped(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# -- our side ---------------------------------------------------------------------------------------------------


def compare(case: dict[str, Any], rows: Path, seen: Counter[tuple[str, bool]] | None = None) -> tuple[int, list[str]]:
    """How many verdicts were compared, and every difference. `seen` counts IFEval's verdicts per instruction."""
    from llmlab.benchmarks import gpqa
    from llmlab.benchmarks.registry import benchmark

    settings: dict[str, Any] = {"source": rows}
    if case["ours"].startswith("bbh"):
        settings["tasks"] = case["task"].partition("fewshot_")[2]
    if case["ours"].startswith("gpqa"):
        settings["shots"] = case["shots"]
    if case["ours"].startswith("humaneval"):
        settings["allow_code"] = True
    kept = gpqa.permutation
    gpqa.permutation = _hash_order(rows)
    try:
        made = benchmark(case["ours"], **settings)
        samples = made.samples()
    finally:
        if not case["shots"]:
            gpqa.permutation = kept
    number, problems = 0, []
    try:
        for at, (sample, item) in enumerate(zip(samples, case["items"], strict=False)):
            if problem := _asked(made, sample, item):
                problems.append(f"{case['task']} item {at}: {problem}")
            for text, verdict in zip(item["texts"], item["verdicts"], strict=True):
                number += 1
                if problem := _scored(made, sample, item, text, verdict, seen):
                    problems.append(f"{case['task']} item {at}, answer {text!r}: {problem}")
    finally:
        gpqa.permutation = kept
    return number, problems


def _hash_order(rows: Path) -> Callable[[str], list[int]]:
    from llmlab.benchmarks import gpqa
    from llmlab.benchmarks.sources import read_jsonl

    table = {}
    for row in itertools.chain(*map(read_jsonl, (rows / "gpqa").glob("*/train.jsonl"))):
        options = [" " if row.data[name] is None else gpqa._clean(row.data[name]) for name in gpqa._FIELDS]
        table[row.text("Question")] = sorted(range(4), key=lambda i, options=options: _hash(options[i]))  # type: ignore[misc]
    return table.__getitem__


def _asked(made: Any, sample: Any, item: dict[str, Any]) -> str:
    query = made.query(sample, made.protocols[0])
    if query.pairs:
        asked: Any = [[context, text] for context, some in query.pairs for text in some]
        wanted: Any = [list(args) for args in item["args"]]
    else:
        # without a chat template lm-eval joins a turn and the answer begun for the model
        asked = ["".join(m.content for m in query.request.messages), list(made.options("generate").stop or ())]
        wanted = [item["args"][0][0], item["args"][0][1]["until"]]
    return "" if asked == wanted else f"asked {asked!r}\n  reference {wanted!r}"


def _scored(
    made: Any,
    sample: Any,
    item: dict[str, Any],
    text: str,
    verdict: dict[str, Any],
    seen: Counter[tuple[str, bool]] | None,
) -> str:
    from llmlab.benchmarks.base import Reply
    from llmlab.types import ContinuationLogprob, Response

    if "program" in verdict:
        ours = made.program(sample, text)
        return "" if ours == verdict["program"] else f"program {ours!r}\n  reference {verdict['program']!r}"
    if item["texts"] == [""]:
        reply = Reply(logprobs=(tuple(ContinuationLogprob(logprob(*args), 1, False) for args in item["args"]),))
    else:
        reply = Reply(Response(text))
    if "prompt_level_strict_acc,none" in verdict:
        return _ifeval(made, sample, text, verdict, seen)
    score = made.score(sample, reply)
    for key, value in verdict.items():
        name, _, read = key.partition(",")
        ours = score.metrics[read.replace("-", "_") if read in ("strict-match", "flexible-extract") else name]
        # the direct form strips what the model wrote, lm-eval does not
        if float(value) != ours and not (made.name.startswith("bbh_direct") and text.strip() != text):
            return f"{key} {ours} instead of {value}"
    return ""


def _ifeval(made: Any, sample: Any, text: str, verdict: dict[str, Any], seen: Counter[tuple[str, bool]] | None) -> str:
    from llmlab.benchmarks.base import Reply
    from llmlab.benchmarks.ifeval import loose_readings
    from llmlab.benchmarks.ifeval_checks import followed
    from llmlab.types import Response

    asked = list(zip(sample.metadata["instructions"], sample.metadata["settings"], strict=True))
    chance = [not settings.get("letter", "a").isalpha() for _, settings in asked]
    strict = [followed(name, settings, text) for name, settings in asked]
    loose = [any(followed(name, settings, r) for r in loose_readings(text)) for name, settings in asked]
    for at, (name, _) in enumerate(asked):
        if seen is not None:
            seen[name, strict[at]] += 1
        theirs = verdict["inst_level_strict_acc,none"][at], verdict["inst_level_loose_acc,none"][at]
        if not chance[at] and (strict[at], loose[at]) != theirs:
            return f"{name} strict, loose {strict[at], loose[at]} instead of {theirs}"
    metrics = made.score(sample, Reply(Response(text))).metrics
    level = (metrics["prompt_level_strict"], metrics["prompt_level_loose"])
    theirs = (float(verdict["prompt_level_strict_acc,none"]), float(verdict["prompt_level_loose_acc,none"]))
    return "" if any(chance) or level == theirs else f"prompt level {level} instead of {theirs}"


# -- running both -------------------------------------------------------------------------------------------------


def main() -> int:
    """Compare, print one line per task, and return 1 when there is a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=OWN_ROWS)
    parser.add_argument("--limit", type=int, default=10_000, help="items per task, the first ones")
    parser.add_argument("--venv", type=Path, default=Path(tempfile.gettempdir()) / "llmlab-lm-eval")
    parser.add_argument("--nltk-data", type=Path, help="folder with tokenizers/punkt_tab")
    parser.add_argument("--write", action="store_true", help="store golden values; only for our own rows")
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference:
        reference(options.rows, options.limit)
        return 0
    if options.write and options.rows != OWN_ROWS:
        parser.error("golden values are made from our own rows only")
    python = environment(options.venv)
    if options.nltk_data:
        os.environ["NLTK_DATA"] = str(options.nltk_data)
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    command = [python, __file__, "--reference", "--rows", options.rows, "--limit", str(options.limit)]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "LOGLEVEL": "CRITICAL", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=quiet)
    cases = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"ours"')]
    if options.write:
        GOLDEN.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report(cases, options.rows)


def report(cases: list[dict[str, Any]], rows: Path) -> int:
    """Print one line per task and the first differences."""
    differences: list[str] = []
    seen: Counter[tuple[str, bool]] = Counter()
    for case in cases:
        number, problems = compare(case, rows, seen)
        differences += problems
        print(
            f"{case['task']:60} {len(case['items']):5} items {number:6} verdicts {len(problems):4} differences",
            flush=True,
        )
    for name in sorted({name for name, _ in seen}):
        print(f"  {name:50} followed {seen[name, True]:5}, not followed {seen[name, False]:5}")
    print("\n".join(differences[:10]))
    return 1 if differences or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
