"""CPU seconds of `import llmlab` and `llmlab --help`, each less an empty interpreter: medians of several runs.

usage: python tests/benchmarks/startup.py [--runs 11]
"""

import argparse
import resource
import statistics
import subprocess
import sys

COMMANDS = {
    "empty interpreter": ["-c", "pass"],
    "import llmlab": ["-c", "import llmlab"],
    "llmlab --help": ["-m", "llmlab", "--help"],
    "import openai": ["-c", "import openai"],
    "import pandas": ["-c", "import pandas"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system seconds of one child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    for arguments in COMMANDS.values():
        cpu_seconds(arguments)  # fill the disk cache
    times = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            times[name].append(cpu_seconds(arguments))
    empty = statistics.median(times["empty interpreter"])
    print(f"{'':20} {'CPU s':>7} {'less empty':>11}   median of {runs}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:20} {median:7.3f} {median - empty:11.3f}")


if __name__ == "__main__":
    main()
