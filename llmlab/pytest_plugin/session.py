"""What a pytest session was started with: the models to test, and what asks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llmlab.pytest_plugin.asking import Bench

NO_MODELS = "no model to test: give --llm-models=micro/base,… or set llm_models in the pytest settings"
BENCH = pytest.StashKey["Bench"]()


def models(config: pytest.Config) -> list[str]:
    """Names of the models to test; empty when none is given."""
    given = config.getoption("--llm-models")
    listed = given.split(",") if given else config.getini("llm_models")
    return [name for part in listed for name in (piece.strip() for piece in part.split(",")) if name]


def bench(config: pytest.Config) -> Bench:
    """What asks in this process; made on first use, so that other tests do not pay for it."""
    if BENCH not in config.stash:
        from llmlab.pytest_plugin.asking import Bench

        config.stash[BENCH] = Bench(
            config.getoption("--llm-store"),
            config.getoption("--llm-repeats"),
            config.getoption("--llm-budget"),
            config.getoption("--llm-fresh"),
            getattr(config, "workerinput", {}).get("testrunuid", ""),
        )
    return config.stash[BENCH]
