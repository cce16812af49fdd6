"""What the README and the other documents say can be typed: its lines run in order, and the names and files exist."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmlab.testing import ProviderServer

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_lines_of_the_readme_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    for folder in ("data", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    with ProviderServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("LLMLAB_STORE", f"sqlite:///{tmp_path / 'runs.db'}")
        names: dict[str, Any] = {}
        for block in BLOCKS:
            exec(block, names)
    plt.close("all")
    assert {"results", "support", "tuned", "watch"} <= names.keys()
    assert (tmp_path / "report.html").is_file() and (tmp_path / "experiment.html").is_file()


def text_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize("path", [*DOCUMENTS, *NOTEBOOKS], ids=lambda path: path.name)
def test_names_and_files_that_a_document_mentions_exist(path: Path) -> None:
    text = text_of(path)
    calls = sorted(set(re.findall(r"\blab((?:\.[a-z_]\w*)+)\(", text)))
    unknown = [name for name in calls if not resolves(name.strip(".").split("."))]
    files = sorted(set(re.findall(r"(?<![\w/])((?:data|configs|docs|notebooks)/[\w./-]+\.[a-z]+)\b", text)))
    absent = [file for file in files if not (ROOT / file).exists() and file not in ELSEWHERE]
    assert (unknown, absent) == ([], [])


# files of torchtune, and one that a user makes
ELSEWHERE = {
    *(f"configs/{name}_lora_single_device.yaml" for name in ("llama3_2/1B", "phi3/mini", "qwen2_5/0.5B")),
    "data/runs.db",
}


def resolves(parts: list[str]) -> bool:
    found: Any = importlib.import_module("llmlab")
    for i, part in enumerate(parts):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(["llmlab", *parts[: i + 1]]))
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
    return True
