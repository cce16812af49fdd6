"""Gemini through google-generativeai, whose support ended on 2025-11-30; `google/` is its successor.

Only over REST: its gRPC transport cannot be pointed at a test server, and its async calls are broken.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from llmlab import settings
from llmlab.errors import MissingPackage
from llmlab.models import faults
from llmlab.models.google import GoogleModel, Heard, contents
from llmlab.models.remote import RemoteModel
from llmlab.types import Options, Request, Response

_configuring = threading.Lock()


class GoogleLegacyModel(RemoteModel):
    """A Gemini model by way of google-generativeai. Reads GEMINI_API_KEY or GOOGLE_API_KEY.

    It has no seed, effort, log-probabilities or decisions, and does not tell thinking tokens.
    """

    default_url = GoogleModel.default_url
    url_env = GoogleModel.url_env
    default_key_env = GoogleModel.default_key_env

    def __init__(self, name: str, options: Options | None = None, **given: Any) -> None:
        _sdk()
        if not given.get("key_env") and not settings.value(self.default_key_env) and settings.value("GOOGLE_API_KEY"):
            given["key_env"] = "GOOGLE_API_KEY"
        super().__init__(name, options, **given)

    def _connect(self, key: str) -> Any:
        from google.generativeai import client

        # its clients come from a global configuration
        with _configuring:
            client.configure(api_key=key, transport="rest", client_options={"api_endpoint": self.base_url})
            made: Any = client.get_default_generative_client()
        made.close = made.transport.close  # what every other client calls it
        return made

    def _send(self, request: Request) -> Response:
        with self._faults():
            reply = self.client.generate_content(self._proto(request), timeout=self.timeout, retry=None)
        heard = Heard()
        text = "".join(heard.read([_wire(reply)]))
        return heard.response(self.name, text)

    def _send_stream(self, request: Request) -> Generator[str, None, Response]:
        heard = Heard()
        with self._faults():
            replies = self.client.stream_generate_content(self._proto(request), timeout=self.timeout, retry=None)
            try:
                yield from heard.read(map(_wire, replies))
            finally:
                replies.cancel()  # a stream that was left early holds its connection otherwise
        return heard.response(self.name)

    def _proto(self, request: Request) -> Any:
        """The request as the package builds it; sent by us, as it would use the client configured last."""
        options = request.options
        wanted: dict[str, Any] = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k,
            "max_output_tokens": options.max_tokens,
            "stop_sequences": list(options.stop[:5]) if options.stop else None,
        }
        if options.schema is not None:
            wanted |= {"response_mime_type": "application/json", "response_schema": dict(options.schema)}
        config = {k: v for k, v in wanted.items() if v is not None} | dict(options.extra or {})
        system = "\n\n".join(m.content for m in request.messages if m.role == "system")
        model = _sdk().GenerativeModel(self.id, system_instruction=system or None)
        return model._prepare_request(
            contents=contents(request), generation_config=config or None, tools=None, tool_config=None
        )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import requests
        from google.api_core import exceptions
        from google.protobuf import json_format

        try:
            yield
        except exceptions.GoogleAPICallError as error:
            # "POST <url>: <words>"
            words = re.sub(r"^[A-Z]+ \S+: ", "", str(error.message)).replace(self._key(), "…")
            wait = faults.retry_after(getattr(error.response, "headers", {}))
            raise faults.failure(self.name, int(error.code or 500), words, retry_after=wait) from None
        except (requests.RequestException, exceptions.RetryError) as error:
            raise faults.unreachable(self.name, error, self.timeout) from None
        except (json_format.ParseError, ValueError, StopIteration) as error:
            raise faults.nonsense(self.name, f"the answer cannot be read ({error})") from None


def _sdk() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces its own end at every import
            import google.generativeai
    except ModuleNotFoundError:
        raise MissingPackage(
            "google-legacy/ models need google-generativeai, whose support has ended: "
            "pip install 'llmlab[google-legacy]', or use google/ with the same model"
        ) from None
    return google.generativeai


def _wire(result: Any) -> dict[str, Any]:
    """A reply as wire JSON. An unset count is 0 in the package, and so is one that it does not know."""
    counts = result.usage_metadata
    wire: dict[str, Any] = {
        "candidates": [_candidate(c) for c in result.candidates[:1]],
        "modelVersion": result.model_version,
    }
    if result.prompt_feedback.block_reason:
        reasons = _sdk().protos.GenerateContentResponse.PromptFeedback.BlockReason
        wire["promptFeedback"] = {"blockReason": _named(reasons, result.prompt_feedback.block_reason)}
    if counts.total_token_count:
        wire["usageMetadata"] = {
            "promptTokenCount": counts.prompt_token_count,
            # thinking tokens are charged and part of the total, but the package has no field for them
            "candidatesTokenCount": counts.total_token_count - counts.prompt_token_count,
            "cachedContentTokenCount": counts.cached_content_token_count,
        }
    return wire


def _candidate(candidate: Any) -> dict[str, Any]:
    return {
        "finishReason": _named(_sdk().protos.Candidate.FinishReason, candidate.finish_reason),
        "content": {"parts": [{"text": part.text} for part in candidate.content.parts]},
    }


def _named(kinds: Any, value: int) -> str | None:
    """Name of an enum value; the number for one that is newer than the package, None when unset."""
    if not value:
        return None
    try:
        return str(kinds(value).name)
    except ValueError:
        return str(int(value))
