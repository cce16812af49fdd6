"""The search for a recipe: it finds, continues, and is tested on items it never saw."""

from pathlib import Path
from typing import Any

import pytest

from llmlab.errors import DataError, UnknownName
from llmlab.finetune.search import Tuning, tune
from llmlab.finetune.space import space

from .conftest import TICKETS

FIXED: dict[str, Any] = {"method": "full", "steps": 3, "batch": 8, "validation": 0.0, "progress": False, "threads": 1}


def look(folder: Path, trials: int, **changes: Any) -> Tuning:
    space = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "schedule": ["cosine", "linear"]}
    store = f"sqlite:///{folder / 'answers.db'}"
    return tune("micro/small", TICKETS, space, trials=trials, folder=folder, store=store, n=4, **FIXED | changes)


def test_search_scores_trials_continues_and_confirms_on_locked_items(tmp_path: Path) -> None:
    first = look(tmp_path, 2)
    assert first.finished == 2 and set(first.table["state"]) == {"COMPLETE"}
    more = look(tmp_path, 3)
    assert more.finished == 3
    assert first.table["learning_rate"].isin(more.table["learning_rate"]).all()
    assert set(more.params) == {"learning_rate", "schedule"}
    assert more.recipe.learning_rate == more.params["learning_rate"] and more.recipe.steps == 3
    seen, locked = ({s.id for s in b.samples()} for b in (more.chosen, more.locked))
    assert not seen & locked and len(seen | locked) == 40
    found = more.confirm()
    assert found.baseline == "default" and list(found.table["model"]) == ["best"]
    assert found.table["n"].iloc[0] == len(locked)
    assert "3 trials" in repr(more)


def test_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    look(tmp_path, 1)
    with pytest.raises(DataError, match="holds another search"):
        look(tmp_path, 1, seed=1)


SHARED = """
import sys
from pathlib import Path
from llmlab.finetune import search
search._BEAT, search._GRACE = 1, 4
folder = Path(sys.argv[1])
space = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "schedule": ["cosine", "linear"]}
found = search.tune(
    "micro/small", sys.argv[2], space, trials=int(sys.argv[3]), folder=folder, store=f"sqlite:///{folder}/answers.db",
    n=2, method="full", steps=6, batch=4, evaluate_every=2, progress=False, threads=1,
)
print("TRIALS", found.finished, found.params)
print("BEST", found.confirm().table["n"].iloc[0])
"""


@pytest.mark.slow
def test_two_processes_share_a_search_and_one_takes_over_from_the_other_when_it_is_killed(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys
    import time

    import optuna

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SHARED, str(tmp_path), str(TICKETS), "5"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def trials() -> list[optuna.trial.FrozenTrial]:
        try:
            return optuna.load_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="search").trials
        except Exception:  # not made yet, in one of several ways
            return []

    one, other = start(), start()
    until = time.monotonic() + 300
    # until both work on the same study at once
    while sum(t.state.name == "RUNNING" and "folder" in t.user_attrs for t in trials()) < 2:
        assert time.monotonic() < until and one.poll() is None and other.poll() is None, one.communicate()[0]
        time.sleep(0.05)
    one.send_signal(signal.SIGKILL)
    one.communicate()
    said = other.communicate(timeout=300)[0]
    assert other.returncode == 0, said
    found = trials()
    ended = [t for t in found if t.state.name in ("COMPLETE", "PRUNED")]
    assert len(ended) == 5 and f"TRIALS {len(ended)}" in said and "BEST 20" in said, said
    # what the killed one had begun was continued, in its folder and with its fields, and nothing is left open
    (lost,) = [t for t in found if t.state.name == "FAIL"]
    (heir,) = [t for t in ended if t.system_attrs.get("failed_trial") == lost.number]
    assert heir.params == lost.params and heir.user_attrs["folder"] == lost.user_attrs["folder"]
    assert {t.state.name for t in found} <= {"COMPLETE", "PRUNED", "FAIL"}
    # processes draw for themselves
    assert len({t.params["learning_rate"] for t in ended}) == 5
    # the same call again has nothing left to do
    again = subprocess.run(one.args, capture_output=True, text=True, check=True)  # type: ignore[call-overload]
    assert "TRIALS 5" in again.stdout


@pytest.mark.slow
def test_poor_trials_end_early_and_are_listed_as_such(tmp_path: Path) -> None:
    import llmlab as lab

    space = {"learning_rate": [1e-3, 2e-3, 1e-9]}  # most learn, or the median trial would be a poor one
    found = tune(
        "micro/small", TICKETS, space, trials=8, folder=tmp_path, store=f"sqlite:///{tmp_path / 'answers.db'}", n=2,
        **FIXED | {"steps": 4, "evaluate_every": 1, "validation": 0.1},
    )  # fmt: skip
    table = found.table
    pruned = table[table["state"] == "PRUNED"]
    assert 1e-9 in set(pruned["learning_rate"]) <= {1e-3, 1e-9} and found.params == {"learning_rate": 2e-3}
    listed = lab.experiments(store=f"sqlite:///{tmp_path / 'answers.db'}")
    assert list(listed["status"]).count("ended early") == len(pruned)


def test_history_is_drawn(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    axes = look(tmp_path, 1).history()
    assert axes.get_title(loc="left").startswith("Best of 1 trials")
    plt.close("all")


@pytest.mark.slow
def test_diverged_trial_is_counted_and_the_search_goes_on(tmp_path: Path) -> None:
    space = {"learning_rate": [1e18, 1e-3]}
    found = tune(
        "micro/small", TICKETS, space, trials=4, folder=tmp_path, n=2, seed=1, clip=1e18, warmup=0.0,
        store=f"sqlite:///{tmp_path / 'answers.db'}", **FIXED,
    )  # fmt: skip
    assert found.finished == 4 and set(found.table["state"]) <= {"FAIL", "COMPLETE"}
    assert (found.table[found.table["learning_rate"] > 1]["state"] == "FAIL").all()


@pytest.mark.parametrize(
    ("space", "error", "said"),
    [
        ({"ranks": [1]}, UnknownName, "Did you mean 'rank'"),
        ({"rank": 8}, DataError, "rank should be a list of choices or"),
        ({"rank": {"low": 8, "high": 4}}, DataError, "rank should be a list of choices or"),
        ({"steps": [1, 2]}, DataError, "steps is searched and also fixed at 3"),
        ("nowhere.yaml", DataError, "no file nowhere.yaml"),
    ],
)
def test_wrong_space_is_refused(space: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        tune("micro/small", TICKETS, space, **FIXED)


def test_shipped_space_leaves_out_what_is_fixed() -> None:
    assert "rank" not in space(None, {"rank": 4}) and "learning_rate" in space(None, {})
