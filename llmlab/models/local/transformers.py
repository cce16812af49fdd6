"""`hf/…`: any causal language model that transformers can load, from the hub or a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from llmlab.errors import BadRequest, LabError
from llmlab.models.base import Model
from llmlab.models.local.engine import Engine, Prompted, own
from llmlab.models.local.generation import DEFAULT_MAX_TOKENS, Row, check
from llmlab.models.local.loading import Loaded, as_lab_error, dtype_name
from llmlab.models.local.quantize import check_name
from llmlab.models.local.source import Source, require
from llmlab.models.local.thinking import settled, split
from llmlab.models.local.tokens import Prompt
from llmlab.prices import machine
from llmlab.types import Chunk, ContinuationLogprob, Options, Protocol, Request, Response, Usage, shortened

if TYPE_CHECKING:
    from llmlab.models.local.echo import Reading
    from llmlab.models.local.structured import Form

IDS = "prompt_ids"
"""Key of `Options.extra`: token ids to be read instead of the messages' text, as completion endpoints take them."""

_FOLDED = "the chat template has no system role: the system message begins the first user turn"
_ONLY_THOUGHT = "the answer ended inside its thinking block: max_tokens may be too small"
_NOT_WHOLE = "the answer ended before its JSON was whole: max_tokens may be too small"
_UNDERSTOOD = frozenset({"temperature", "max_tokens", "top_p", "top_k", "stop", "seed", "top_logprobs", "schema"})


