"""What `import llmlab` offers, and what it does not load."""

import os
import subprocess
import sys

import pytest

import llmlab as lab

HEAVY = (
    "torch",
    "transformers",
    "pandas",
    "numpy",
    "matplotlib",
    "openai",
    "anthropic",
    "google.genai",
    "datasets",
    "sqlalchemy",
)


def loaded_after(code: str) -> set[str]:
    code += "\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_public_name_exists_and_is_documented() -> None:
    for name in lab.__all__:
        if name != "__version__":
            assert getattr(lab, name).__doc__, name


def test_public_names_are_listed_by_dir_and_unique() -> None:
    assert len(set(lab.__all__)) == len(lab.__all__)
    assert set(lab.__all__) <= set(dir(lab))


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'evalute'.*evaluate"):
        lab.evalute  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_after("import llmlab") & set(HEAVY)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['llmlab', '--help']\nfrom llmlab.cli import main\ntry: main()\nexcept SystemExit: pass"
    )
    assert not loaded_after(code) & set(HEAVY)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_of_torch_wait_without_holding_up_others(given: dict[str, str], expected: str) -> None:
    code = "import os, llmlab; print(os.environ.get('GOMP_SPINCOUNT'))"
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=bare | given)
    assert done.stdout.strip() == expected


def test_packages_that_are_functions_can_be_called_and_imported() -> None:
    from llmlab.ledger import Ledger

    assert isinstance(lab.ledger(budget=1.0), Ledger)
    assert callable(lab.models) and callable(lab.benchmarks)
