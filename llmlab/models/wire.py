"""Calls through the openai and anthropic SDKs, which are generated alike: wire JSON in, wire JSON out.

The SDK signs and sends the request and raises its errors. The answer is read from the JSON on the wire: it is what
usage is defined on, and reading it costs a third of building the SDK's objects.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

from llmlab.errors import ProviderError
from llmlab.models import faults
from llmlab.models.capabilities import refused_option
from llmlab.models.remote import RemoteModel, connections, ssl_context

# errors inside a stream come with status 200; by their type they belong to another one
_STATUS = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
}


class WireModel(RemoteModel):
    """A model that is reached through an SDK with `client.post`."""

    fields: ClassVar[Mapping[str, str]]
    """Names of request fields that a model may refuse -> the options they come from."""

    @property
    def _sdk(self) -> ModuleType:
        raise NotImplementedError

    def _client_settings(self) -> dict[str, Any]:
        """What both SDKs' clients take: no retries of their own, connections for many threads."""
        import httpx2

        timeout = httpx2.Timeout(self.timeout, connect=min(self.timeout, 10.0))
        return {
            "base_url": self.base_url,
            "max_retries": 0,
            "timeout": timeout,
            "http_client": httpx2.Client(
                limits=connections(), timeout=timeout, verify=ssl_context(), follow_redirects=True
            ),
        }

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The wire JSON that answers one call."""
        import httpx2

        with self._faults():
            reply = self.client.post(path, cast_to=httpx2.Response, body=body)
        if not reply.content.strip():
            raise faults.nonsense(self.name, "the answer is empty")
        try:
            return json.loads(reply.content)
        except ValueError:
            raise faults.nonsense(self.name, "the answer is not JSON", reply.content) from None

    def _events(self, path: str, body: Mapping[str, Any]) -> Generator[Any, None, None]:
        """The wire JSON of each server-sent event that answers one call."""
        with self._faults():
            stream_class = self._sdk.Stream[object]
            stream = self.client.post(path, cast_to=object, body=body, stream=True, stream_cls=stream_class)
            with stream:
                yield from stream

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import httpx2

        try:
            yield
        except self._sdk.APIError as error:
            raise self._fault(error) from None
        except httpx2.HTTPError as error:  # the anthropic SDK lets these through while a stream is read
            raise faults.unreachable(self.name, error, self.timeout) from None
        except json.JSONDecodeError as error:
            raise faults.nonsense(self.name, "an event of the stream is not JSON", error.doc) from None

    def _fault(self, error: Any) -> ProviderError:
        if isinstance(error, self._sdk.APIConnectionError):
            return faults.unreachable(self.name, error, self.timeout)
        response = getattr(error, "response", None)
        wait = faults.retry_after(response.headers) if response is not None else None
        return self._failure(getattr(error, "status_code", 200), error.body, str(error.message), wait)

    def _failure(self, status: int, said: Any, message: str = "", wait: float | None = None) -> ProviderError:
        """The error for a status and the JSON that came with it."""
        body = said if isinstance(said, dict) else {}
        inner = body.get("error", body)
        inner = inner if isinstance(inner, dict) else {"message": str(inner)}
        kinds = [str(k) for k in (inner.get("code"), inner.get("type")) if k]
        words = str(inner.get("message") or said or message).replace(self._key(), "…")
        if status < 400:
            status = next((_STATUS[kind] for kind in kinds if kind in _STATUS), status)
        code = kinds[0] if kinds else ""
        if status in (400, 422) and (option := refused_option(words, inner.get("param"), self.fields)):
            return faults.RefusedOption(f"{self.name}: HTTP {status} {code}: {faults.shorten(words)}", option, status)
        return faults.failure(self.name, status, words, retry_after=wait, code=code)

    def _lines(self, body: bytes) -> Iterator[Any]:
        """The JSON of each line."""
        for line in body.split(b"\n"):  # not splitlines: a text may have other ends of line in it
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    raise faults.nonsense(self.name, "a line of the batch is not JSON", line) from None