class TransformersModel(Model):
    """A model whose weights run in this process. Making one is cheap; the weights load on first use or by `load`.

    Args:
        name: "hf/" and a hub id or a folder: "hf/HuggingFaceTB/SmolLM2-135M-Instruct", "hf/./my-model".
        options: generation options. Without a temperature above 0 decoding is greedy; max_tokens is 256 if not set.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the fastest.
        dtype: "float32", "bfloat16", "float16"; None is float32 on a CPU and bfloat16 elsewhere.
        revision: branch, tag or commit of the hub's repository.
        trust_remote_code: run the model's own Python code, if it comes with some.
        quantize: "int8", "nf4" or "fp4" keep the matrices of the layers in 8 or 4 bits (bitsandbytes); products are
            still computed in `dtype`, of "int8" in 16 bits at most. "int8-dynamic" multiplies bytes alone, on CPUs.
        threads: CPU threads; None for torch's choice, and one for the embedded models.
        batch_tokens: tokens that go through the model at once when scoring; more is faster and takes more memory.

    Answers do not depend on what else is in a batch, beyond rounding. They cost nobody money; `cost` is the
    imputed price of the machine's time (`llmlab.prices.machine`), shared out over a batch by tokens.

    With a `schema` (option of `generate`) an answer is chosen among the tokens that it allows; log-probabilities are
    still the model's own, over all tokens. Thinking comes before, where the chat template opens its block.
    """

    local: ClassVar[bool] = True
    open: ClassVar[bool] = True
    usual_threads: ClassVar[int | None] = None
    protocols: tuple[Protocol, ...] = ("loglikelihood", "letter_logprob", "letter", "generate")

    def __init__(
        self,
        name: str,
        options: Options | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        quantize: str | None = None,
        threads: int | None = None,
        batch_tokens: int = 2048,
    ) -> None:
        super().__init__(name, options)
        require(name)
        check_name(quantize)
        source = self.source_of(name, device, dtype, revision, trust_remote_code, quantize)
        self._engine = own(source, self.usual_threads if threads is None else threads, batch_tokens)

    @classmethod
    def source_of(cls, name: str, *settings: Any) -> Source:
        """Where the weights of a model of this name are; settings as in `Source`."""
        return Source(name, cls._source(name), *settings)

    @classmethod
    def _source(cls, name: str) -> str:
        """Folder or hub id that a name means."""
        return name.partition("/")[2]

    @property
    def source(self) -> Source:
        """Where the weights are and how they are loaded."""
        return self._engine.source

    @property
    def engine(self) -> Engine:
        """The weights and the queue of calls into them."""
        return self._engine

    def load(self) -> Loaded:
        """Read the weights now; they and the tokenizer are in what comes back.

        Raises:
            DataError, UnknownName, Unauthorized, ConnectionFailed: see `llmlab.models.local.source.locate`.
        """
        return self._engine.loaded

    def close(self) -> None:
        self._engine.close()

    @property
    def settings_used(self) -> Mapping[str, Any]:
        """What the numbers are computed with: device, dtype, attention, batch shape, threads. Loads the weights."""
        return self._engine.settings_used()

    def identity(self) -> Mapping[str, Any]:
        source = self._engine.source
        return {
            "model": self.name,
            "weights": source.fingerprint,
            "dtype": dtype_name(source.dtype, source.device),
            **({"quantize": source.quantize} if source.quantize else {}),
            **({"changed": list(map(repr, self._engine.standing))} if self._engine.standing else {}),
        }

    def worst_case(self, request: Request) -> float:
        return 0.0  # nobody charges for it

    # -- answers ------------------------------------------------------------------------------------------

    def _respond(self, request: Request) -> Response:
        (response,) = self._respond_all([request])
        if isinstance(response, LabError):
            raise response
        return response

    def generate_batch(self, requests: Sequence[Request]) -> list[Response | LabError]:
        complete = [self._complete(request, {}) for request in requests]
        return [
            r if isinstance(r, LabError) else self._finish(r, request)
            for r, request in zip(self._respond_all(complete), complete, strict=True)
        ]

    def _respond_all(self, requests: Sequence[Request]) -> list[Response | LabError]:
        drafts: list[_Draft | LabError] = []
        for request in requests:
            try:
                drafts.append(_Draft(self._engine, request))
            except LabError as error:
                drafts.append(error)
        self._engine.write([d.prompted for d in drafts if isinstance(d, _Draft)])
        return [d.outcome() if isinstance(d, _Draft) else d for d in drafts]

    def _stream(self, request: Request) -> Iterator[Chunk]:
        draft = _Draft(self._engine, request)
        sent = told = 0
        first = float("nan")
        for _ in self._engine.stream(draft.prompted):
            text = draft.settled_text
            if len(text) > sent:
                first = draft.row.seconds if not sent else first
                logprobs = tuple(draft.row.logprobs[told:])
                yield Chunk(text[sent:], logprobs=logprobs)
                sent, told = len(text), told + len(logprobs)
        response = draft.outcome()
        if isinstance(response, LabError):
            raise response
        response = replace(response, first_token_seconds=first)
        yield Chunk(response.text[sent:], response, tuple(draft.row.logprobs[told:]))

    # -- log-probabilities --------------------------------------------------------------------------------

    def logprob(
        self, context: str, continuations: Sequence[str], interventions: tuple[Any, ...] = ()
    ) -> list[ContinuationLogprob]:
        (result,) = self.logprob_batch([(context, continuations)], interventions)
        if isinstance(result, LabError):
            raise result
        return result

    def logprob_batch(
        self, queries: Sequence[tuple[str, Sequence[str]]], interventions: tuple[Any, ...] = ()
    ) -> list[list[ContinuationLogprob] | LabError]:
        tokens = self._engine.tokens
        results: list[list[ContinuationLogprob] | LabError] = []
        asked = []
        for context, continuations in queries:
            try:
                asked.append(tokens.pairs(context, continuations))
                results.append([])
            except LabError as error:
                results.append(error)
        scored = iter(self._engine.score(asked, interventions))
        return [r if isinstance(r, LabError) else self._whole(next(scored)) for r in results]

    def echo(self, prompts: Sequence[Sequence[int]], top: int = 1) -> list[Reading]:
        """What the model expects at each place of token sequences: log-probabilities, and `top` likeliest tokens.

        Raises:
            BadRequest: for an empty sequence, an unknown id, or more tokens than the context has.
        """
        from llmlab.models.local.echo import Read

        context = self._engine.loaded.context
        for ids in prompts:
            if len(ids) > context:
                raise BadRequest(f"{len(ids)} tokens are more than the context of {self.name}, {context}")
            prompt_ids(self._engine, Request((), Options(extra={IDS: ids})))
        found = self._engine.read([Read(tuple(ids), top) for ids in prompts])
        for one in found:
            if isinstance(one, Exception):
                raise as_lab_error(one, self.name)
        return found

    def _whole(self, result: Any) -> list[ContinuationLogprob] | LabError:
        """A query's log-probabilities, or the error of the first that has none."""
        if isinstance(result, Exception):
            return as_lab_error(result, self.name)
        return next((r for r in result if isinstance(r, LabError)), result)


