"""OpenAI's formats, as openai 3.54 sends and reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmlab.testing.answers import Answer, alternatives, logprob, words
from llmlab.testing.faults import Fault
from llmlab.testing.wire import Ask, event

_ERRORS = {
    "rate_limited": ("rate_limit_exceeded", "requests", "Rate limit reached for requests."),
    "overloaded": (None, "server_error", "The engine is currently overloaded, please try again later."),
    "server_error": (None, "server_error", "The server had an error while processing your request."),
    "bad_request": ("invalid_value", "invalid_request_error", "Invalid value."),
    "unauthorized": ("invalid_api_key", "invalid_request_error", "Incorrect API key provided."),
    "not_found": ("model_not_found", "invalid_request_error", "The model does not exist or you have no access."),
    "quota": ("insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
}


class _OpenAI:
    path: str

    def matches(self, path: str, body: Mapping[str, Any]) -> bool:
        return path.endswith(self.path)

    def fields(self, body: Mapping[str, Any]) -> list[str]:
        return list(body)

    def error(self, fault: Fault) -> Any:
        code, kind, words = _ERRORS[fault.kind]
        return {"error": {"message": fault.message or words, "type": kind, "param": None, "code": code}}

    def unsupported(self, field: str) -> Any:
        message = f"Unsupported parameter: '{field}' is not supported with this model."
        return {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": field,
                "code": "unsupported_parameter",
            }
        }

    def events(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[bytes]:
        raise NotImplementedError


class _Chat(_OpenAI):
    path = "/chat/completions"

    def ask(self, path: str, body: Mapping[str, Any], version: str) -> Ask:
        stop = body.get("stop") or ()
        return Ask(
            f"{body['model']}-{version}",
            body["messages"],
            body,
            body.get("max_completion_tokens", body.get("max_tokens")),
            (stop,) if isinstance(stop, str) else tuple(stop),
            bool(body.get("stream")),
        )

    def reply(self, ask: Ask, answer: Answer, with_usage: bool) -> Any:
        refused = answer.finish == "refusal"
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if refused else answer.text,
            "refusal": answer.text if refused else None,
        }
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": _finish(answer),
            "logprobs": self._logprobs(ask, answer),
        }
        wire = self._head(ask, "chat.completion") | {"choices": [choice]}
        return wire | ({"usage": _usage(ask, answer)} if with_usage else {})

    def events(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[bytes]:
        head = self._head(ask, "chat.completion.chunk")
        asked = (ask.body.get("stream_options") or {}).get("include_usage")
        usage = {"usage": None} if asked else {}
        logprobs = self._logprobs(ask, answer)

        def chunk(delta: Mapping[str, Any], finish: str | None = None, at: int | None = None) -> bytes:
            choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            if logprobs and at is not None:
                choice["logprobs"] = {"content": [logprobs["content"][at]], "refusal": None}
            return event(head | {"choices": [choice]} | usage)

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        if answer.reasoning:
            yield chunk({"reasoning_content": answer.reasoning})
        said = "refusal" if answer.finish == "refusal" else "content"
        for at, word in enumerate(words(answer.text)):
            yield chunk({said: word}, at=at)
        yield chunk({}, _finish(answer))
        if asked and with_usage:
            yield event(head | {"choices": [], "usage": _usage(ask, answer)})
        yield event("[DONE]")

    def _head(self, ask: Ask, kind: str) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": kind,
            "created": 1_767_225_600,
            "model": ask.model,
            "system_fingerprint": "fp_test",
        }

    def _logprobs(self, ask: Ask, answer: Answer) -> dict[str, Any] | None:
        if not ask.body.get("logprobs"):
            return None
        n = ask.body.get("top_logprobs") or 0
        content = []
        for at, token in enumerate(words(answer.text)):
            top = [{"token": t, "logprob": p, "bytes": None} for t, p in alternatives(answer, at, token, n)]
            own = next((t["logprob"] for t in top if t["token"] == token), logprob(token))
            content.append({"token": token, "logprob": own, "bytes": None, "top_logprobs": top})
        return {"content": content, "refusal": None}


class _Completions(_OpenAI):
    """Text completions; with `echo`, the prompt's own log-probabilities (see `answers.logprob`)."""

    path = "/completions"

    def matches(self, path: str, body: Mapping[str, Any]) -> bool:
        return path.endswith(self.path) and not path.endswith(_Chat.path)

    def ask(self, path: str, body: Mapping[str, Any], version: str) -> Ask:
        stop = body.get("stop") or ()
        return Ask(
            f"{body['model']}-{version}",
            [{"role": "user", "content": body["prompt"]}],
            body,
            body.get("max_tokens", 16),
            (stop,) if isinstance(stop, str) else tuple(stop),
            bool(body.get("stream")),
        )

    def reply(self, ask: Ask, answer: Answer, with_usage: bool) -> Any:
        echoed = ask.messages[0]["content"] if ask.body.get("echo") else ""
        text = echoed + answer.text
        choice = {
            "index": 0,
            "text": text,
            "finish_reason": _finish(answer),
            "logprobs": _offsets(words(echoed) + words(answer.text)) if ask.body.get("logprobs") is not None else None,
        }
        wire = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": ask.model, "choices": [choice]}
        return wire | ({"usage": _usage(ask, answer)} if with_usage else {})

    def events(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[bytes]:
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": ask.model}
        for word in words(answer.text):
            yield event(head | {"choices": [{"index": 0, "text": word, "finish_reason": None, "logprobs": None}]})
        yield event(head | {"choices": [{"index": 0, "text": "", "finish_reason": _finish(answer)}]})
        if (ask.body.get("stream_options") or {}).get("include_usage") and with_usage:
            yield event(head | {"choices": [], "usage": _usage(ask, answer)})
        yield event("[DONE]")


class _Decisions(_OpenAI):
    path = "/decisions"

    def matches(self, path: str, body: Mapping[str, Any]) -> bool:
        return path.endswith(self.path) and isinstance(body.get("questions"), list)

    def ask(self, path: str, body: Mapping[str, Any], version: str) -> Ask:
        given = body["input"]
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        return Ask(f"{body['model']}-{version}", messages, body)

    def reply(self, ask: Ask, answer: Answer, with_usage: bool) -> Any:
        answers = [self._decide(question, answer) for question in ask.body["questions"]]
        usage = {
            "input_tokens": ask.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": ask.input_tokens + 1,
        }
        return {"model": ask.model, "answers": answers} | ({"usage": usage} if with_usage else {})

    def _decide(self, question: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        if answer.finish == "refusal":
            return {"type": "refusal", "name": None}
        values = [choice["value"] for choice in question["choices"]]
        shares = list(answer.probabilities) or [1 / len(values)] * len(values)
        best = max(range(len(values)), key=shares.__getitem__)
        return {
            "type": "choice",
            "name": None,
            "choice": values[best],
            "confidence": shares[best],
            "probabilities": [{"value": v, "probability": p} for v, p in zip(values, shares, strict=True)],
        }


CHAT, COMPLETIONS, DECISIONS = _Chat(), _Completions(), _Decisions()


def _finish(answer: Answer) -> str:
    return {"stop": "stop", "length": "length", "refusal": "stop", "blocked": "content_filter"}[answer.finish]


def _usage(ask: Ask, answer: Answer) -> dict[str, Any]:
    reasoning = len(answer.reasoning.split())
    output = len(words(answer.text)) + reasoning
    return {
        "prompt_tokens": ask.input_tokens,
        "completion_tokens": output,
        "total_tokens": ask.input_tokens + output,
        "prompt_tokens_details": {
            "cached_tokens": answer.cached_tokens,
            "cache_write_tokens": answer.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _offsets(tokens: list[str]) -> dict[str, Any]:
    starts, place = [], 0
    for token in tokens:
        starts.append(place)
        place += len(token)
    # nothing predicts the first token
    own = [None if i == 0 else logprob(token) for i, token in enumerate(tokens)]
    top = [None if p is None else {token: p} for token, p in zip(tokens, own, strict=True)]
    return {"tokens": tokens, "token_logprobs": own, "top_logprobs": top, "text_offset": starts}
