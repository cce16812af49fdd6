"""The card of a trained model: what it is, how it was made, what it can do, in Markdown with the hub's metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_LINKS = {
    "lora": "https://arxiv.org/abs/2106.09685",
    "qlora": "https://arxiv.org/abs/2305.14314",
    "dpo": "https://arxiv.org/abs/2305.18290",
    "kto": "https://arxiv.org/abs/2402.01306",
    "grpo": "https://arxiv.org/abs/2402.03300",
}
_SHOWN = (
    "method", "objective", "seed", "epochs", "steps", "batch", "accumulate", "learning_rate", "schedule", "warmup",
    "length", "rank", "alpha", "targets", "precision", "beta", "sft_weight",
)  # fmt: skip


def card(record: Mapping[str, Any], lines: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The card of a training from its record, and the lines of a before/after comparison."""
    made, data = record["recipe"], record["data"]
    name = f"{_short(record['base'])}-{made['method']}-{data['name']}"
    parts = [_metadata(record, name, lines), f"# {name}", "", *_about(record), "", *_results(record, lines)]
    parts += ["", "## Training", "", *_training(record), "", "## Data", "", *_data(record), "", "## Versions", ""]
    parts += [", ".join(f"{k} {v}" for k, v in record["versions"].items()), ""]
    return "\n".join(parts)


def _metadata(record: Mapping[str, Any], name: str, lines: Sequence[Mapping[str, Any]] | None) -> str:
    import yaml

    made = record["recipe"]
    base = record["base"].removeprefix("hf/")
    meta: dict[str, Any] = {"library_name": "transformers" if made["method"] == "full" else "peft"}
    if record["base"].startswith("hf/") and base.count("/") == 1 and not base.startswith((".", "~")):
        meta["base_model"] = base
    meta |= {"tags": ["llmlab", made["method"], made["objective"]], "pipeline_tag": "text-generation"}
    results = [
        {
            "task": {"type": "text-generation", "name": "Text generation"},
            "dataset": {"type": line["benchmark"], "name": line["benchmark"]},
            "metrics": [
                {"type": line["metric"] or "score", "value": round(line["score"], 4), "name": line["metric"] or "score"}
            ],
        }
        for line in lines or ()
        if math.isfinite(line["score"])  # the hub takes no others
    ]
    if results:
        meta["model-index"] = [{"name": name, "results": results}]
    return f"---\n{yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)}---\n"


def _about(record: Mapping[str, Any]) -> list[str]:
    made = record["recipe"]
    how = {"lora": "a low-rank adapter", "qlora": "a low-rank adapter on a base in 4 bits", "full": "all weights"}[
        made["method"]
    ]
    sources = ", ".join(f"[{k}]({_LINKS[k]})" for k in (made["method"], made["objective"]) if k in _LINKS)
    about = [
        f"{record['base']} (weights `{record['weights']}`, {record['parameters']:,} parameters), fine-tuned by {how} "
        f"with the objective {made['objective']}{f' ({sources})' if sources else ''}: {record.get('trainable', 0):,} "
        "weights were trained."
    ]
    if made["method"] == "qlora":
        about += [
            "",
            "The adapter was trained on the base in 4 bits (nf4); it is used on the unquantised one.",
        ]
    return about


def _results(record: Mapping[str, Any], lines: Sequence[Mapping[str, Any]] | None) -> list[str]:
    told = ["## Results", ""]
    if "after" in record:
        before, after, n = record["before"]["loss"], record["after"]["loss"], record["data"]["held_out"]
        told += [f"Loss on {n} held-out examples: {before:.3f} before, {after:.3f} after.", ""]
    if not lines:
        return [*told, "Not compared with the base yet (`tuned.compare([...])`)."]
    told += ["| benchmark | n | before | after | difference, 95 % interval | verdict |", "|---|---|---|---|---|---|"]
    for line in lines:
        interval = f"{_points(line['difference'])} [{_points(line['low'])}, {_points(line['high'])}]"
        scores = f"{100 * line['baseline_score']:.1f} | {100 * line['score']:.1f}"
        told.append(f"| {line['benchmark']} | {line['n']} | {scores} | {interval} | {line['verdict']} |")
    return [*told, "", "Scores in percent, differences in points, paired by item; verdicts after Holm's correction."]


def _training(record: Mapping[str, Any]) -> list[str]:
    made, spent = record["recipe"], record.get("spent", {})
    chosen = [name for name in _SHOWN if made.get(name) is not None]
    told = ["| setting | value |", "|---|---|", *(f"| {name} | {made[name]} |" for name in chosen), ""]
    return [*told, f"{record.get('steps', 0):,} steps in {spent.get('seconds', math.nan):,.0f} s."]


def _data(record: Mapping[str, Any]) -> list[str]:
    data, lengths = record["data"], record.get("lengths", {})
    count = f"{data['examples']:,} examples of the form {data['form']}, {data['held_out']} held out"
    told = [f"{data['name']}: {count}; hash `{data['hash']}`."]
    if lengths:
        size = f"median {lengths['median']:.0f}, longest {lengths['longest']:.0f}"
        cut = f"{lengths['truncated']:.0f} cut off at {record['recipe']['length']}"
        told += ["", f"Tokens per example: {size}; {cut}."]
    return [*told, *(f"- {note}" for note in (*data["notes"], *record.get("notes", [])))]


def _short(name: str) -> str:
    return name.rpartition("/")[2] if not name.startswith("micro/") else name.replace("/", "-")


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
