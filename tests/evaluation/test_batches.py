"""Batch APIs, through the real SDKs against the stand-in: nothing is paid twice, nothing is lost, all is counted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import llmlab as lab
from llmlab.evaluation import batches
from llmlab.store import Store
from llmlab.testing import Answer, Fault, ProviderServer
from llmlab.types import Request
from tests.contract.models import cloud

from .toy import Doubling, right

NAMES = ("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "google/gemini-2.5-flash")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, keys: dict[str, str]) -> None:
    monkeypatch.setattr(batches, "FIRST_WAIT", 0.01)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


@pytest.fixture
def server() -> Any:
    with ProviderServer(twice) as running:
        yield running


def twice(messages: Any) -> str:
    return str(2 * int(messages[-1]["content"].removeprefix("Twice ").removesuffix("?")))


def run(models: Any, store: str, benchmark: Any = None, **settings: Any) -> Any:
    return lab.evaluate(models, benchmark or Doubling(), store=store, progress=False, batch=True, **settings)


def submitted(server: ProviderServer) -> list[int]:
    return [len(b.requests) for b in server.batches.submitted]


def most(name: str, server: ProviderServer) -> float:
    """The worst case of one question, asked as usual."""
    return cloud(name, server).worst_case(Request.of("Twice 1?", max_tokens=16))


def open_batches(store: str) -> int:
    with Store(store) as source:
        return len(source.documents.find("batch"))


def test_all_but_the_first_item_go_in_one_batch_at_half_the_price(
    name: str, server: ProviderServer, store: str
) -> None:
    results = run(cloud(name, server), store)
    samples = results.samples
    assert results.status == "complete" and (samples.score == 1.0).all() and len(samples) == 20
    assert submitted(server) == [19]
    batched = samples[samples.price.str.endswith("(batch)")]
    (asked,) = samples[~samples.price.str.endswith("(batch)")].to_dict("records")
    assert len(batched) == 19 and batched.cost.tolist() == pytest.approx([asked["cost"] / 2] * 19)
    assert batched.seconds.isna().all() and asked["seconds"] > 0  # how long a batch lies there says nothing
    costs = results.cost().iloc[0]
    assert costs["input_cost"] + costs["output_cost"] == pytest.approx(costs["cost"])
    assert open_batches(store) == 0


def test_stored_answers_are_not_submitted_again(name: str, server: ProviderServer, store: str) -> None:
    run(cloud(name, server), store, n=10)
    received = len(server.requests)
    again = run(cloud(name, server), store, n=10)
    assert len(server.requests) == received and again.samples.cached.all()
    assert lab.evaluate(cloud(name, server), Doubling(), n=10, store=store, progress=False).samples.cached.all()


def test_requests_without_an_answer_are_counted_and_asked_again(name: str, server: ProviderServer, store: str) -> None:
    lost: dict[str, Any] = {}

    def outcome(key: str) -> Any:
        return lost.setdefault(key, ("expired", "cancelled", "answered")[len(lost) % 3])

    server.batches.outcome = outcome
    first = run(cloud(name, server), store)
    failed = first.samples[first.samples.error != ""]
    assert len(failed) == 13 and failed.score.isna().all() and failed.cost.isna().all()
    assert first.summary().iloc[0][["n", "failed"]].tolist() == [7, 13]
    assert failed.error.str.contains("run again to ask|expired|cancelled").all()
    server.batches.outcome = lambda key: "answered"
    again = run(cloud(name, server), store)
    assert (again.samples.score == 1.0).all() and submitted(server) == [19, 12]


def test_single_requests_that_fail_say_why(name: str, server: ProviderServer, store: str) -> None:
    def fault(received: Any) -> Fault | None:
        whole = "batch" in received.path or "files" in received.path
        return Fault("bad_request", message="odd") if "Twice 7?" in str(received.body) and not whole else None

    server.fault = fault
    server.batches.polls = 0
    samples = run(cloud(name, server), store).samples
    (failed,) = samples[samples.error != ""].to_dict("records")
    assert (failed["sample"], failed["error_kind"]) == ("7", "BadRequest") and "odd" in failed["error"]


def test_a_batch_that_fails_as_a_whole_fails_its_rows(name: str, server: ProviderServer, store: str) -> None:
    server.batches.failure = "the file is too odd"
    results = run(cloud(name, server), store)
    assert results.summary().iloc[0][["n", "failed"]].tolist() == [1, 19] or name.startswith("anthropic")
    if name.startswith("openai"):
        assert "the file is too odd" in results.samples.error.iloc[-1]
    assert open_batches(store) == 0


def test_a_wrong_model_is_seen_before_anything_is_submitted(name: str, server: ProviderServer, store: str) -> None:
    server.fail("not_found")
    results = run(cloud(name, server), store)
    assert submitted(server) == [] and (results.samples.error.str.contains("404")).all()


def test_an_option_that_the_model_refuses_is_left_out_of_the_batch(server: ProviderServer, store: str) -> None:
    server.unsupported = {"temperature"}
    samples = run(cloud(NAMES[0], server, temperature=0.5), store).samples
    assert (samples.score == 1.0).all() and samples.dropped.map(list).tolist() == [["temperature"]] * 20


def test_choices_are_decided_by_letter(name: str, server: ProviderServer, store: str) -> None:
    server.answer = lambda messages: Answer("B", top={"B": 0.75, "A": 0.25})
    items = [lab.Sample(f"{i}?", choices=("no", "yes"), target=1) for i in range(4)]
    results = run(cloud(name, server), store, lab.suite(items), protocol="letter")
    assert (results.samples.score == 1.0).all() and submitted(server) == [3]


def test_probabilities_of_letters_come_through_a_batch(server: ProviderServer, store: str) -> None:
    server.answer = lambda messages: Answer("B", top={"B": 0.75, "A": 0.25})
    items = [lab.Sample(f"{i}?", choices=("no", "yes"), target=1) for i in range(4)]
    results = run(cloud(NAMES[0], server), store, lab.suite(items), protocol="letter_logprob")
    assert (results.samples.score == 1.0).all() and submitted(server) == [3]


def test_models_without_a_batch_api_are_asked_as_usual_and_said_so(server: ProviderServer, store: str) -> None:
    with pytest.warns(UserWarning, match="scripted/right is asked doubling as usual: there is no batch API for it"):
        results = run([right(), cloud(NAMES[0], server)], store)
    assert (results.samples.score == 1.0).all() and submitted(server) == [19]


def test_several_models_and_benchmarks_make_a_batch_per_model(server: ProviderServer, store: str) -> None:
    models = [cloud(name, server) for name in NAMES]
    results = run(models, store, [Doubling(10), Doubling(12, "more")], repeats=2)
    # the same question is asked once for both, and each model and benchmark has a first one
    assert submitted(server) == [22, 22, 22] and len(results.samples) == 3 * 44
    assert (results.samples.score == 1.0).all()


@pytest.mark.parametrize(("requests", "size"), [(7, 10**9), (10**9, 7 * 230)])
def test_large_batches_are_split_at_the_limits(
    requests: int, size: int, server: ProviderServer, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmlab.models.openai import OpenAIModel
    from llmlab.models.remote import Limits

    monkeypatch.setattr(OpenAIModel, "batches", Limits(requests, size))
    results = run(cloud(NAMES[0], server), store)
    assert (results.samples.score == 1.0).all()
    assert sum(submitted(server)) == 19 and max(submitted(server)) <= 7 and len(submitted(server)) == 3


def test_the_whole_batch_is_reserved_before_it_is_submitted(name: str, server: ProviderServer, store: str) -> None:
    with pytest.warns(UserWarning, match="a batch of 19 requests was not submitted, because .* could cost up to"):
        poor = run(cloud(name, server), store, budget=3 * most(name, server))
    assert submitted(server) == [] and poor.status == "budget" and len(poor.samples) == 1
    with lab.ledger(budget=1.0) as spending:
        run(cloud(name, server), store)
    assert spending.reserved == 0 and 0 < spending.spent < 0.01


def test_a_wait_that_is_interrupted_says_how_to_collect(name: str, server: ProviderServer, store: str) -> None:
    server.batches.polls = 10**6

    def interrupt() -> None:
        while not (server.batches.submitted and server.batches.submitted[0].polls > 1):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with (
        lab.ledger(budget=1.0) as spending,
        pytest.warns(
            UserWarning, match=f"19 items are in batches that go on .*{name} .*1.*the same call collects them"
        ),
    ):
        results = run(cloud(name, server), store)
    assert results.status == "interrupted" and len(results.samples) == 1
    # what is under way counts with its worst case
    assert spending.reserved == 0 and spending.spent > 19 / 2 * 0.95 * most(name, server)
    server.batches.polls = 0
    again = run(cloud(name, server), store)
    assert submitted(server) == [19] and (again.samples.score == 1.0).all()


PROGRAM = """
    import sys
    import llmlab as lab
    from llmlab.evaluation import batches
    from tests.contract.models import CLOUD
    from tests.evaluation.toy import Doubling

    class Server:
        openai_url, url = sys.argv[2] + "/v1", sys.argv[2]

    batches.FIRST_WAIT = 0.05
    model = lab.model(sys.argv[1], **CLOUD[sys.argv[1]](Server))
    lab.evaluate(model, Doubling(), store=sys.argv[3], progress=False, batch=True)
