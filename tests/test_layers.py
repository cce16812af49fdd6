"""A module imports only from lower layers; there are no circles."""

import ast
from collections.abc import Container
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# the highest layer comes last; a module may import its own layer and those before it
LAYERS = [
    {"types", "errors", "settings", "stats", "agreement", "ledger", "prices", "_module"},
    {"models", "scorers", "plots"},
    {"benchmarks", "alignment", "store", "results"},
    {"evaluation", "finetune"},
    {"experiments", "monitor"},
    {"serve", "ui", "cli", "pytest_plugin"},
    {"__init__", "__main__"},
]
# tools beside the layers: they may use anything, nothing below may use them
BESIDE = {"testing", "microworld"}


def rank(part: str) -> int:
    for i, layer in enumerate(LAYERS):
        if part in layer:
            return i
    raise AssertionError(f"llmlab.{part} belongs to no layer; add it to LAYERS in this test and to the design")


def nodes(path: Path) -> list[ast.AST]:
    """The imports of a file, those inside functions too, those that only type checkers see left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    return [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) and id(n) not in hidden]


def imports(path: Path) -> set[str]:
    """Top-level parts of llmlab that a file imports."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmlab"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("llmlab.")}
    return found


FILES = sorted((ROOT / "llmlab").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_imports_only_from_lower_layers(path: Path) -> None:
    own = path.relative_to(ROOT / "llmlab").parts[0].removesuffix(".py")
    if own in BESIDE or own in ("__init__", "__main__"):
        return
    for part in imports(path):
        assert part not in BESIDE, f"{path.name} imports the tool llmlab.{part}"
        assert rank(part) <= rank(own), f"{path.name} (layer of {own}) imports llmlab.{part} above it"


def test_no_file_imports_itself_by_way_of_others() -> None:
    names = {module(path): path for path in FILES}
    graph = {name: imported(path, names) - {name} for name, path in names.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, names: Container[str]) -> set[str]:
    """Files of llmlab that a file imports, at its top or inside a function."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in names else node.module for name in full}
        else:
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in names}
