"""What the server refuses, and how it lives through clients that are slow, greedy or gone."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

import llmlab as lab
from llmlab.errors import LabError
from llmlab.serve import protocol
from llmlab.serve.server import serve

ASK = [{"role": "user", "content": "The river runs"}]


def chat(name, **options):
    return json.dumps({"model": name, "messages": ASK, **options}).encode()


def post(server, body, path="/v1/chat/completions", **headers):
    """Status, headers and JSON of a plain request."""
    request = urllib.request.Request(
        server.url + path,
        body,
        {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.headers, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.load(error)


def raw(server, *pieces, pause=0.0):
    """Everything that comes back for bytes on the wire, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        for piece in pieces:
            wire.sendall(piece)
            time.sleep(pause)
        got = b""
        while block := wire.recv(1 << 16):
            got += block
    return got


def head(length, extra=""):
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\n{extra}\r\n"
    ).encode()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def office(server):
    return server._service.office


# -- who may come -------------------------------------------------------------------------------------------


def test_a_token_is_wanted_from_everybody_but_for_the_health(monkeypatch):
    monkeypatch.setenv("LLMLAB_SERVE_TOKEN", "s3cret")
    with serve("scripted/echo", store="sqlite://") as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}):
            status, _, reply = post(server, chat("scripted/echo"), **headers)
            assert status == 401 and reply["error"]["code"] == "invalid_api_key"
        assert post(server, chat("scripted/echo"), authorization="Bearer s3cret")[0] == 200
        assert post(server, None, "/health")[0] == 200
        assert post(server, None, "/metrics")[0] == 401
        with openai.OpenAI(base_url=server.openai_url, api_key="s3cret") as client:
            assert client.models.list().data[0].id == "scripted/echo"


def test_an_open_address_needs_a_token():
    with pytest.raises(LabError, match=r"0\.0\.0\.0 can be reached from other machines, so it needs a token"):
        serve("scripted/echo", host="0.0.0.0", store="sqlite://")


def test_a_web_page_cannot_use_a_server_without_a_token(server):
    status, headers, reply = post(server, chat("echo"), host="evil.example:80")
    assert status == 403 and "loopback names only" in reply["error"]["message"]
    headers = post(server, chat("echo"), origin="https://evil.example")[1]
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_a_port_in_use_is_said(server):
    with pytest.raises(LabError, match=f"port {server.port} is in use by another program"):
        serve("scripted/echo", server.port, store="sqlite://")


# -- what may be sent ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is empty"),
        (b"{", "not JSON"),
        (b"[]", "should be a JSON object"),
        (b"null", "the body is empty|should be a JSON object"),
        (b"\xff\xfe", "cannot be read as JSON: it is not in UTF-8|not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"model": 5, "messages": "hello"}', "valid string|valid list"),
        (b'{"model": "echo", "messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
        (b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}', "surrogate"),
        (b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "temperature"),
        (b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "\\ud800": 1}', "surrogate"),
        (b'{"model": "echo", "messages": [], "seed": ' + b"9" * 5000 + b"}", "cannot be read as JSON|not JSON|seed"),
    ],
    ids=range(12),
)  # fmt: skip
def test_nonsense_gets_a_reason(server, body, says):
    status, _, reply = post(server, body)
    assert status == 400
    assert any(part in reply["error"]["message"] for part in says.split("|")), reply


def test_paths_and_methods_that_are_not_there_are_named(server):
    status, _, reply = post(server, b"{}", "/v1/embeddings")
    assert status == 404 and "there are /v1/chat/completions" in reply["error"]["message"]
    status, headers, reply = post(server, None, "/v1/completions")
    assert status == 405 and headers["allow"] == "POST"
    assert reply["error"]["message"] == "/v1/completions does not take GET: use POST"


def test_a_body_of_100_megabytes_is_refused_before_it_is_sent(server):
    began = time.monotonic()
    got = raw(server, head(100 << 20))
    assert b" 413 " in got.splitlines()[0] and b"larger than this server takes" in got
    assert time.monotonic() - began < 5


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(server):
    start = head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
    got = raw(server, start, *[b"100000\r\n" + b" " * (1 << 20) + b"\r\n"] * 4, b"2\r\n  \r\n")
    assert b" 413 " in got.splitlines()[0]


