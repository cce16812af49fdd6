"""From what a client sent to calls of a model: plain functions that run in the office's threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmlab.models.base import Model
from llmlab.models.cancel import cancelled
from llmlab.models.local.generation import DEFAULT_MAX_TOKENS
from llmlab.models.local.transformers import IDS, TransformersModel, prompt_ids
from llmlab.models.remote import RemoteModel
from llmlab.prices import machine
from llmlab.serve.bodies import ChatBody, CompletionBody, Generation
from llmlab.serve.office import Emit, Work
from llmlab.serve.problems import Problem
from llmlab.types import ANY_OBJECT, NAN, Chunk, Message, Options, Request, Response, TokenLogprob, Usage

if TYPE_CHECKING:
    from llmlab.models.local.echo import Reading


@dataclass(frozen=True)
class Echoed:
    """A prompt that was read and, after it, what was written."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    response: Response


def chat_requests(body: ChatBody, model: Model) -> list[Request]:
    """One request per choice."""
    if body.logprobs:
        _plain(model)
    options = _options(body, body.limit, (body.top_logprobs or 0) if body.logprobs else None)
    form = body.response_format
    if form is not None and form.type != "text":
        options = replace(options, schema=_schema(body, model))
    messages = tuple(turn.message for turn in body.messages)
    return [Request(messages, options, repeat=i) for i in range(body.n or 1)]


def completion_requests(body: CompletionBody, model: Model) -> list[Request]:
    """One request per prompt and choice."""
    if body.logprobs is not None:
        _plain(model)
    options = _options(body, body.max_tokens, body.logprobs)
    found = []
    for prompt in body.prompts:
        if isinstance(prompt, str):
            request = Request((Message("user", prompt),), options, template=False)
        else:
            # the text is what interceptors and sampling see; the engine reads the ids
            ids = tuple(prompt)
            text = tokens_of(model, "token ids as a prompt").raw(ids)
            request = Request((Message("user", text),), replace(options, extra={IDS: ids}), template=False)
        found += [replace(request, repeat=i) for i in range(body.n or 1)]
    return found


def answering(model: Model, request: Request, stream: bool) -> Work:
    """Answer a request: its chunks, of which the last has the response; only that one without `stream`."""

    def work(emit: Emit) -> None:
        asked = fitted(model, request)
        if not stream:
            response = model.generate(asked)
            emit(Chunk(response.text, _complete(response, asked), response.logprobs or ()))
            return
        told = 0
        with closing(_closable(model.stream(asked))) as chunks:
            for chunk in chunks:
                if cancelled():
                    return
                told += len(chunk.logprobs)
                if chunk.response is not None:
                    rest = (_complete(chunk.response, asked).logprobs or ())[told:]
                    chunk = replace(chunk, logprobs=(*chunk.logprobs, *rest))
                emit(chunk)

    return work


def echoing(model: Model, body: CompletionBody, requests: list[Request]) -> Work:
    """Read the prompts of several requests together, and answer them; everything comes in one list of Echoed."""
    if not isinstance(model, TransformersModel):
        raise Problem(400, f"echo needs a model whose weights run in this server; {model.name} is none", param="echo")

    def work(emit: Emit) -> None:
        began = time.perf_counter()
        asked = [fitted(model, request) for request in requests]
        prompts = [prompt_ids(model.engine, request) for request in asked]
        wanted = body.logprobs is not None
        # one greedy token is what the reading itself says comes next
        short = body.max_tokens is not None and body.max_tokens <= 1 and not body.temperature and not body.stop
        readings = model.echo(prompts, max(1, body.logprobs or 0)) if wanted or short else [None] * len(prompts)
        seconds = (time.perf_counter() - began) / len(prompts)
        found = []
        for request, ids, reading in zip(asked, prompts, readings, strict=True):
            tokens = _echoed(model, ids, reading, body.logprobs or 0) if reading is not None and wanted else ()
            if short and reading is not None:
                response = _next(model, ids, reading, body.max_tokens or 0, body.logprobs or 0, seconds)
            else:
                response = model.generate(request)
            found.append(Echoed(model.engine.tokens.raw(ids), tokens, response))
        emit(found)

    return work


