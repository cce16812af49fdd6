"""Any server that speaks OpenAI's formats: vLLM, Ollama, LM Studio, llama.cpp, a gateway.

Such servers differ in what they take and drop, so what one lacks is learned from its answers and remembered for
this process: an option, text completions, echoed log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from llmlab import settings
from llmlab.errors import BadRequest, DataError, NeedsLocalModel
from llmlab.models import faults
from llmlab.models.base import closed
from llmlab.models.openai import FINISH, OpenAIModel, usage, version
from llmlab.models.tries import Tries
from llmlab.types import NAN, ContinuationLogprob, Options, Request, Response

_ECHO = "echo"


class CompatibleModel(OpenAIModel):
    """A model behind an OpenAI-compatible URL: `lab.model("compatible/<name>", base_url="http://localhost:8000/v1")`.

    Args:
        base_url: where it is, with `/v1` where the server has it; None takes LLMLAB_COMPATIBLE_URL.
        key_env: variable with the server's key; None takes LLMLAB_COMPATIBLE_KEY where that is set, else no key.

    A request with `template=False` goes to the completions endpoint as plain text.
    """

    batches = None  # type: ignore[assignment]  # which of these servers have one is not known
    default_url = ""
    url_env = "LLMLAB_COMPATIBLE_URL"
    default_key_env = "LLMLAB_COMPATIBLE_KEY"
    fields: ClassVar[Mapping[str, str]] = {**OpenAIModel.fields, "max_tokens": "max_tokens field"}

    def __init__(self, name: str, options: Options | None = None, **settings: Any) -> None:
        self._needs_key = settings.get("key_env") is not None
        super().__init__(name, options, **settings)
        if not self.base_url:
            raise DataError(
                f"{name} needs the address of its server: lab.model({name!r}, base_url='http://localhost:8000/v1') "
                f"or {self.url_env} in the environment"
            )
        self.offers = ("loglikelihood", "letter_logprob")

    def _key(self) -> str:
        return super()._key() if self._needs_key else settings.value(self.key_env) or "none"

    @property
    def limit_field(self) -> str:  # type: ignore[override]  # gateways to OpenAI's newest models want the new name
        return "max_completion_tokens" if "max_tokens field" in self.capabilities.refused else "max_tokens"

    def _send(self, request: Request) -> Response:
        if request.template is not False:
            return super()._send(request)
        reply = self._post("/completions", self._text_body(request))
        try:
            choice = reply["choices"][0]
            return Response(
                choice["text"],
                finish_reason=FINISH.get(choice.get("finish_reason"), "unknown"),
                usage=usage(reply.get("usage")),
                model_version=version(reply),
            )
        except (KeyError, IndexError, TypeError, AttributeError):
            raise faults.nonsense(self.name, "the answer has no text", str(reply)) from None

    def _send_stream(self, request: Request) -> Generator[str, None, Response]:
        if request.template is not False:
            return (yield from super()._send_stream(request))
        return (yield from self._stream_body("/completions", self._text_body(request)))

    def _text_body(self, request: Request) -> dict[str, Any]:
        body = self._body(request)
        if len(request.messages) != 1:
            raise BadRequest(
                f"{self.name}: a request with template=False is plain text, one message; got {len(request.messages)}"
            )
        for chat_only in ("messages", "logprobs", "top_logprobs", "response_format", "reasoning_effort"):
            body.pop(chat_only, None)
        return body | {"prompt": request.messages[0].content}

    # -- log-probabilities of given text ------------------------------------------------------------------

    def logprob(
        self, context: str, continuations: Sequence[str], interventions: tuple[Any, ...] = ()
    ) -> list[ContinuationLogprob]:
        """Log-probability of each continuation, from a completion endpoint that echoes the prompt's.

        One request per continuation. A token that spans the end of the context counts to the continuation.
        """
        if interventions:
            raise closed(self.name, interventions)
        return [self._logprob(context, continuation) for continuation in continuations]

    def _logprob(self, context: str, continuation: str) -> ContinuationLogprob:
        if _ECHO in self.capabilities.refused:
            raise self._no_echo("it did not echo log-probabilities before")
        # one token is generated and ignored: not every server takes 0
        request = replace(Request.of(context + continuation), options=Options(max_tokens=1, temperature=0.0))
        try:
            for attempt in Tries(self, replace(request, template=False)):
                with attempt:
                    body = self._text_body(attempt.request) | {"echo": True, "logprobs": 1}
                    reply = self._post("/completions", body)
                    attempt.done(Response("", usage=usage(reply.get("usage")), model_version=version(reply)))
                    break
        except BadRequest as error:
            self.capabilities.learn(_ECHO)
            raise self._no_echo(str(error)) from None
        try:
            return _read(reply["choices"][0], len(context), len(context + continuation))
        except (KeyError, IndexError, TypeError, ValueError):
            self.capabilities.learn(_ECHO)
            raise self._no_echo("its answer has no log-probabilities of the prompt") from None

    def _no_echo(self, why: str) -> NeedsLocalModel:
        return NeedsLocalModel(
            f"{self.name} at {self.base_url} gives no log-probabilities of given text ({why}); "
            "use a server whose /completions takes `echo` with `logprobs` (vLLM, llama-cpp-python), a local model "
            "('hf/…', 'micro/base'), or `decide`, which works on every model"
        )


def _read(choice: Mapping[str, Any], start: int, end: int) -> ContinuationLogprob:
    """What an echoed completion says about its characters from `start` to `end`."""
    wire = choice["logprobs"]
    tokens, values = wire["tokens"], wire["token_logprobs"]
    total, count, greedy, place = 0.0, 0, True, 0
    offsets = wire.get("text_offset")
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        begin = offsets[i] if offsets else place
        place = begin + len(token)
        if place <= start or begin >= end:
            continue
        total += NAN if value is None else value  # the first token of all has none
        count += 1
        best = (wire.get("top_logprobs") or [None] * len(tokens))[i]
        greedy = greedy and bool(best) and value is not None and value >= max(best.values()) - 1e-9
    if not count:
        raise ValueError("no token of the continuation was echoed")
    return ContinuationLogprob(total, count, greedy and not math.isnan(total))
