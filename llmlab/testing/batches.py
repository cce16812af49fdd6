"""The batch APIs: OpenAI's files and batches, Anthropic's message batches, Google's batches of inlined requests.

As openai 3.54, anthropic 2.12 and google-genai 3.4 speak them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Literal

Outcome = Literal["answered", "expired", "cancelled"]
_CREATED = 4_000_000_000  # in a while: whoever looks for recent batches finds them
_DATE = "2096-10-02T07:06:40Z"


@dataclass
class Batch:
    """One submitted batch.

    Attributes:
        id, label: its id, and what the client calls it.
        requests: (key, path, body) of each.
        polls: how often it was looked at.
    """

    id: str
    label: str
    requests: list[tuple[str, str, Any]]
    polls: int = 0


@dataclass
class Batches:
    """What was submitted and how it goes on.

    Attributes:
        answer: path and body of a request -> status and JSON of its answer.
        polls: how often a batch is still under way when it is looked at.
        outcome: what becomes of the request with a key; what has expired or was cancelled has no answer.
        failure: why a new batch fails as a whole; "" lets it pass.
        submitted: all batches, the first one first.
    """

    answer: Callable[[str, Any], tuple[int, Any]]
    polls: int = 1
    outcome: Callable[[str], Outcome] = lambda key: "answered"
    failure: str = ""
    submitted: list[Batch] = field(default_factory=list)
    _files: dict[str, bytes] = field(default_factory=dict)

    def reply(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Any:
        """The answer to a request of these APIs: JSON, bytes of a file, or None when the path is none of theirs."""
        path = path.partition("?")[0]
        google = any(name.startswith("x-goog") for name in headers)  # OpenAI's paths are partly the same
        routes: tuple[tuple[str, Callable[..., Any]], ...] = (
            (r"POST .*/v1/files", self._upload),
            (r"GET .*/v1/files/([^/]+)/content", self._content),
            (r"POST .*/v1/batches", self._openai_create),
            (r"GET .*/v1/batches/(batch_\d+)", self._openai),
            (r"GET .*/v1/batches", self._google_list if google else self._openai_list),
            (r"POST .*/v1/messages/batches", self._anthropic_create),
            (r"GET .*/v1/messages/batches/([^/]+)/results", self._anthropic_results),
            (r"GET .*/v1/messages/batches/([^/]+)", self._anthropic),
            (r"GET .*/v1/messages/batches", self._anthropic_list),
            (r"POST .*(/v1/models/[^/:]+):batchGenerateContent", self._google_create),
            (r"GET .*/v1/(batches/inlined-\d+)", self._google),
        )
        for pattern, answer in routes:
            if found := re.fullmatch(pattern, f"{method} {path}"):
                self._host = f"http://{headers.get('host', '')}"
                self._type = headers.get("content-type", "")
                return answer(*found.groups(), *([body] if method == "POST" else []))
        return None

    def _new(self, prefix: str, label: str, requests: list[tuple[str, str, Any]]) -> Batch:
        self.submitted.append(Batch(f"{prefix}{len(self.submitted) + 1}", label, requests))
        return self.submitted[-1]

    def _batch(self, name: str) -> Batch:
        return next(b for b in self.submitted if b.id == name)

    def _ended(self, batch: Batch) -> bool:
        return bool(self.failure) or batch.polls > self.polls

    def _polled(self, name: str) -> Batch:
        batch = self._batch(name)
        batch.polls += 1
        return batch

    # -- OpenAI -------------------------------------------------------------------------------------------

    def _upload(self, body: bytes) -> Any:
        form = BytesParser(policy=HTTP).parsebytes(f"content-type: {self._type}\r\n\r\n".encode() + body)
        parts: dict[Any, Any] = {p.get_param("name", header="content-disposition"): p for p in form.iter_parts()}
        assert parts["purpose"].get_payload(decode=True) == b"batch"
        name = f"file-{len(self._files) + 1}"
        self._files[name] = parts["file"].get_payload(decode=True)
        return {"id": name, "object": "file", "bytes": len(self._files[name]), "created_at": _CREATED,
                "filename": parts["file"].get_filename(), "purpose": "batch", "status": "processed"}  # fmt: skip

    def _content(self, name: str) -> bytes:
        return self._files[name]

    def _openai_create(self, body: Any) -> Any:
        lines = [json.loads(line) for line in self._files[body["input_file_id"]].splitlines()]
        requests = [(line["custom_id"], line["url"], line["body"]) for line in lines]
        return self._openai_json(self._new("batch_", body["metadata"]["llmlab"], requests), body["input_file_id"])

    def _openai(self, name: str) -> Any:
        return self._openai_json(self._polled(name))

    def _openai_list(self) -> Any:
        listed = [self._openai_json(b) for b in reversed(self.submitted)]
        return {"object": "list", "data": listed, "has_more": False}

    def _openai_json(self, batch: Batch, file: str = "file-1") -> Any:
        outcomes = {self.outcome(key) for key, _, _ in batch.requests}
        status = "completed" if outcomes == {"answered"} else "expired" if "expired" in outcomes else "cancelled"
        wire: dict[str, Any] = {
            "id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "completion_window": "24h",
            "created_at": _CREATED, "input_file_id": file, "metadata": {"llmlab": batch.label}, "errors": None,
            "status": status if self._ended(batch) else "in_progress", "output_file_id": None, "error_file_id": None,
        }  # fmt: skip
        if self.failure:
            errors = [{"code": "invalid", "message": self.failure, "line": 1, "param": None}]
            return wire | {"status": "failed", "errors": {"object": "list", "data": errors}}
        done = len(batch.requests) if self._ended(batch) else 0
        wire["request_counts"] = {"total": len(batch.requests), "completed": done, "failed": 0}
        return wire | (self._openai_files(batch) if self._ended(batch) else {})

    def _openai_files(self, batch: Batch) -> dict[str, str]:
        good: list[Any] = []
        bad: list[Any] = []
        for key, path, body in reversed(batch.requests):  # in any order
            line: dict[str, Any] = {"id": f"batch_req_{key}", "custom_id": key, "response": None, "error": None}
            if (outcome := self.outcome(key)) != "answered":
                bad.append(line | {"error": {"code": f"batch_{outcome}", "message": f"This request was {outcome}."}})
                continue
            status, reply = self.answer(path, body)
            line["response"] = {"status_code": status, "request_id": "r", "body": reply}
            (good if status == 200 else bad).append(line)
        made = {}
        for kind, lines in (("output", good), ("error", bad)):
            if lines:
                name = made[f"{kind}_file_id"] = f"file-{batch.id}-{kind}"
                self._files[name] = _jsonl(lines)
        return made

    # -- Anthropic ----------------------------------------------------------------------------------------

    def _anthropic_create(self, body: Any) -> Any:
        requests = [(line["custom_id"], "/v1/messages", line["params"]) for line in body["requests"]]
        return self._anthropic_json(self._new("msgbatch_", "", requests))

    def _anthropic(self, name: str) -> Any:
        return self._anthropic_json(self._polled(name))

    def _anthropic_list(self) -> Any:
        listed = [self._anthropic_json(b) for b in reversed(self.submitted)]
        return {"data": listed, "has_more": False, "first_id": None, "last_id": None}

    def _anthropic_json(self, batch: Batch) -> Any:
        ended = self._ended(batch)
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if ended else "processing"] = len(batch.requests)
        return {
            "id": batch.id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts, "created_at": _DATE, "expires_at": _DATE, "ended_at": _DATE if ended else None,
            "archived_at": None, "cancel_initiated_at": None,
            "results_url": f"{self._host}/v1/messages/batches/{batch.id}/results" if ended else None,
        }  # fmt: skip

    def _anthropic_results(self, name: str) -> bytes:
        lines = []
        for key, path, body in reversed(self._batch(name).requests):
            outcome = self.outcome(key)
            if outcome != "answered":
                lines.append({"custom_id": key, "result": {"type": outcome.replace("ll", "l")}})
                continue
            status, reply = self.answer(path, body)
            good = {"type": "succeeded", "message": reply}
            lines.append({"custom_id": key, "result": good if status == 200 else {"type": "errored", "error": reply}})
        return _jsonl(lines)

    # -- Google -------------------------------------------------------------------------------------------

    def _google_create(self, model: str, body: Any) -> Any:
        inlined = body["batch"]["inputConfig"]["requests"]["requests"]
        path = f"{model}:generateContent"
        requests = [(line["metadata"]["key"], path, line["request"]) for line in inlined]
        return self._google_json(self._new("batches/inlined-", body["batch"]["displayName"], requests))

    def _google(self, name: str) -> Any:
        return self._google_json(self._polled(name))

    def _google_list(self) -> Any:
        return {"operations": [self._google_json(b) for b in reversed(self.submitted)]}

    def _google_json(self, batch: Batch) -> Any:
        meta: dict[str, Any] = {"displayName": batch.label, "createTime": _DATE, "state": "BATCH_STATE_RUNNING"}
        if self.failure:
            meta["state"] = "BATCH_STATE_FAILED"
        elif self._ended(batch):
            meta["state"] = "BATCH_STATE_SUCCEEDED"
            if any(self.outcome(key) == "expired" for key, _, _ in batch.requests):
                meta["state"] = "BATCH_STATE_EXPIRED"
            meta["output"] = {"inlinedResponses": {"inlinedResponses": [self._google_line(*r) for r in batch.requests]}}
        return {"name": batch.id, "metadata": meta, "done": meta["state"] != "BATCH_STATE_RUNNING"}

    def _google_line(self, key: str, path: str, body: Any) -> Any:
        outcome = self.outcome(key)
        if outcome != "answered":
            code = {"expired": 4, "cancelled": 1}[outcome]
            return {"metadata": {"key": key}, "error": {"code": code, "message": f"This request was {outcome}."}}
        status, reply = self.answer(path, body)
        if status != 200:
            code = {400: 3, 404: 5, 429: 8}.get(status, 13)
            return {"metadata": {"key": key}, "error": {"code": code, "message": reply["error"]["message"]}}
        return {"metadata": {"key": key}, "response": reply}


def _jsonl(lines: list[Any]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()
