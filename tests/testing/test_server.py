"""The public stand-in for the providers."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest

import llmlab as lab
from llmlab.errors import BadRequest
from llmlab.testing import Answer, ProviderServer


def post(server: ProviderServer, path: str, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    reply = connection.getresponse()
    read = reply.read()
    connection.close()
    return reply.status, json.loads(read)


CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def test_the_answer_is_a_function_of_the_messages(server: ProviderServer) -> None:
    server.answer = lambda messages: messages[-1]["content"].upper()
    status, reply = post(server, "/v1/chat/completions", CHAT)
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == "HELLO"


def test_faults_come_in_turn_and_end(server: ProviderServer) -> None:
    server.fail("rate_limited", times=2)
    server.fail("server_error")
    assert [post(server, "/v1/chat/completions", CHAT)[0] for _ in range(4)] == [429, 429, 500, 200]


def test_requests_are_kept_as_they_came(server: ProviderServer) -> None:
    post(server, "/v1/chat/completions", CHAT)
    assert (server.last.path, server.last.body) == ("/v1/chat/completions", CHAT)
    assert server.last.headers["content-type"] == "application/json"


def test_an_unknown_path_is_not_found(server: ProviderServer) -> None:
    status, reply = post(server, "/v1/nothing", {})
    assert status == 404
    assert "/v1/nothing" in reply["error"]["message"]


def test_an_answer_function_that_fails_is_told_to_the_client(server: ProviderServer, keys: dict[str, str]) -> None:
    def answer(messages: Any) -> Answer:
        raise KeyError("oh")

    server.answer = answer
    with pytest.raises(BadRequest, match=r"the test server failed: KeyError\('oh'\)"):
        lab.model("openai/gpt-4o-mini", base_url=server.openai_url).generate("Hello")


def test_it_can_be_started_again() -> None:
    server = ProviderServer()
    for _ in range(2):
        with server:
            assert post(server, "/v1/chat/completions", CHAT)[0] == 200
        with pytest.raises(ConnectionRefusedError):
            post(server, "/v1/chat/completions", CHAT)


def test_nothing_but_the_loopback_can_be_reached_from_a_test() -> None:
    with pytest.raises(AssertionError, match="only the loopback may be used"):
        socket.create_connection(("example.org", 80))
    with socket.socket() as outside, pytest.raises(AssertionError, match="only the loopback may be used"):
        outside.connect(("192.0.2.1", 80))
