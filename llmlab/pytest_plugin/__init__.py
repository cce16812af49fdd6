"""pytest over models: `pytest --llm-models=micro/base,openai/gpt-4o-mini tests_llm/`.

Collected are suite files (`*.suite.yaml`, `.yml`, `.json`, `.jsonl`, `.csv`, `.tsv`), each sample on each model a test,
and functions that take the fixture `llm`::

    @pytest.mark.llm(repeats=5, pass_rate=0.8)
    def test_is_polite(llm):
        assert "sorry" not in llm("Where is my parcel?").text

    @pytest.mark.llm(suite="capitals.suite.yaml")
    def test_is_brief(llm, sample):
        assert len(llm(sample).text) < 200

Answers are kept in the store: they are asked once, whatever is run again and by however many workers (pytest-xdist).
`-k` knows ids, models and tags. The summary has passed items with intervals, flaky ones, and what it cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmlab.pytest_plugin.session import BENCH, NO_MODELS, bench, models

if TYPE_CHECKING:
    from llmlab.pytest_plugin.asking import Subject

_SUITE = re.compile(r".+\.suite\.(?:ya?ml|jsonl?|csv|tsv)$")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, all of which begin with --llm."""
    group = parser.getgroup("llm", "language models (llmlab)")
    group.addoption("--llm-models", metavar="A,B", help="models to test, separated by commas")
    group.addoption("--llm-repeats", type=int, metavar="N", help="ask each item N times, whatever the suite says")
    group.addoption("--llm-budget", type=float, metavar="USD", help="most US dollars that this session may spend")
    group.addoption("--llm-store", metavar="URL", help="SQLAlchemy URL of the store; the default store if left out")
    group.addoption("--llm-fresh", action="store_true", help="ask anew, also what the store has an answer to")
    parser.addini("llm_models", "models to test when --llm-models is left out", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the summary."""
    marker = "llm(suite=None, repeats=1, pass_rate=1.0): a test of language models, which asks through the fixture llm"
    config.addinivalue_line("markers", marker)
    budget, repeats = config.getoption("--llm-budget"), config.getoption("--llm-repeats")
    if budget is not None and not 0 <= budget < float("inf"):
        raise pytest.UsageError(f"--llm-budget is a number of US dollars, 0 or more; got {budget}")
    if repeats is not None and repeats < 1:
        raise pytest.UsageError(f"--llm-repeats must be at least 1; got {repeats}")
    if not hasattr(config, "workerinput"):  # with xdist the reports of all workers arrive at the controller
        from llmlab.pytest_plugin.summary import Summary

        config.pluginmanager.register(Summary(config.rootpath), "llmlab-summary")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the store."""
    bench = config.stash.get(BENCH, None)
    if bench is not None:
        bench.close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Suite files become tests."""
    if not is_suite(file_path):
        return None
    from llmlab.pytest_plugin.items import SuiteFile

    return SuiteFile.from_parent(parent, path=file_path)


def is_suite(path: Path) -> bool:
    """Whether a file is a suite by its name."""
    return bool(_SUITE.match(path.name))


# -- functions ------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each model, and for each sample of the suite that the marker names."""
    marker = metafunc.definition.get_closest_marker("llm")
    if "llm" not in metafunc.fixturenames and marker is None:
        return
    from llmlab.errors import LabError

    try:
        if "llm" in metafunc.fixturenames:
            _per_model(metafunc)
        if marker is not None and marker.kwargs.get("suite") and "sample" in metafunc.fixturenames:
            _per_sample(metafunc, marker.kwargs["suite"])
    except LabError as error:  # what is wrong is said once, without a traceback
        raise pytest.Collector.CollectError(str(error)) from error


def _per_model(metafunc: pytest.Metafunc) -> None:
    names: list[Any] = list(models(metafunc.config))
    for name in names:
        bench(metafunc.config).model(name)
    missing = [pytest.param(None, marks=pytest.mark.skip(reason=NO_MODELS), id="no model")]
    metafunc.parametrize("llm", names or missing, indirect=True)


def _per_sample(metafunc: pytest.Metafunc, name: str) -> None:
    from llmlab.benchmarks.suite import suite

    samples = suite(metafunc.definition.path.parent / name).samples()
    metafunc.parametrize("sample", samples, ids=[sample.id for sample in samples])


@pytest.fixture
def llm(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The model under test: `llm(prompt)` gives a Response; `llm.name`, `llm.model` say which one it is."""
    from llmlab.pytest_plugin.asking import Subject

    subject = Subject(bench(request.config), request.param)
    yield subject
    request.node.user_properties += subject.properties(request.node.path.name)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked function as often as its marker says, and pass it when enough of the runs do."""
    marker, subject = pyfuncitem.get_closest_marker("llm"), pyfuncitem.funcargs.get("llm")
    if subject is None:
        return None
    from llmlab.pytest_plugin.asking import Subject
    from llmlab.pytest_plugin.items import repeated

    if not isinstance(subject, Subject):  # a fixture of the same name that is someone else's
        return None

    repeated(pyfuncitem, subject, **(marker.kwargs if marker is not None else {}))
    return True
