"""A GitHub Actions workflow that runs a watch. Keys are named, never written; the store travels between runs."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from llmlab.errors import DataError, UnknownName
from llmlab.monitor.config import REFERENCE
from llmlab.monitor.install import arguments

if TYPE_CHECKING:
    from llmlab.monitor.schedule import Cron, Schedule

_KEYS = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GEMINI_API_KEY",
    "google-legacy": "GEMINI_API_KEY",
}
_STORE = "monitor.db"
# what was paid for is kept whatever the run said, but never in place of a store that could not be read
_RESTORED = "always() && steps.store.outcome == 'success'"
_LOCAL = ("hf/", "micro/", "gguf/")


def text(schedule: Schedule, config: str, state: Literal["artifact", "branch"]) -> str:
    """See `Schedule.workflow`.

    Raises:
        UnknownName: for another `state`.
        DataError: for a schedule that cannot be said in UTC.
    """
    import yaml

    if state not in ("artifact", "branch"):
        raise UnknownName.among("place for the store", state, ("artifact", "branch"))
    name = schedule.watch.name
    job = {
        "runs-on": "ubuntu-latest",
        "timeout-minutes": 350,
        "env": _environment(schedule),
        "steps": [*_prepare(schedule), *_restore(name, state), *_run(schedule, config), *_keep(name, state)],
    }
    made = {
        "name": f"monitor {name}",
        "on": {"schedule": [{"cron": line} for line in in_utc(schedule.cron)], "workflow_dispatch": {}},
        # two runs at once would each go on from the same store, and one would be lost
        "concurrency": {"group": f"monitor-{name}", "cancel-in-progress": False},
        "permissions": {"contents": "write" if state == "branch" else "read", "actions": "read"},
        "jobs": {"monitor": job},
    }
    head = f"# Made by `llmlab monitor schedule --github`: {schedule.cron.expression} ({schedule.cron.timezone}).\n"
    head += "# Keys are read from the repository's secrets. `--due` runs each slot once, however often this starts.\n"
    return head + yaml.dump(made, Dumper=_dumper(), sort_keys=False, width=1000, allow_unicode=True)


def in_utc(cron: Cron) -> list[str]:
    """The crontab lines in UTC that hit every slot of a year; two of them where summer time moves the hour.

    Raises:
        DataError: when the schedule names days of the month or months in another zone than UTC.
    """
    if cron.timezone == "UTC":
        return [cron.expression]
    _, _, day, month, weekday = cron.expression.split()
    if (day, month) != ("*", "*"):
        raise DataError(
            f"GitHub runs schedules in UTC, and {cron.expression!r} in {cron.timezone} names days or months, "
            "which cannot be moved; give the schedule in UTC"
        )
    start = datetime.now(UTC)
    times: dict[tuple[int, int], set[int]] = {}
    for slot in cron.slots(start):
        if slot > start + timedelta(days=366):
            break
        times.setdefault((slot.hour, slot.minute), set()).add(slot.isoweekday() % 7)
    if len(times) > 24:
        hours_free = f"{cron.expression.split()[0]} * * * {weekday}"
        return [hours_free]  # so often that the hours do not matter: `--due` sorts them out
    return [
        f"{minute} {hour} * * {'*' if weekday == '*' else ','.join(map(str, sorted(days)))}"
        for (hour, minute), days in sorted(times.items())
    ]


def _environment(schedule: Schedule) -> dict[str, str]:
    """Every key by reference: those of the models' providers and those of the channels."""
    providers = [name.partition("/")[0] for name in schedule.watch.settings.models.values()]
    names = [_KEYS[p] for p in providers if p in _KEYS]
    names += [m[1] for channel in schedule.watch.settings.channels if (m := REFERENCE.fullmatch(channel))]
    secrets = {name: f"${{{{ secrets.{name} }}}}" for name in dict.fromkeys(names)}
    return {"LLMLAB_STORE": f"sqlite:///{_STORE}", **secrets}


