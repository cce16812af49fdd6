"""Make the embedded world again: `python -m llmlab.microworld train | guard | data | measure`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmlab.microworld", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train the embedded models from scratch")
    train.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder of the checkpoints")
    train.add_argument(
        "--model", action="append", help="only this one: micro-tiny, micro-small or micro-base (repeatable)"
    )
    train.add_argument("--tokens", type=float, help="tokens of training, instead of the recipe's")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    train.add_argument("--threads", type=int, default=1, help="CPU threads; the count changes the last bits")

    guard = commands.add_parser("guard", help="train the two embedded classifiers of the safety filter")
    guard.add_argument("--out", type=Path, default=Path("checkpoints"))
    guard.add_argument("--seed", type=int, default=0)

    data = commands.add_parser("data", help="write the benchmark rows and the fine-tuning files")
    data.add_argument("--out", type=Path, default=Path("data"))
    data.add_argument("--seed", type=int, default=0)

    measure = commands.add_parser("measure", help="print the score card of a checkpoint as JSON")
    measure.add_argument("checkpoint", type=Path, nargs="+")
    measure.add_argument("-n", type=int, default=150, help="rows of each benchmark")
    return parser


def _quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not annotated


def _train(args: argparse.Namespace) -> None:
    import torch

    from llmlab.microworld.train import RECIPES, train

    torch.set_num_threads(args.threads)
    _quiet()
    for name in args.model or RECIPES:
        train(name, args.out, int(args.tokens) if args.tokens else None, args.seed, args.device)


def _data(args: argparse.Namespace) -> None:
    from llmlab.microworld.files import write_all

    for path in write_all(args.out, args.seed):
        logging.getLogger(__name__).info("wrote %s", path)


def _guard(args: argparse.Namespace) -> None:
    from llmlab.microworld.guard import write

    for path in write(args.out, args.seed):
        logging.getLogger(__name__).info("wrote %s", path)


def _measure(args: argparse.Namespace) -> None:
    from llmlab.microworld.measure import card

    _quiet()
    json.dump({str(path): card(path, args.n) for path in args.checkpoint}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def main(argv: list[str] | None = None) -> None:
    """Run one command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args = _parser().parse_args(argv)
    {"train": _train, "guard": _guard, "data": _data, "measure": _measure}[args.command](args)


if __name__ == "__main__":
    main()