def prompt_ids(engine: Engine, request: Request) -> list[int]:
    """The tokens that a request's prompt is read as; `extra` may have them ready.

    Raises:
        BadRequest: for ids that the model does not have, or messages that its chat template does not take.
    """
    return _read(engine, request).ids


def _read(engine: Engine, request: Request) -> Prompt:
    given = (request.options.extra or {}).get(IDS)
    if given is None:
        return engine.tokens.read(request)
    size = engine.loaded.model.config.get_text_config().vocab_size
    if not given or not all(0 <= i < size for i in given):
        wrong = next((i for i in given if not 0 <= i < size), "none")
        raise BadRequest(f"a prompt of token ids has at least one, each from 0 to {size - 1}; got {wrong}")
    return Prompt(list(given))


class _Draft:
    """A request on its way to a response."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.engine = engine
        self.request = request
        check(request.options)
        self.read = _read(engine, request)
        prompt = self.read.ids
        context = engine.loaded.context
        # as lm-evaluation-harness: the answer's room is kept free, here at most half of the context
        room = max(context - (request.options.max_tokens or DEFAULT_MAX_TOKENS), context // 2)
        self.cut = max(0, len(prompt) - room)
        self.row = Row.of(request, prompt[self.cut :], engine.tokens, engine.ends, context, self._form())
        self.prompted = Prompted(self.row, request.interventions)

    @property
    def settled_text(self) -> str:
        """The part of the answer that no later token can take back."""
        if self.row.done:
            return self._said()[1]
        text = self.row.settled_text
        return settled(text, self.read.opened) if self.read.chat else text

    def _form(self) -> Form | None:
        schema = self.request.options.schema
        if schema is None:
            return None
        from llmlab.models.local.structured import Form

        return Form(schema, self.engine.vocabulary, self.engine.tokens, thinking=self.read.opened)

    def _said(self) -> tuple[str, str]:
        """Thinking and answer."""
        return split(self.row.text, self.read.opened) if self.read.chat else ("", self.row.text)

    def _notes(self, thinking: str, answer: str) -> tuple[str, ...]:
        notes = shortened(self.cut)
        if self.read.folded:
            notes += (_FOLDED,)
        if thinking and not answer:
            notes += (_ONLY_THOUGHT,)
        elif self.row.form is not None and not self.row.form.whole:
            notes += (_NOT_WHOLE,)
        return notes

    def outcome(self) -> Response | LabError:
        row, options = self.row, self.request.options
        if row.error is not None:
            return row.error
        dropped = tuple(f.name for f in fields(Options) if f.name in options.set() and f.name not in _UNDERSTOOD)
        if set(options.extra or ()) == {IDS}:
            dropped = tuple(name for name in dropped if name != "extra")
        cost = machine(row.seconds)
        thinking, answer = self._said()
        return Response(
            text=answer,
            reasoning=thinking,
            finish_reason=row.finish or "unknown",
            usage=Usage(input_tokens=len(row.prompt), output_tokens=len(row.written)),
            cost=cost.cost,
            price=cost.source,
            seconds=row.seconds,
            model_version=self.engine.source.fingerprint,
            applied=replace(options, **dict.fromkeys(dropped)),
            dropped=dropped,
            notes=self._notes(thinking, answer),
            logprobs=None if options.top_logprobs is None else tuple(row.logprobs),
        )
