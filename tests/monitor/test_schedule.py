"""Slots come when crontab says, once, in every time zone and on every night; lines and workflows are valid."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
import yaml

import llmlab as lab
from llmlab.errors import DataError, LabError, UnknownName
from llmlab.monitor import slots
from llmlab.monitor.schedule import Cron, Schedule
from llmlab.monitor.workflow import in_utc
from llmlab.store import Store
from tests.monitor.world import START, Answering, model, questions

ROOT = Path(__file__).resolve().parents[2]


def coming(expression, zone, start, count):
    return [f"{slot:%m-%dT%H:%M}" for slot in islice(Cron(expression, zone).slots(start), count)]


def test_weekday_numbers_are_those_of_crontab():
    sunday = datetime(2026, 1, 4, tzinfo=UTC)
    assert coming("0 6 * * 0", "UTC", sunday, 2) == ["01-04T06:00", "01-11T06:00"]
    assert coming("0 6 * * 7", "UTC", sunday, 1) == ["01-04T06:00"]
    assert coming("0 6 * * 1-5", "UTC", sunday, 6)[-1] == "01-12T06:00"
    assert coming("0 6 * * mon,wed", "UTC", sunday, 2) == ["01-05T06:00", "01-07T06:00"]
    assert coming("0 6 * * 5-7", "UTC", sunday, 3) == ["01-04T06:00", "01-09T06:00", "01-10T06:00"]


def test_hour_that_comes_twice_counts_once_and_one_that_is_missing_is_made_up_for():
    autumn = coming("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert autumn == ["10-25T00:30", "10-26T01:30"]
    spring = coming("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert spring == ["03-29T01:30", "03-30T00:30"]


def test_every_hour_means_every_hour_that_passes():
    slots_of = coming("0 * * * *", "Europe/Berlin", datetime(2026, 10, 24, 22, 30, tzinfo=UTC), 4)
    assert slots_of == ["10-24T23:00", "10-25T00:00", "10-25T01:00", "10-25T02:00"]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 6 * *", "five fields"),
        ("61 * * * *", "is not valid"),
        ("0 6 1 * 1", "days of the month and of the week"),
        ("0 6 * * xyz", "is not valid"),
    ],
)
def test_schedule_that_is_not_one_is_refused(expression, words):
    with pytest.raises(DataError, match=words):
        Cron(expression)


def test_time_zone_that_does_not_exist_and_a_day_that_never_comes_are_refused():
    with pytest.raises(DataError, match=r"no time zone 'Europe/Nowhere'.*'Europe/Berlin'"):
        Cron("0 6 * * *", "Europe/Nowhere")
    with pytest.raises(DataError, match="never comes due"):
        Cron("0 6 31 2 *").next(START)


def test_last_slot_is_found_however_rare():
    assert Cron("0 6 * * *").last(START) == START
    assert Cron("0 6 * * *").last(START - timedelta(seconds=1)) == START - timedelta(days=1)
    assert Cron("0 6 1 * *").last(START + timedelta(days=20)) == START
    assert Cron("0 6 1 1 *").last(START + timedelta(days=200)) is None


@pytest.fixture
def store():
    with Store("sqlite://") as opened:
        yield opened


def scheduled(store, since=START - timedelta(days=1), **settings):
    watch = lab.monitor({"a": model(Answering())}, questions(10), store=store, canary=False, **settings)
    made = watch.schedule("0 6 * * *")
    watch._change({"scheduled": slots_time(since)})
    return watch, made


def slots_time(at):
    from llmlab.monitor.rounds import slot_of

    return slot_of(at)


def test_due_slot_is_run_once(store):
    watch, made = scheduled(store)
    assert made.run_due(START + timedelta(minutes=10)).round.at == START
    assert made.run_due(START + timedelta(minutes=20)) is None
    assert len(watch.rounds()) == 1


def test_missed_slots_are_caught_up_by_one_round(store):
    watch, made = scheduled(store)
    made.run_due(START)
    made.run_due(START + timedelta(days=5, hours=3))
    assert [r.at for r in watch.rounds()] == [START, START + timedelta(days=5)]
    assert made.due(START + timedelta(days=5, hours=4)) is None


def test_clock_that_goes_back_makes_nothing_due(store):
    _, made = scheduled(store)
    made.run_due(START + timedelta(days=2))
    assert made.due(START + timedelta(days=1, hours=1)) is None


def test_slot_before_the_schedule_was_set_was_never_promised(store):
    _, made = scheduled(store, since=START + timedelta(minutes=1))
    assert made.due(START + timedelta(hours=1)) is None
    assert made.due(START + timedelta(days=1)) == START + timedelta(days=1)


def test_watch_without_a_schedule_says_how_to_set_one(store):
    with pytest.raises(DataError, match=r"watch.schedule\('0 6 \* \* \*'\)"):
        lab.monitor({"a": model(Answering())}, questions(10), store=store).schedule()


# -- who runs a slot --------------------------------------------------------------------------------------------


def test_of_two_who_want_a_slot_one_gets_it(store):
    with slots.claim(store, "w", "s") as first, slots.claim(store, "w", "s") as second:
        assert first is not None and second is None
        first.finish({"status": "complete"})
    with slots.claim(store, "w", "s") as third:
        assert third is None


def test_slot_of_an_owner_that_died_is_taken_over_when_the_lease_ends(store, monkeypatch):
    monkeypatch.setattr(slots, "LEASE", -1.0)
    store.documents.put(
        slots.KIND, "w/s", {"status": "running", "owner": "gone", "until": time.time() - 1, "slot": "s"}
    )
    monkeypatch.setattr(slots, "LEASE", 60.0)
    with slots.claim(store, "w", "s") as ours:
        assert ours is not None


def test_owner_that_was_overtaken_cannot_finish(store):
    from llmlab.errors import StoreError

    with pytest.raises(StoreError, match="taken over"), slots.claim(store, "w", "s") as ours:
        assert ours is not None
        store.documents.put(slots.KIND, "w/s", {"status": "running", "owner": "other", "until": 1e12, "slot": "s"})
        ours.finish({"status": "complete"})


def test_owner_that_lives_renews_its_lease(store, monkeypatch):
    monkeypatch.setattr(slots, "LEASE", 0.1)
    with slots.claim(store, "w", "s") as ours:
        assert ours is not None
        first = store.documents.get(slots.KIND, "w/s")["until"]
        deadline = time.monotonic() + 20
        while store.documents.get(slots.KIND, "w/s")["until"] <= first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert store.documents.get(slots.KIND, "w/s")["until"] > first


CHILD = """
import sys
from datetime import datetime
import llmlab as lab
from llmlab.monitor.schedule import Schedule
watch = lab.monitor({"a": "scripted/constant"}, ["micro/arc"], 8, store=sys.argv[1], canary=False, name="w")
sys.stdin.readline()
found = Schedule(watch, "0 6 * * *").run_due(datetime.fromisoformat(sys.argv[2]))
print("nothing" if found is None else found.round.slot)
"""


def test_two_processes_on_one_store_never_run_the_same_slot(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    Store(url).close()
    command = [sys.executable, "-W", "ignore", "-c", CHILD, url, datetime.now(UTC).isoformat()]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = sorted(child.communicate(timeout=240)[0].strip() for child in children)
    assert said[1] == "nothing" and said[0].endswith("Z"), said
    with Store(url) as store:
        assert len(store.runs()) == 1


def test_run_forever_catches_up_at_once_and_ends_when_asked(store):
    import threading

    watch, made = scheduled(store, since=datetime.now(UTC) - timedelta(days=2))
    stop = threading.Event()
    thread = threading.Thread(target=made.run_forever, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 60
    while not watch.rounds() and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join(60)
    assert not thread.is_alive() and len(watch.rounds()) == 1


# -- crontab and GitHub ----------------------------------------------------------------------------------------


def remote(store, **settings):
    watch = lab.monitor({"a": "openai/gpt-4o-mini"}, ["micro/arc"], store=store, name="nightly", **settings)
    return watch, watch.schedule("0 6 * * 1-5", "UTC")


def test_crontab_line_is_valid_and_holds_no_key(store, keys, tmp_path):
    _, made = remote(store)
    line = made.crontab("monitor.yaml", tmp_path)
    fields, command = line.split(maxsplit=5)[:5], line.split(maxsplit=5)[5]
    Cron(" ".join(fields))
    assert "--due" in command and "--cron '0 6 * * 1-5'" in command and str(tmp_path) in command
    assert not any(secret in line for secret in keys.values())
    assert line.endswith("# llmlab monitor nightly")


@pytest.mark.skipif(shutil.which("crontab") is None, reason="crontab is not installed (Debian's package cron)")
@pytest.mark.parametrize("cron", ["0 6 * * 1-5", "*/15 8-18 1 1,7 *", "0 0 * * sun"])
def test_crontab_itself_takes_the_line(store, tmp_path, cron):
    _, made = remote(store)
    (tmp_path / "tab").write_text(Schedule(made.watch, cron).crontab("monitor.yaml", tmp_path / "50 % off") + "\n")
    done = subprocess.run(["crontab", "-n", str(tmp_path / "tab")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_time_zone_than_the_machines_is_looked_after_by_us(store, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    watch, _ = remote(store)
    assert Schedule(watch, "0 6 * * *", "Asia/Tokyo").crontab().startswith("*/15 * * * * ")
    assert Schedule(watch, "0 6 * * *", "UTC").crontab().startswith("0 6 * * * ")


def test_line_is_installed_once_and_other_lines_stay(store, tmp_path, monkeypatch):
    # crontab itself, as POSIX has it: -l lists, - reads
    fake = tmp_path / "bin" / "crontab"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nif [ "$1" = -l ]; then cat "{tmp_path}/tab"; else cat > "{tmp_path}/tab"; fi\n')
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    (tmp_path / "tab").write_text("5 4 * * * backup\n")
    (tmp_path / "monitor.yaml").write_text("name: nightly\n")
    _, made = remote(store)
    for _ in range(2):
        line = made.install_crontab("monitor.yaml", tmp_path)
    assert (tmp_path / "tab").read_text().splitlines() == ["5 4 * * * backup", line]


def test_installing_needs_a_config_and_a_crontab(store, tmp_path, monkeypatch):
    _, made = remote(store)
    with pytest.raises(DataError, match="does not exist"):
        made.install_crontab("nowhere.yaml", tmp_path)
    (tmp_path / "monitor.yaml").write_text("name: nightly\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="no crontab command"):
        made.install_crontab("monitor.yaml", tmp_path)


@pytest.mark.parametrize("state", ["artifact", "branch"])
def test_workflow_is_yaml_with_the_steps_it_needs_and_keys_by_reference(store, keys, state):
    _, made = remote(store, channels=["$SLACK_URL"])
    text = made.workflow("configs/nightly.yaml", state)
    found = yaml.safe_load(text)
    for entry in found["on"]["schedule"]:
        Cron(entry["cron"])
    job = found["jobs"]["monitor"]
    assert job["env"]["OPENAI_API_KEY"] == "${{ secrets.OPENAI_API_KEY }}"
    assert job["env"]["SLACK_URL"] == "${{ secrets.SLACK_URL }}"
    assert not any(secret in text for secret in keys.values())
    steps = {step.get("name", step.get("uses")): step for step in job["steps"]}
    assert list(steps)[:2] == ["actions/checkout@v5", "actions/setup-python@v6"]
    assert "--due" in steps["Run"]["run"] and "--config configs/nightly.yaml" in steps["Run"]["run"]
    assert steps["Keep the report"]["if"] == "always()"
    assert steps["Keep the store"]["if"] == "always() && steps.store.outcome == 'success'"
    assert steps["Get the store"]["id"] == "store"
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    assert found["permissions"]["contents"] == ("write" if state == "branch" else "read")
    for step in job["steps"]:
        if "run" in step:
            subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


@pytest.mark.parametrize("state", ["artifact", "branch"])
def test_workflow_fits_the_schema_of_github(store, keys, tmp_path, state):
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed (pip install check-jsonschema)")
    _, made = remote(store, channels=["$SLACK_URL"])
    path = made.write_workflow(tmp_path / "monitor.yml", state=state)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def steps_of(made, state):
    """The scripts of a workflow by the names of their steps."""
    job = yaml.safe_load(made.workflow("monitor.yaml", state))["jobs"]["monitor"]
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def as_github_does(script, folder, **env):
    """GitHub's own shell for steps, with what a step inherits."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(
        command, cwd=folder, env=os.environ | quiet | env, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_store_on_a_branch_travels_from_run_to_run_and_is_never_replaced_blindly(store, tmp_path):
    _, made = remote(store)
    scripts = steps_of(made, "branch")
    there = tmp_path / "there.git"
    subprocess.run(["git", "init", "-q", "--bare", str(there)], check=True)
    for night in range(3):
        here = tmp_path / f"night{night}"
        subprocess.run(["git", "init", "-q", str(here)], check=True)
        subprocess.run(["git", "remote", "add", "origin", str(there)], cwd=here, check=True)
        got = as_github_does(scripts["Get the store"], here)
        assert got.returncode == 0, got.stderr
        kept = here / "monitor.db"
        assert (kept.read_bytes() if kept.exists() else b"") == bytes(range(night))
        assert ("no store yet" in got.stdout) == (night == 0)
        kept.write_bytes(bytes(range(night + 1)))
        done = as_github_does(scripts["Keep the store"], here)
        assert done.returncode == 0, done.stderr
    there.rename(tmp_path / "gone.git")
    lost = as_github_does(scripts["Get the store"], here)
    assert lost.returncode not in (0, 2)


