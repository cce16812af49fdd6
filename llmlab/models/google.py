"""Google's Gemini models, through the google-genai SDK."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar

from llmlab import settings
from llmlab.errors import ProviderError
from llmlab.models import faults
from llmlab.models.capabilities import refused_option, supports
from llmlab.models.remote import Limits, Progress, RemoteModel, connections, decided, declined, ssl_context
from llmlab.types import Decision, FinishReason, Options, Protocol, Request, Response, TokenLogprob, Usage

_BLOCKED = "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE MODEL_ARMOR ESCALATION PUP_LIMITED_DISABLED"
FINISH: dict[str | None, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(_BLOCKED.split(), "refusal"),
}
# google.rpc.Code -> HTTP status; single requests of a batch fail with the former
_RPC_STATUS = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 13: 500, 14: 503, 16: 401}
_ENDED = {f"JOB_STATE_{s}" for s in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")}
_ROLES = {"user": "user", "assistant": "model"}


class GoogleModel(RemoteModel):
    """A Gemini model. Reads GEMINI_API_KEY or GOOGLE_API_KEY, and GOOGLE_GEMINI_BASE_URL."""

    any_object = True
    default_url = "https://generativelanguage.googleapis.com"
    url_env = "GOOGLE_GEMINI_BASE_URL"
    default_key_env = "GEMINI_API_KEY"
    fields: ClassVar[Mapping[str, str]] = {
        "temperature": "temperature",
        "topP": "top_p",
        "topK": "top_k",
        "stopSequences": "stop",
        "seed": "seed",
        "thinkingLevel": "effort",
        "thinking_level": "effort",
        "thinkingConfig": "effort",
        "Thinking level": "effort",
        "responseLogprobs": "top_logprobs",
        "logprobs": "top_logprobs",
        "Logprobs": "top_logprobs",
    }

    def __init__(self, name: str, options: Options | None = None, **given: Any) -> None:
        if not given.get("key_env") and not settings.value(self.default_key_env) and settings.value("GOOGLE_API_KEY"):
            given["key_env"] = "GOOGLE_API_KEY"
        super().__init__(name, options, **given)
        own: tuple[Protocol, ...] = ("decision", "letter_logprob")
        self.offers = tuple(p for p in own if supports(name, p))

    def _connect(self, key: str) -> Any:
        from google import genai

        http: Any = {
            "base_url": self.base_url,
            # one attempt is said, not left unset: for decisions the SDK's default is five
            "retry_options": {"attempts": 1},
            "timeout": int(self.timeout * 1000),
            "client_args": {"limits": connections(), "verify": ssl_context()},
            "async_client_args": {"verify": ssl_context()},
        }
        return genai.Client(api_key=key, vertexai=False, http_options=http)

    def _send(self, request: Request) -> Response:
        config = self._config(request) | {"should_return_http_response": True}
        with self._faults():
            reply = self.client.models.generate_content(
                model=self.id, contents=contents(request), config=self._typed(config)
            )
        heard = Heard()
        text = "".join(heard.read([self._json(reply.sdk_http_response.body)]))
        return heard.response(self.name, text)

    def _send_stream(self, request: Request) -> Generator[str, None, Response]:
        heard = Heard()
        yield from heard.read(self._chunks(request))
        return heard.response(self.name)

    def _chunks(self, request: Request) -> Generator[Any, None, None]:
        with self._faults():
            stream = self.client.models.generate_content_stream(
                model=self.id, contents=contents(request), config=self._typed(self._config(request))
            )
            for chunk in stream:
                yield chunk.model_dump(mode="json", by_alias=True, exclude_none=True)

    def _send_decision(self, request: Request, choices: Sequence[str]) -> Decision:
        question = {
            "type": "choice",
            "instructions": "Which option is the right answer to the input?",
            "criteria": {str(i): choice for i, choice in enumerate(choices)},
        }
        text = "\n\n".join(m.content for m in request.messages)
        with self._faults():
            reply = self.client.decisions.create(model=self.id, input=text, questions={"choice": question})
        wire = reply.model_dump(mode="json", exclude_none=True)
        response = Response("", usage=_decision_usage(wire.get("usage")), model_version=self.id)
        if not wire.get("answers") and wire.get("prompt_feedback", {}).get("block_reason"):
            return declined(choices, response)
        try:
            found = wire["answers"]["choice"]["probabilities"]
            return decided(choices, [float(found[str(i)]) for i in range(len(choices))], response)
        except (KeyError, TypeError, ValueError):
            raise faults.nonsense(self.name, "the answer has no probabilities", str(wire)) from None

    batches = Limits(10_000, 18_000_000)  # 20 MB in all, in Google's own spelling, which is a little longer

    def batch_line(self, key: str, request: Request) -> dict[str, Any]:
        config = self._config(request)
        self._typed(config)  # says what is wrong with it
        return {"contents": contents(request), "config": config, "metadata": {"key": key}}

    def submit_batch(self, lines: Sequence[Mapping[str, Any]], tag: str) -> str:
        source = {"inlined_requests": list(lines)}
        with self._faults():
            return str(self.client.batches.create(model=self.id, src=source, config={"display_name": tag}).name)

    def find_batches(self, tag: str, size: int, since: datetime) -> Iterator[str]:
        with self._faults():
            for batch in self.client.batches.list(config={"page_size": 100}):
                if batch.display_name == tag:
                    yield batch.name

    def poll_batch(self, batch_id: str) -> Progress:
        with self._faults():
            batch = self.client.batches.get(name=batch_id)
        state = batch.state.value if batch.state else "unknown"
        return Progress(state in _ENDED, 0, state)  # the SDK's own `done` overlooks what succeeded in part

    def collect_batch(self, batch_id: str, keys: Sequence[str]) -> Iterator[tuple[str, Response | ProviderError]]:
        with self._faults():
            batch = self.client.batches.get(name=batch_id)
        answers = (batch.dest and batch.dest.inlined_responses) or ()
        # in the order of the requests; the API has been known to leave the keys out
        for key, answer in zip(keys, answers, strict=False):
            yield (answer.metadata or {}).get("key", key), self._line(answer)

    def _line(self, answer: Any) -> Response | ProviderError:
        if answer.response is None:
            error = answer.error.model_dump(exclude_none=True) if answer.error else {}
            status = _RPC_STATUS.get(int(error.get("code") or 13), 500)
            return self._failure(status, {**error, "code": status}, "no answer")
        heard = Heard()
        try:
            text = "".join(heard.read([answer.response.model_dump(mode="json", by_alias=True, exclude_none=True)]))
            return heard.response(self.name, text)
        except ProviderError as nonsense:
            return nonsense

    def _config(self, request: Request) -> dict[str, Any]:
        options = request.options
        config: dict[str, Any] = {
            # one call is one request: a continued answer would be charged beyond what was reserved
            "automatic_continuation": False,
            "automatic_function_calling": {"disable": True},
        }
        config |= {k: v for k in ("temperature", "top_p", "top_k", "seed") if (v := getattr(options, k)) is not None}
        system = "\n\n".join(m.content for m in request.messages if m.role == "system")
        if system:
            config["system_instruction"] = system
        if options.max_tokens is not None:
            config["max_output_tokens"] = options.max_tokens
        if options.stop:
            config["stop_sequences"] = list(options.stop[:5])  # more are an error; the rest is seen to afterwards
        if options.effort is not None:
            config["thinking_config"] = {"thinking_level": options.effort}
        if options.top_logprobs is not None:
            config |= {"response_logprobs": True, "logprobs": options.top_logprobs}
        if options.schema is not None:
            config |= {"response_mime_type": "application/json", "response_json_schema": dict(options.schema)}
        return config | dict(options.extra or {})

    def _typed(self, config: Mapping[str, Any]) -> Any:
        from google.genai.types import GenerateContentConfig

        try:
            return GenerateContentConfig(**config)
        except ValueError as error:
            raise faults.failure(self.name, 400, str(error), code="not sent") from None

    def _json(self, body: str) -> Any:
        if not (body or "").strip():
            raise faults.nonsense(self.name, "the answer is empty")
        try:
            return json.loads(body)
        except ValueError:
            raise faults.nonsense(self.name, "the answer is not JSON", body) from None

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import httpx2
        from google.genai import _interactions, errors  # decisions raise the errors of the former

        try:
            yield
        except _interactions.APIConnectionError as error:
            raise faults.unreachable(self.name, error, self.timeout) from None
        except _interactions.APIError as error:
            raise self._fault(error, error.status_code, error.body) from None
        except errors.APIError as error:
            raise self._fault(error, error.code, error.details) from None
        except httpx2.HTTPError as error:
            raise faults.unreachable(self.name, error, self.timeout) from None
        except (json.JSONDecodeError, errors.UnknownApiResponseError) as error:
            raise faults.nonsense(self.name, f"the answer is not JSON ({error})") from None

    def _fault(self, error: Any, status: int | None, details: Any) -> ProviderError:
        wait = faults.retry_after(getattr(error.response, "headers", {}))
        return self._failure(int(status or 500), details, str(error.message), wait)

    def _failure(self, status: int, details: Any, message: str = "", wait: float | None = None) -> ProviderError:
        """The error for a status and the JSON that came with it."""
        inner = details.get("error", details) if isinstance(details, dict) else {}
        words = str(inner.get("message") or message or details).replace(self._key(), "…")
        code = str(inner.get("status") or "")
        if status == 400 and (option := refused_option(words, None, self.fields)):
            return faults.RefusedOption(f"{self.name}: HTTP 400 {code}: {faults.shorten(words)}", option, 400)
        wait = _retry_delay(inner) if wait is None else wait
        return faults.failure(self.name, status, words, code=code, retry_after=wait)


class Heard:
    """Reads generateContent replies, one or many, in wire JSON."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self.blocked = ""
        self.usage: Mapping[str, Any] | None = None
        self.version = ""
        self.reasoning: list[str] = []
        self.logprobs: list[TokenLogprob] = []

    def read(self, replies: Iterator[Any] | Sequence[Any]) -> Generator[str, None, None]:
        """The text in them; everything else is noted."""
        for reply in replies:
            self.usage = reply.get("usageMetadata") or self.usage
            self.version = reply.get("modelVersion") or self.version
            self.blocked = (reply.get("promptFeedback") or {}).get("blockReason") or self.blocked
            for candidate in (reply.get("candidates") or ())[:1]:
                self.finish = candidate.get("finishReason") or self.finish
                self.logprobs += _logprobs(candidate.get("logprobsResult") or {})
                for part in (candidate.get("content") or {}).get("parts") or ():
                    if part.get("thought"):
                        self.reasoning.append(part.get("text") or "")
                    else:
                        yield part.get("text") or ""

    def response(self, model: str, text: str = "") -> Response:
        """The whole answer. A blocked prompt is a refusal without words."""
        if self.finish is None and not self.blocked:
            raise faults.nonsense(model, "the answer ended before it was complete", text)
        finish: FinishReason = "refusal" if self.blocked else FINISH.get(self.finish, "unknown")
        return Response(
            text,
            finish_reason=finish,
            usage=usage(self.usage),
            model_version=self.version,
            reasoning="".join(self.reasoning),
            logprobs=tuple(self.logprobs) or None,
            notes=(f"the prompt was blocked: {self.blocked}",) if self.blocked else (),
        )