def fitted(model: Model, request: Request) -> Request:
    """The request, if it fits into the context of a model that would otherwise cut off its beginning."""
    if not isinstance(model, TransformersModel):
        return request
    limit = request.options.max_tokens or model.options.max_tokens
    used, context = len(prompt_ids(model.engine, request)), model.engine.loaded.context
    if used + (1 if limit is None else limit) > context:
        more = "" if limit is None else f" and {limit} of the answer (max_tokens)"
        raise Problem(
            400,
            f"{used} tokens of the prompt{more} do not fit into the context of {model.name}, {context} tokens",
            code="context_length_exceeded",
        )
    return request.with_options(max_tokens=min(DEFAULT_MAX_TOKENS, context - used)) if limit is None else request


def tokens_of(model: Model, what: str) -> Any:
    """The tokenizer of a model that runs here."""
    if not isinstance(model, TransformersModel):
        raise Problem(400, f"{what}: needs a model whose weights run in this server; {model.name} is none")
    return model.engine.tokens


def leaves(model: Model) -> Iterator[Model]:
    """The models that answer in the end."""
    if not model.asks:
        yield model
    for inner in model.asks:
        yield from leaves(inner)


# -- inside -----------------------------------------------------------------------------------------------


def _options(body: Generation, limit: int | None, top_logprobs: int | None) -> Options:
    return Options(
        temperature=body.temperature,
        max_tokens=limit,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=body.stops,
        seed=body.seed,
        top_logprobs=top_logprobs,
    )


def _schema(body: ChatBody, model: Model) -> dict[str, Any]:
    form, answers = body.response_format, list(leaves(model))
    assert form is not None
    free = [leaf.name for leaf in answers if not isinstance(leaf, (RemoteModel, TransformersModel))]
    if free:
        raise Problem(
            400, f"{', '.join(free)} cannot be held to a schema: leave response_format out", param="response_format"
        )
    if form.json_schema is not None:
        return form.json_schema.schema_
    strict = [leaf.name for leaf in answers if isinstance(leaf, RemoteModel) and not leaf.any_object]
    if strict:
        raise Problem(
            400,
            f"{', '.join(strict)} needs more than json_object: give a schema by json_schema",
            param="response_format",
        )
    return dict(ANY_OBJECT)


def _plain(model: Model) -> None:
    """Log-probabilities of what a wrapper's models said could tell what the wrapper took out."""
    if model.asks:
        raise Problem(400, f"{model.name} wraps other models and gives no log-probabilities", param="logprobs")


def _complete(response: Response, asked: Request) -> Response:
    """The response, if it has what was asked for."""
    lacks: list[str] = [name for name in ("schema", "top_logprobs") if name in response.dropped]
    if asked.options.top_logprobs is not None and response.logprobs is None:
        lacks.append("logprobs")
    if lacks:
        raise Problem(400, f"{response.model} does not support {' and '.join(lacks)}: leave it out")
    return response


def _closable(chunks: Iterator[Chunk]) -> Any:
    """Iterators of others may have no `close`."""
    return chunks if hasattr(chunks, "close") else (chunk for chunk in chunks)


def _echoed(model: TransformersModel, ids: list[int], reading: Reading, top: int) -> tuple[TokenLogprob, ...]:
    """The prompt's tokens; nothing is known of the first."""
    raw = model.engine.tokens.raw
    found = [TokenLogprob(raw(ids[:1]), NAN)]
    for token, logprob, best in zip(ids[1:], reading.logprobs, reading.best, strict=False):
        found.append(TokenLogprob(raw([token]), logprob, tuple((raw([i]), p) for i, p in best[:top])))
    return tuple(found)


def _next(model: TransformersModel, ids: list[int], reading: Reading, n: int, top: int, seconds: float) -> Response:
    """What follows a reading: nothing, or the likeliest token."""
    tokens, best = model.engine.tokens, reading.best[-1]
    token, logprob = best[0]
    ends = bool(n) and token in model.engine.ends
    cost = machine(seconds)
    alternatives = tuple((tokens.raw([i]), p) for i, p in best[:top])
    return Response(
        tokens.answer([token]) if n and not ends else "",
        finish_reason="stop" if ends else "length",
        usage=Usage(len(ids), 0 if ends else n),
        cost=cost.cost,
        price=cost.source,
        seconds=seconds,
        model=model.name,
        model_version=model.source.fingerprint,
        logprobs=(TokenLogprob(tokens.raw([token]), logprob, alternatives),) if n else (),
    )