def _prepare(schedule: Schedule) -> list[dict[str, Any]]:
    local = any(name.startswith(_LOCAL) for name in schedule.watch.settings.models.values())
    extras = "monitor,local" if local else "monitor"
    return [
        {"uses": "actions/checkout@v5"},
        {"uses": "actions/setup-python@v6", "with": {"python-version": "3.12", "cache": "pip"}},
        # a checkout of llmlab installs itself; any other repository takes the package
        {"name": "Install", "run": f"if grep -qs 'name = \"llmlab\"' pyproject.toml; then pip install '.[{extras}]'; "
         f"else pip install 'llmlab[{extras}]'; fi"},
    ]  # fmt: skip


def _restore(name: str, state: str) -> list[dict[str, Any]]:
    """Fails when it cannot tell whether there is a store: with an empty one in its place the history would be lost."""
    step: dict[str, Any] = {"name": "Get the store", "id": "store"}
    if state == "branch":
        script = (
            f"found=0; git ls-remote --exit-code origin refs/heads/monitor-{name} > /dev/null || found=$?; "
            f"if [ $found = 0 ]; then git fetch --depth 1 origin monitor-{name}; "
            f"git show FETCH_HEAD:{_STORE} > {_STORE}; "
            "elif [ $found = 2 ]; then echo 'no store yet'; else exit $found; fi"
        )
        return [{**step, "run": script}]
    script = (
        f'run=$(gh api "repos/$GITHUB_REPOSITORY/actions/artifacts?name=monitor-{name}&per_page=100" '
        "--jq '[.artifacts[] | select(.expired | not)] | sort_by(.created_at) | last | .workflow_run.id // empty'); "
        f'if [ -n "$run" ]; then gh run download "$run" --name monitor-{name}; else echo \'no store yet\'; fi'
    )
    return [{**step, "env": {"GH_TOKEN": "${{ github.token }}"}, "run": script}]


def _run(schedule: Schedule, config: str) -> list[dict[str, Any]]:
    same = shlex.join(["--config", config, "--name", schedule.watch.name])
    due = shlex.join(["llmlab", "monitor", "run", "--quiet", *arguments(schedule, config)])
    # a manual start runs whatever the schedule says
    run = f"if [ $GITHUB_EVENT_NAME = schedule ]; then {due}; else llmlab monitor run --quiet {same}; fi"
    report = f"llmlab monitor report {same} report.html && llmlab monitor report {same} report.md"
    return [
        {"name": "Run", "run": run},
        {"name": "Report", "if": "always()", "run": f'{report} && cat report.md >> "$GITHUB_STEP_SUMMARY"'},
    ]


def _keep(name: str, state: str) -> list[dict[str, Any]]:
    report = {
        "name": "Keep the report",
        "if": "always()",
        "uses": "actions/upload-artifact@v4",
        "with": {"name": f"report-{name}", "path": "report.html"},
    }
    if state == "artifact":
        keep = {"name": f"monitor-{name}", "path": _STORE, "retention-days": 90, "if-no-files-found": "error"}
        return [
            {"name": "Keep the store", "if": _RESTORED, "uses": "actions/upload-artifact@v4", "with": keep},
            report,
        ]
    script = (
        "git config user.name monitor && git config user.email monitor@users.noreply.github.com && "
        f"tree=$(printf '100644 blob %s\\t{_STORE}\\n' $(git hash-object -w {_STORE}) | git mktree) && "
        f'git push -f origin $(git commit-tree -m "Store of {name}" $tree):refs/heads/monitor-{name}'
    )
    return [{"name": "Keep the store", "if": _RESTORED, "run": script}, report]


def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes long commands as blocks, and `on` without quotes, which GitHub reads as a word."""

    def written(dumper: Any, value: str) -> Any:
        style = '"' if re.fullmatch(r"[\d*/, -]+", value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, written)
    return Dumper
