"""What can be served, what is recorded, and experiments on live traffic."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.request

import openai
import pytest

import llmlab as lab
from llmlab.errors import DataError, LabError
from llmlab.models.scripted import Scripted
from llmlab.serve.server import serve
from llmlab.store import Store

ASK = [{"role": "user", "content": "How do I build a bomb?"}]


@pytest.fixture
def store():
    with Store("sqlite://") as made:
        yield made


def client(server):
    return openai.OpenAI(base_url=server.openai_url, api_key="x", max_retries=0)


def feedback(server, **body):
    request = urllib.request.Request(
        f"{server.openai_url}/feedback", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def test_every_kind_of_model_can_be_served(store):
    kinds = {
        "one": Scripted("same", "scripted/one"),
        "panel": lab.ensemble(["scripted/constant", "scripted/constant", "scripted/echo"]),
    }
    with lab.serve(kinds, store=store) as server, client(server) as ask:
        for name in kinds:
            answer = ask.chat.completions.create(model=name, messages=ASK)
            pieces = ask.chat.completions.create(model=name, messages=ASK, stream=True)
            text = "".join(p.choices[0].delta.content or "" for p in pieces)
            assert text == answer.choices[0].message.content


def test_a_cloud_model_is_served_with_its_errors(store, server, keys, monkeypatch):
    from llmlab.testing import ProviderServer

    with ProviderServer("Paris") as cloud:
        model = lab.model("openai/gpt-4o-mini", base_url=cloud.openai_url, tries=1)
        with serve(model, store=store) as ours, client(ours) as ask:
            name = "openai/gpt-4o-mini"
            assert ask.chat.completions.create(model=name, messages=ASK).choices[0].message.content == "Paris"
            schema = {"type": "object", "properties": {}, "additionalProperties": False}
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            ask.chat.completions.create(model=name, messages=ASK, response_format=form)
            assert cloud.last.body["response_format"]["json_schema"]["schema"] == schema
            cloud.fail("rate_limited", retry_after=7)
            with pytest.raises(openai.RateLimitError) as caught:
                ask.chat.completions.create(model=name, messages=ASK)
            assert caught.value.response.headers["retry-after"] == "7"
            cloud.fail("unauthorized")
            with pytest.raises(openai.InternalServerError) as caught:
                ask.chat.completions.create(model=name, messages=ASK)
            assert caught.value.status_code == 502
            assert "secret" not in str(caught.value)


def test_a_guard_stands_before_every_model(store, tmp_path):
    rules = tmp_path / "guard.yaml"
    rules.write_text("rules:\n- {id: bombs, keywords: [bomb], action: block}\n")
    models = {"echo": lab.model("scripted/echo"), "loose": Scripted("a bomb is easy", "scripted/loose")}
    with serve(models, guard=rules, store=store) as server, client(server) as ask:
        for name, prompt in (("echo", "a bomb please"), ("loose", "hello")):
            question = [{"role": "user", "content": prompt}]
            answer = ask.chat.completions.create(model=name, messages=question)
            assert answer.choices[0].finish_reason == "content_filter"
            assert "bomb" not in answer.choices[0].message.content
            assert any("blocked" in note for note in answer.llmlab["notes"])
            pieces = ask.chat.completions.create(model=name, messages=question, stream=True)
            assert "bomb" not in "".join(p.choices[0].delta.content or "" for p in pieces)
        harmless = ask.chat.completions.create(model="echo", messages=[{"role": "user", "content": "good morning"}])
        assert harmless.choices[0].message.content == "good morning"


def test_usage_and_cost_go_into_the_store_and_words_do_not(store):
    with serve({"priced": Scripted("one two three", cost=0.25)}, store=store) as server, client(server) as ask:
        first = ask.chat.completions.create(model="priced", messages=ASK, user="ann")
        ask.chat.completions.create(model="priced", messages=ASK, n=2)
        for _ in ask.chat.completions.create(model="priced", messages=ASK, stream=True):
            pass
        with pytest.raises(openai.BadRequestError):
            ask.chat.completions.create(model="priced", messages=ASK, top_logprobs=3)
        server.stop()
        table = server.usage()
    row = table.loc[table.index[0]]
    assert (row["requests"], row["output_tokens"], row["cost"]) == (3, 12, 1.0)
    kept = store.answers([first.id])[first.id]
    assert (kept["cost"], kept["request"]["user"], kept["reply"]["usage"]["output_tokens"]) == (0.25, "ann", 3)
    assert "bomb" not in json.dumps(kept, default=str) and "two" not in json.dumps(kept, default=str)


def test_metrics_count_requests_tokens_and_costs(store):
    with serve({"priced": Scripted("one two", cost=0.5)}, store=store) as server, client(server) as ask:
        ask.chat.completions.create(model="priced", messages=ASK)
        with pytest.raises(openai.BadRequestError):
            ask.completions.create(model="priced", prompt="x", echo=True)
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as reply:
            text = reply.read().decode()
    assert 'llmlab_requests_total{endpoint="chat",model="priced",status="200"} 1.0' in text
    assert 'llmlab_requests_total{endpoint="completions",model="priced",status="400"} 1.0' in text
    assert 'llmlab_tokens_total{kind="written",model="priced"} 2.0' in text
    assert 'llmlab_cost_dollars_total{model="priced"} 0.5' in text
    assert "llmlab_calls_under_way 0.0" in text


def test_an_experiment_splits_users_takes_feedback_and_stops(store):
    arms = {"plain": Scripted("plain"), "better": Scripted("better")}
    with serve(arms, experiment="tone", store=store) as server, client(server) as ask:

        def turn(user):
            return ask.chat.completions.create(model="tone", messages=ASK, user=user)

        told = 0
        met = {}
        for i in range(400):
            answer = turn(f"user-{i}")
            met[f"user-{i}"] = text = answer.choices[0].message.content
            assert answer.model == "tone"
            told += feedback(server, id=answer.id, value=float(text == "better"))["counted"]
            if server.live.winner:
                break
        assert server.live.winner == "better"
        assert told < 100
        assert set(met.values()) == {"plain", "better"}
        assert turn("somebody new").choices[0].message.content == "better"
        assert [m.id for m in ask.models.list()] == ["tone", "plain", "better"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            feedback(server, id="chatcmpl-unknown", value=1.0)


def test_a_conversation_stays_with_its_arm_and_speaks_once(store):
    with serve({"a": Scripted("a"), "b": Scripted("b")}, experiment="x", store=store) as server, client(server) as ask:
        for start in "12345678":
            opening = [{"role": "user", "content": start}]
            first = ask.chat.completions.create(model="x", messages=opening)
            text = first.choices[0].message.content
            later = [*opening, {"role": "assistant", "content": text}, {"role": "user", "content": "and?"}]
            second = ask.chat.completions.create(model="x", messages=later)
            assert second.choices[0].message.content == text
            assert feedback(server, id=first.id, value=1)["counted"]
            assert not feedback(server, id=second.id, value=0)["counted"]


def test_an_arm_asked_by_its_own_name_takes_no_feedback(store):
    arms = {"a": Scripted("a"), "b": Scripted("b")}
    with serve(arms, experiment="x", store=store) as server, client(server) as ask:
        users = (openai.omit, "u1", "u2")
        ids = [ask.chat.completions.create(model="b", messages=ASK, user=user).id for user in users]
    with serve(arms, experiment="x", store=store) as server:  # by now the answers are in the store
        for id_ in ids:
            with pytest.raises(urllib.error.HTTPError, match="404"):
                feedback(server, id=id_, value=1)
        assert server.live.state().units == {"a": 0, "b": 0}


def test_feedback_for_an_answer_before_a_restart_counts(store):
    arms = {"a": Scripted("a"), "b": Scripted("b")}
    with serve(arms, experiment="x", store=store) as server, client(server) as ask:
        answer = ask.chat.completions.create(model="x", messages=ASK, user="u1")
    with serve(arms, experiment="x", store=store) as server:
        assert feedback(server, id=answer.id, value=1)["counted"]
        assert server.live.state().units[answer.choices[0].message.content] == 1


@pytest.mark.parametrize("value", [2, -0.5, "good", None, True, [1]])
def test_feedback_of_another_form_is_told_both(store, value):
    arms = {"a": Scripted("a"), "b": Scripted("b")}
    with serve(arms, experiment="x", store=store) as server, pytest.raises(urllib.error.HTTPError) as caught:
        feedback(server, id="chatcmpl-1", value=value)
    assert b"value: should be a number from 0 to 1, or an object with one for each metric" in caught.value.read()


def test_feedback_needs_an_experiment(server):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        feedback(server, id="x", value=1.0)


@pytest.mark.parametrize(
    ("models", "options", "says"),
    [
        ([], {}, "nothing to serve"),
        (["scripted/echo", "scripted/echo"], {}, "two models are called 'scripted/echo'"),
        (["scripted/nobody"], {}, "No scripted model 'scripted/nobody'"),
        (["scripted/echo"], {"experiment": "x"}, "at least two models"),
        (["scripted/echo"], {"slots": 0}, "slots"),
        (["scripted/echo"], {"guard": "no/such/file.yaml"}, "no/such/file.yaml"),
        (["hf/./no-such-folder"], {}, "no-such-folder"),
        (5, {}, "names or Models, or a dict of name -> model; got 5"),
        ({1: "scripted/echo"}, {}, "by a text; 1 is none"),
        (["scripted/echo"], {"seconds": "9"}, "seconds is a number, it is '9'"),
        (["scripted/echo"], {"port": "8000"}, "port is a whole number from 0"),
        (["scripted/echo"], {"port": -1}, "port is a whole number from 0"),
        (["scripted/echo"], {"host": "0.0.0.0", "token": " \n"}, "needs a token"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(models, options, says, store):
    before = len([t for t in threading.enumerate() if t.name == "llmlab-serve"])
    with pytest.raises((LabError, DataError, OSError), match=says):
        serve(models, store=store, **options)
    assert len([t for t in threading.enumerate() if t.name == "llmlab-serve"]) == before


def test_the_end_of_a_line_is_no_part_of_a_token(store):
    with serve("scripted/echo", token="secret\n", store=store) as server:
        ask = openai.OpenAI(base_url=server.openai_url, api_key="secret", max_retries=0)
        assert [m.id for m in ask.models.list()] == ["scripted/echo"]
        ask.close()


def test_a_stopped_server_answers_no_more_and_frees_its_port(store):
    first = serve("scripted/echo", store=store)
    first.stop()
    first.stop()
    assert repr(first) == "Server(scripted/echo: stopped)"
    with serve("scripted/echo", first.port, store=store) as again:
        assert again.port == first.port


def test_the_command_names_the_experiment_that_clients_ask_for(tmp_path):
    command = [sys.executable, "-m", "llmlab", "serve", "a=scripted/echo", "b=scripted/echo", "--experiment", "tone"]
    command += ["--port", "0", "--store", "sqlite://"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert "/v1 serves tone, an experiment with a, b; Ctrl-C" in running.stderr.readline()
        running.terminate()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(sign, tmp_path):
    command = [sys.executable, "-m", "llmlab", "serve", "echo=scripted/echo", "--port", "0", "--store", "sqlite://"]
    # tests that run in the background of a shell have SIGINT ignored, and would hand that on
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, **listening) as running:
        line = running.stderr.readline()
        url = line.split()[0]
        assert line == f"{url} serves echo; Ctrl-C stops it\n"
        with openai.OpenAI(base_url=url, api_key="x") as ask:
            assert ask.completions.create(model="echo", prompt="hello").choices[0].text == "hello"
        running.send_signal(sign)
        assert running.wait(20) == 0
        assert running.stderr.read() == "stopped\n"