def test_store_as_an_artefact_is_the_newest_and_an_error_stops_the_run(store, tmp_path):
    _, made = remote(store)
    script = steps_of(made, "artifact")["Get the store"]
    gh = tmp_path / "gh"
    # stands for GitHub's own program: `api` says which run has the store, `run download` fetches it
    gh.write_text(
        '#!/bin/sh\nif [ "$1" = api ]; then echo "$2" > asked; printf "%s" "$RUN"; exit ${FAILS:-0}; fi\n'
        'echo "$@" > downloaded\n'
    )
    gh.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "us/lab"}
    assert "no store yet" in as_github_does(script, tmp_path, RUN="", **env).stdout
    assert as_github_does(script, tmp_path, RUN="", FAILS="1", **env).returncode == 1
    assert as_github_does(script, tmp_path, RUN="42", **env).returncode == 0
    assert (tmp_path / "asked").read_text().startswith("repos/us/lab/actions/artifacts?name=monitor-nightly")
    assert (tmp_path / "downloaded").read_text() == "run download 42 --name monitor-nightly\n"


def test_workflow_moves_hours_to_utc_in_summer_and_winter():
    assert in_utc(Cron("0 6 * * *", "Europe/Berlin")) == ["0 4 * * *", "0 5 * * *"]
    assert in_utc(Cron("30 0 * * 1", "Europe/Berlin")) == ["30 22 * * 0", "30 23 * * 0"]
    assert in_utc(Cron("0 6 1 * *", "UTC")) == ["0 6 1 * *"]
    with pytest.raises(DataError, match="give the schedule in UTC"):
        in_utc(Cron("0 6 1 * *", "Europe/Berlin"))


def test_workflow_is_written_where_github_looks(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, made = remote(store)
    assert made.write_workflow().read_text() == made.workflow()
    assert (tmp_path / ".github/workflows/monitor-nightly.yml").is_file()
    with pytest.raises(UnknownName, match="artifact, branch"):
        made.workflow(state="cloud")