"""


def killed(name: str, server: ProviderServer, store: str, when: Any) -> None:
    """Run an evaluation in a process of its own and kill it as soon as `when` says so."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), name, server.url, store]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as program:
        until = time.monotonic() + 60
        while not when() and time.monotonic() < until and program.poll() is None:
            time.sleep(0.005)
        program.kill()
    assert program.returncode == -signal.SIGKILL


def test_a_killed_program_goes_on_with_its_batch(name: str, server: ProviderServer, store: str) -> None:
    server.batches.polls = 10**6
    killed(name, server, store, lambda: server.batches.submitted and server.batches.submitted[0].polls)
    server.batches.polls = 0
    results = run(cloud(name, server), store)
    assert submitted(server) == [19] and (results.samples.score == 1.0).all()
    assert open_batches(store) == 0
    with Store(store) as source:
        assert source.runs().iloc[0]["cost"] == pytest.approx(results.samples.cost[~results.samples.cached].sum())


@pytest.mark.slow
def test_a_program_killed_before_it_heard_the_id_finds_its_batch(name: str, server: ProviderServer, store: str) -> None:
    server.batches.polls = 0
    # the batch arrives, its id takes forever to come back
    slow = server._send_whole

    async def held(writer: Any, reply: Any, fault: Any) -> bool:
        if server.batches.submitted:
            await asyncio.sleep(60)
        return await slow(writer, reply, fault)

    server._send_whole = held  # type: ignore[method-assign]
    killed(name, server, store, lambda: server.batches.submitted)
    server._send_whole = slow  # type: ignore[method-assign]
    results = run(cloud(name, server), store)
    assert submitted(server) == [19] and (results.samples.score == 1.0).all()


