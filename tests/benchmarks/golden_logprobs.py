"""Store what lm-evaluation-harness computes on a tiny random model, for `tests/models/local/test_golden.py`.

    python tests/benchmarks/golden_logprobs.py [--work FOLDER]

Uses the environment that `against_lm_eval.py` makes. To be run again when the tiny models or the cases change.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from against_lm_eval import VERSION, environment

from llmlab.testing.tiny import WORDS, tiny_model

GOLDEN = Path(__file__).parents[1] / "models" / "local" / "golden.json"
SHOTS = "Question: how many apples?\nAnswer: two\n\nQuestion: which colour?\nAnswer: blue\n\n"
CASES: list[tuple[str, list[str]]] = [
    (SHOTS + "Question: how many?\nAnswer:", [" two", " three apples", " she has two apples left"]),
    (SHOTS + "Question: which colour has the river?\nAnswer:", [" red", " green", " blue", " yellow"]),
    ("The river runs ", ["past the old mill", "past the bridge"]),
    ("The river runs\n\n", ["The baker sells bread", " The baker"]),
    ("", ["The river", " the river", "<|endoftext|>The river"]),
    ("<|endoftext|>The river", [" runs", " sleeps"]),
    ("zwölf Äpfel, naïve café,", [" 日本", " zwölf"]),
    ((WORDS * 6).strip(), [" she has two apples left", " red"]),
    ("Mira", [" buys three and eats one"]),
]
REFERENCE = """
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
folder, cases = sys.argv[1], json.loads(sys.stdin.read())
lm = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=1)
pairs = [(context, c) for context, continuations in cases for c in continuations]
asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in pairs]
print("FOUND" + json.dumps(lm.loglikelihood(asked, disable_tqdm=True)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "llmlab-against-lm-eval")
    args = parser.parse_args()
    golden: dict[str, object] = {"lm-eval": VERSION, "cases": CASES}
    with tempfile.TemporaryDirectory() as folder:
        for family in ("llama", "gpt2"):
            made = tiny_model(Path(folder) / family, family)
            command = [str(environment(args.work)), "-c", REFERENCE, str(made)]
            done = subprocess.run(command, input=json.dumps(CASES), capture_output=True, text=True, check=True)
            golden[family] = json.loads(done.stdout.partition("FOUND")[2].splitlines()[0])
    GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