def test_slow_heads_and_bodies_are_given_up(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with serve("scripted/echo", store="sqlite://", seconds=0.3) as server:
        assert raw(server, b"POST /v1/chat", b"/completions HTTP/1.1\r\nhost: ", pause=0.2) == b""
        assert raw(server) == b""
        got = raw(server, head(50), b'{"model": ')
        assert b" 408 " in got.splitlines()[0] and b"did not come in time" in got
        # a second request on a connection has no more time than the first
        whole = chat("scripted/echo")
        got = raw(server, head(len(whole)) + whole, b"POST /v1/", pause=0.2)
        assert b" 200 " in got.splitlines()[0]
        assert post(server, whole)[0] == 200


# -- how much may be asked ----------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back(gate):
    with serve({"gate": gate.model}, store="sqlite://", slots=2, queue=2) as server, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(post, server, chat("gate")) for _ in range(4)]
        until(lambda: office(server).waiting == 2)
        status, headers, reply = post(server, chat("gate"))
        assert status == 429 and reply["error"]["code"] == "queue_full"
        assert 1 <= int(headers["retry-after"]) <= 60
        assert post(server, chat("gate", n=5))[0] == 400  # never fits
        gate.opened.set()
        assert [f.result()[0] for f in asked] == [200] * 4
        until(lambda: office(server).under_way == 0)


def test_a_client_with_many_requests_does_not_hold_up_another_one(gate):
    with serve({"gate": gate.model}, store="sqlite://", slots=1) as server, ThreadPoolExecutor(16) as pool:

        def ask(user, i):
            message = [{"role": "user", "content": f"{user}{i}"}]
            return pool.submit(post, server, json.dumps({"model": "gate", "messages": message, "user": user}).encode())

        asked = [ask("greedy", i) for i in range(10)]
        until(lambda: office(server).waiting == 9)
        asked.append(ask("modest", 0))
        until(lambda: office(server).waiting == 10)
        gate.opened.set()
        assert [f.result()[0] for f in asked] == [200] * 11
        assert gate.asked.index("modest0") <= 2


def test_what_takes_too_long_ends(gate):
    with serve({"gate": gate.model}, store="sqlite://", seconds=0.2) as server:
        status, _, reply = post(server, chat("gate"))
        assert status == 504 and "within 0.2 seconds" in reply["error"]["message"]
        gate.opened.set()


# -- clients that leave -------------------------------------------------------------------------------------


def leave(server, body):
    """Send a request and hang up once it is under way."""
    wire = socket.create_connection(("127.0.0.1", server.port))
    wire.sendall(head(len(body)) + body)
    until(lambda: office(server).under_way == 1)
    wire.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_place_and_ends_the_writing(stream):
    model = lab.model("micro/base", max_tokens=900)
    with serve({"m": model}, store="sqlite://", slots=1) as server:
        post(server, chat("m", max_tokens=1))  # loaded and tried out
        leave(server, chat("m", stream=stream, temperature=2.0, seed=7))
        until(lambda: office(server).under_way == 0)
        assert not [lane for lane in model.engine._lanes if any(not job.ask.row.done for job in lane.jobs)]
        assert post(server, chat("m", max_tokens=2))[0] == 200
        assert 'status="499"' in server._service.metrics.text().decode()


def test_a_client_that_leaves_the_queue_is_forgotten(gate):
    with serve({"gate": gate.model}, store="sqlite://", slots=1) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, server, chat("gate"))
        until(lambda: office(server).under_way == 1)
        wire = socket.create_connection(("127.0.0.1", server.port))
        wire.sendall(head(len(chat("gate"))) + chat("gate"))
        until(lambda: office(server).waiting == 1)
        wire.close()
        until(lambda: office(server).waiting == 0)
        gate.opened.set()
        assert first.result()[0] == 200
        assert len(gate.asked) == 1


def test_many_clients_of_whom_some_hang_up_all_get_their_answers(server):
    """Nothing is lost, and no place stays taken."""
    outcomes = []

    def stream(i):
        with openai.OpenAI(base_url=server.openai_url, api_key="x", max_retries=0) as client:
            pieces = client.chat.completions.create(
                model="micro/base", messages=ASK, max_tokens=12, temperature=1.0, seed=i, stream=True
            )
            if i % 10 == 0:
                next(iter(pieces))
                pieces.close()
                return
            finish = [p.choices[0].finish_reason for p in pieces][-1]
            outcomes.append(finish)

    threads = [threading.Thread(target=stream, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 36 and set(outcomes) <= {"stop", "length"}
    until(lambda: (office(server).under_way, office(server).waiting) == (0, 0))