def test_a_submission_whose_answer_is_lost_is_not_sent_twice(name: str, server: ProviderServer, store: str) -> None:
    def fault(received: Any) -> Fault | None:
        create = received.method == "POST" and received.path.split("?")[0].endswith(("batches", "batchGenerateContent"))
        return Fault("cut") if create and not server.batches.submitted else None

    server.fault = fault
    results = run(cloud(name, server), store)
    assert submitted(server) == [19] and (results.samples.score == 1.0).all()


@pytest.mark.slow
def test_a_batch_of_more_items_is_kept_until_all_are_collected(server: ProviderServer, store: str) -> None:
    server.batches.polls = 10**6
    model = cloud(NAMES[0], server)
    killed(NAMES[0], server, store, lambda: server.batches.submitted and server.batches.submitted[0].polls)
    server.batches.polls = 0
    few = run(model, store, n=5)
    assert (few.samples.score == 1.0).all() and open_batches(store) == 1
    many = run(model, store)
    assert (many.samples.score == 1.0).all() and submitted(server) == [19] and open_batches(store) == 0


def test_looking_at_a_batch_survives_what_heals(name: str, server: ProviderServer, store: str) -> None:
    faults = iter(["server_error", "rate_limited", "overloaded"])
    server.fault = lambda r: Fault(next(faults, "slow")) if r.method == "GET" else None  # type: ignore[arg-type]
    assert (run(cloud(name, server), store).samples.score == 1.0).all()


def test_a_batch_that_the_provider_forgot_fails_its_rows_and_is_submitted_anew(
    name: str, server: ProviderServer, store: str
) -> None:
    server.fault = lambda received: Fault("not_found") if received.method == "GET" else None
    first = run(cloud(name, server), store)
    assert first.summary().iloc[0]["failed"] == 19 and open_batches(store) == 0
    server.fault = lambda received: None
    assert (run(cloud(name, server), store).samples.score == 1.0).all() and submitted(server) == [19, 18]


def test_the_key_may_be_mended_while_a_batch_is_under_way(name: str, server: ProviderServer, store: str) -> None:
    server.fault = lambda received: Fault("unauthorized") if received.method == "GET" else None
    assert run(cloud(name, server), store).summary().iloc[0]["failed"] == 19
    server.fault = lambda received: None
    assert (run(cloud(name, server), store).samples.score == 1.0).all() and submitted(server) == [19]


def test_a_rule_that_stops_early_does_not_go_with_a_batch(server: ProviderServer, store: str) -> None:
    with pytest.raises(ValueError, match="a batch is asked as a whole"):
        run(cloud(NAMES[0], server), store, until=lab.decided(0.1))


def test_local_models_alone_need_no_batch_api(store: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert (run(right(), store).samples.score == 1.0).all()
    assert [str(w.message) for w in said] == ["scripted/right is asked doubling as usual: there is no batch API for it"]


def test_the_command_line_asks_by_batch(server: ProviderServer, tmp_path: Path) -> None:
    suite = tmp_path / "s.suite.jsonl"
    suite.write_text("".join(f'{{"id": "{i}", "input": "Twice {i}?", "target": "{2 * i}"}}\n' for i in range(3)))
    from typer.testing import CliRunner

    from llmlab.cli.app import app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.openai_url)
        done = CliRunner().invoke(app, ["run", "-m", NAMES[0], "-b", str(suite), "--batch", "-q"])
    assert done.exit_code == 0, done.output
    assert submitted(server) == [2] and "100.0" in done.output
