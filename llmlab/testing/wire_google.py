"""Google's generateContent and decisions, as google-genai 3.4 and google-generativeai 0.8 send and read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmlab.testing.answers import Answer, alternatives, logprob, words
from llmlab.testing.faults import STATUS, Fault
from llmlab.testing.wire import Ask, event

_ERRORS = {
    "rate_limited": ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "overloaded": ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    "server_error": ("INTERNAL", "An internal error has occurred."),
    "bad_request": ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    "unauthorized": ("UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
    "not_found": ("NOT_FOUND", "models/no-such-model is not found for API version v1."),
    "quota": ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY", "blocked": "STOP"}


class _Google:
    def error(self, fault: Fault) -> Any:
        status, message = _ERRORS[fault.kind]
        error: dict[str, Any] = {
            "code": STATUS[fault.kind],
            "message": fault.message or message,
            "status": status,
        }
        if fault.retry_after is not None:
            info = "type.googleapis.com/google.rpc.RetryInfo"
            error["details"] = [{"@type": info, "retryDelay": f"{fault.retry_after:g}s"}]
        return {"error": error}

    def unsupported(self, field: str) -> Any:
        message = f"{field} is not enabled for this model."
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


class _Generate(_Google):
    def matches(self, path: str, body: Mapping[str, Any]) -> bool:
        return bool(re.search(r"/models/[^/]+:(stream)?[gG]enerateContent", path))

    def ask(self, path: str, body: Mapping[str, Any], version: str) -> Ask:
        config = _config(body)
        turns = [
            {"role": "assistant" if turn.get("role") == "model" else "user", "content": _text(turn)}
            for turn in body["contents"]
        ]
        system = body.get("systemInstruction") or body.get("system_instruction")
        if system:
            turns = [{"role": "system", "content": _text(system)}, *turns]
        name = re.search(r"/models/([^/:]+):", path)
        assert name is not None
        return Ask(
            f"{name[1]}-{version}",
            turns,
            body,
            config.get("maxOutputTokens"),
            tuple(config.get("stopSequences") or ()),
            "streamGenerateContent" in path,
            "alt=sse" in path,
        )

    def fields(self, body: Mapping[str, Any]) -> list[str]:
        config = _config(body)
        return [*config, *(config.get("thinkingConfig") or {})]

    def reply(self, ask: Ask, answer: Answer, with_usage: bool) -> Any:
        if answer.finish == "blocked":
            return self._whole(ask, answer, with_usage, [], {"promptFeedback": {"blockReason": "SAFETY"}})
        parts = [{"text": answer.reasoning, "thought": True}] if answer.reasoning else []
        if answer.text and answer.finish != "refusal":
            parts.append({"text": answer.text})
        candidate: dict[str, Any] = {"finishReason": _FINISH[answer.finish], "index": 0}
        if parts:
            candidate["content"] = {"role": "model", "parts": parts}
        if (result := self._logprobs(ask, answer)) is not None:
            candidate["logprobsResult"] = result
        return self._whole(ask, answer, with_usage, [candidate])

    def events(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[bytes]:
        replies = self._replies(ask, answer, with_usage)
        if ask.events:
            yield from map(event, replies)
            return
        # the legacy package reads a JSON array
        for i, reply in enumerate(replies):
            yield (b"," if i else b"[") + json.dumps(reply).encode()
        yield b"]"

    def _replies(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[Any]:
        if answer.finish in ("blocked", "refusal"):
            yield self.reply(ask, answer, with_usage)
            return
        pieces: list[dict[str, Any]] = [{"text": answer.reasoning, "thought": True}] if answer.reasoning else []
        pieces += [{"text": word} for word in words(answer.text)] or [{"text": ""}]
        for at, piece in enumerate(pieces):
            candidate: dict[str, Any] = {"content": {"role": "model", "parts": [piece]}, "index": 0}
            if at == len(pieces) - 1:
                candidate["finishReason"] = _FINISH[answer.finish]
                if (result := self._logprobs(ask, answer)) is not None:
                    candidate["logprobsResult"] = result
            yield self._whole(ask, answer, with_usage, [candidate])

    def _whole(
        self,
        ask: Ask,
        answer: Answer,
        with_usage: bool,
        candidates: list[Any],
        extra: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        wire: dict[str, Any] = {"modelVersion": ask.model, "responseId": "r1", **(extra or {})}
        if candidates:
            wire["candidates"] = candidates
        if with_usage:
            thoughts = len(answer.reasoning.split())
            output = len(words(answer.text)) if candidates else 0
            wire["usageMetadata"] = {
                "promptTokenCount": ask.input_tokens,
                "candidatesTokenCount": output,
                "totalTokenCount": ask.input_tokens + output + thoughts,
            }
            if thoughts:
                wire["usageMetadata"]["thoughtsTokenCount"] = thoughts
            if answer.cached_tokens:
                wire["usageMetadata"]["cachedContentTokenCount"] = answer.cached_tokens
        return wire

    def _logprobs(self, ask: Ask, answer: Answer) -> dict[str, Any] | None:
        config = _config(ask.body)
        if not config.get("responseLogprobs"):
            return None
        n = config.get("logprobs") or 0
        chosen, top = [], []
        for at, token in enumerate(words(answer.text)):
            others = alternatives(answer, at, token, n)
            own = dict(others).get(token, logprob(token))
            chosen.append({"token": token, "logProbability": own})
            top.append({"candidates": [{"token": t, "logProbability": p} for t, p in others]})
        return {"chosenCandidates": chosen, "topCandidates": top}


class _Decisions(_Google):
    def matches(self, path: str, body: Mapping[str, Any]) -> bool:
        return path.partition("?")[0].endswith("/decisions") and isinstance(body.get("questions"), dict)

    def ask(self, path: str, body: Mapping[str, Any], version: str) -> Ask:
        return Ask(f"{body['model']}-{version}", [{"role": "user", "content": body["input"]}], body)

    def fields(self, body: Mapping[str, Any]) -> list[str]:
        return list(body)

    def reply(self, ask: Ask, answer: Answer, with_usage: bool) -> Any:
        if answer.finish in ("blocked", "refusal"):
            return {"prompt_feedback": {"block_reason": "safety"}}
        answers = {name: self._decide(q, answer) for name, q in ask.body["questions"].items()}
        usage = {"total_input_tokens": ask.input_tokens, "total_output_tokens": 1, "total_tokens": ask.input_tokens + 1}
        return {"answers": answers} | ({"usage": usage} if with_usage else {})

    def events(self, ask: Ask, answer: Answer, with_usage: bool) -> Iterator[bytes]:
        raise NotImplementedError

    def _decide(self, question: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        names = list(question["criteria"])
        shares = list(answer.probabilities) or [1 / len(names)] * len(names)
        best = max(range(len(names)), key=shares.__getitem__)
        return {
            "type": "choice",
            "choice": names[best],
            "confidence": shares[best],
            "probabilities": dict(zip(names, shares, strict=True)),
        }


GENERATE, DECISIONS = _Generate(), _Decisions()


def _config(body: Mapping[str, Any]) -> Mapping[str, Any]:
    config: Mapping[str, Any] = body.get("generationConfig") or body.get("generation_config") or {}
    return config


def _text(turn: Mapping[str, Any]) -> str:
    return "".join(part.get("text", "") for part in turn["parts"])