def usage(wire: Mapping[str, Any] | None) -> Usage:
    """Usage of generateContent, whose candidates leave out the thoughts; cached tokens are part of the prompt."""
    if not wire or wire.get("promptTokenCount") is None:
        return Usage()
    thoughts = wire.get("thoughtsTokenCount")
    return Usage(
        wire["promptTokenCount"] + (wire.get("toolUsePromptTokenCount") or 0),
        (wire.get("candidatesTokenCount") or 0) + (thoughts or 0),
        wire.get("cachedContentTokenCount"),
        None,
        thoughts,
    )


def _decision_usage(wire: Mapping[str, Any] | None) -> Usage:
    if not wire:
        return Usage()
    thoughts = wire.get("total_thought_tokens")
    output = wire.get("total_output_tokens")
    return Usage(
        wire.get("total_input_tokens"),
        None if output is None else output + (thoughts or 0),
        wire.get("total_cached_tokens"),
        None,
        thoughts,
    )


def contents(request: Request) -> list[dict[str, Any]]:
    """The conversation as Google wants it; system turns travel apart."""
    turns = [m for m in request.messages if m.role != "system"]
    return [{"role": _ROLES[m.role], "parts": [{"text": m.content}]} for m in turns]


def _logprobs(result: Mapping[str, Any]) -> list[TokenLogprob]:
    tops = result.get("topCandidates") or []
    found = []
    for i, chosen in enumerate(result.get("chosenCandidates") or ()):
        top = (tops[i].get("candidates") or ()) if i < len(tops) else ()
        pairs = tuple((t.get("token", ""), t.get("logProbability", 0.0)) for t in top)
        found.append(TokenLogprob(chosen.get("token", ""), chosen.get("logProbability", 0.0), pairs))
    return found


def _retry_delay(error: Mapping[str, Any]) -> float | None:
    """Seconds of google.rpc.RetryInfo among the details of an error."""
    for detail in error.get("details") or ():
        if delay := re.fullmatch(r"([\d.]+)s", str(detail.get("retryDelay", ""))):
            return float(delay[1])
    return None
