"""`llamacpp/…`: a GGUF file as llama.cpp computes it, in its own quantised arithmetic."""

from __future__ import annotations

import codecs
import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from llmlab.errors import BadRequest, DataError, LabError, MissingPackage
from llmlab.models.base import Model
from llmlab.models.local.generation import DEFAULT_MAX_TOKENS, check
from llmlab.models.local.gguf import GgufSource
from llmlab.models.stops import cut, until
from llmlab.prices import machine
from llmlab.types import (
    NAN,
    Chunk,
    ContinuationLogprob,
    FinishReason,
    Options,
    Protocol,
    Request,
    Response,
    TokenLogprob,
    Usage,
    digest,
    shortened,
)

_UNDERSTOOD = frozenset({"temperature", "max_tokens", "top_p", "top_k", "stop", "seed", "top_logprobs"})


class LlamaCppModel(Model):
    """A model in one GGUF file, run by llama.cpp (K-quants, GPUs of all makers), one call at a time.

    The same file as `gguf/…` is unpacked and computed by transformers: that one batches, takes interventions, and its
    numbers differ a little, because the products there are not quantised.

    Args:
        name: "llamacpp/./models/base-q4_k_m.gguf".
        options: generation options.
        context: tokens of prompt and answer together, for which memory is kept; None takes what the model was trained
            for.
        gpu_layers: layers on the GPU, where llama-cpp-python was built for one; -1 takes all.
        threads: CPU threads, None for llama.cpp's choice.

    Raises:
        MissingPackage: without llama-cpp-python.
    """

    local: ClassVar[bool] = True
    protocols: tuple[Protocol, ...] = ("loglikelihood", "letter_logprob", "letter", "generate")

    def __init__(
        self,
        name: str,
        options: Options | None = None,
        *,
        context: int | None = None,
        gpu_layers: int = 0,
        threads: int | None = None,
    ) -> None:
        super().__init__(name, options)
        from importlib.util import find_spec

        if find_spec("llama_cpp") is None:
            raise MissingPackage(f"{name} needs the package 'llama-cpp-python': pip install 'llmlab[llamacpp]'")
        self.source = GgufSource(name, name.partition("/")[2])
        self.context = context
        self.gpu_layers = gpu_layers
        self.threads = threads
        self._state = _State()

    def identity(self) -> Mapping[str, Any]:
        return {"model": self.name, "weights": self.source.fingerprint, "engine": "llama.cpp", "context": self.context}

    def worst_case(self, request: Request) -> float:
        return 0.0  # nobody charges for it

    def close(self) -> None:
        with self._alone():
            if self._state.weights is not None:
                self._state.weights.close()
            self._state.weights = None

    def load(self) -> Any:
        """The `llama_cpp.Llama` that computes; it reads the file now.

        Raises:
            UnknownName, DataError: when there is no such file, or it is none that llama.cpp reads.
        """
        if self._state.weights is None:
            import llama_cpp

            path = str(self.source.file)
            asked = {"n_ctx": self.context or 0, "n_gpu_layers": self.gpu_layers}
            try:
                self._state.weights = llama_cpp.Llama(
                    path, **asked, n_threads=self.threads, n_threads_batch=self.threads, verbose=False
                )
            except ValueError as error:
                raise DataError(f"llama.cpp cannot read {path}: {error}") from error
        return self._state.weights

    # -- answers ------------------------------------------------------------------------------------------

    def _respond(self, request: Request) -> Response:
        *_, last = self._stream(request)
        assert last.response is not None
        return replace(last.response, first_token_seconds=NAN)

    def _stream(self, request: Request) -> Iterator[Chunk]:
        with self._alone():
            draft = _Draft(self, request)
            first = NAN
            for piece in until(draft.pieces(), request.options.stop):
                first = time.perf_counter() - draft.began if first != first else first
                yield Chunk(piece)
            yield Chunk("", draft.response(first), tuple(draft.logprobs))

    # -- log-probabilities --------------------------------------------------------------------------------

    def logprob(
        self, context: str, continuations: Sequence[str], interventions: tuple[Any, ...] = ()
    ) -> list[ContinuationLogprob]:
        with self._alone():
            if interventions:
                return super().logprob(context, continuations, interventions)
            return [self._continued(context, continuation) for continuation in continuations]

    def _continued(self, context: str, continuation: str) -> ContinuationLogprob:
        import numpy as np

        weights = self.load()
        head, tail = _pair(weights, context, continuation)
        room = _room(weights) - len(tail)
        if room < 1:
            raise BadRequest(f"a continuation of {len(tail)} tokens is longer than the context of {self.name}")
        lost = max(0, len(head) - room)
        weights.reset()
        weights.eval(head[lost:])
        total, greedy = 0.0, True
        for token in tail:
            logits = _last_logits(weights)
            total += float(logits[token] - np.logaddexp.reduce(logits))
            greedy = greedy and int(logits.argmax()) == token
            weights.eval([token])
        return ContinuationLogprob(total, len(tail), greedy, lost)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """llama.cpp has one context: calls take turns."""
        state = self._state
        if state.owner == threading.get_ident():
            raise LabError(f"{self.name} is writing an answer to this thread already: read its stream to the end first")
        with state.lock:
            state.owner = threading.get_ident()
            try:
                yield
            finally:
                state.owner = None


@dataclass
class _State:
    """What copies of a model with other options share."""

    weights: Any = None
    owner: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Draft:
    """A request on its way to a response."""

    def __init__(self, model: LlamaCppModel, request: Request) -> None:
        self.model = model
        self.request = request
        self.options = request.options
        self.weights = model.load()
        check(self.options)
        self.limit = self.options.max_tokens or DEFAULT_MAX_TOKENS
        ids = _prompt(self.weights, request, model.name)
        context = _room(self.weights)
        # as for models of transformers: the answer's room is kept free, here at most half of the context
        self.cut = max(0, len(ids) - max(context - self.limit, context // 2))
        self.ids = ids[self.cut :]
        self.limit = min(self.limit, context - len(self.ids))
        self.text = ""
        self.written = 0
        self.logprobs: list[TokenLogprob] = []
        self.finish: FinishReason = "length"
        self.began = time.perf_counter()

    def pieces(self) -> Iterator[str]:
        """The text as it is written, in whole characters, up to the token that completes a stop sequence."""
        import llama_cpp

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in self._tokens():
            if llama_cpp.llama_vocab_is_eog(self.weights._model.vocab, token):
                self.finish = "stop"
                break
            self.written += 1
            if self.options.top_logprobs is not None:
                self.logprobs.append(_expected(self.weights, token, self.options.top_logprobs))
            piece = decoder.decode(self.weights.detokenize([token], special=True))
            self.text += piece
            yield piece
            if len(cut(self.text, self.options.stop)) < len(self.text):
                self.finish = "stop"
                break
            if self.written == self.limit:
                break
        if rest := decoder.decode(b"", final=True):
            self.text += rest
            yield rest

    def _tokens(self) -> Iterator[int]:
        options = self.options
        seed = int(digest(self.request.prompt_hash, options.seed or 0, self.request.repeat), 16)
        self.weights.set_seed(seed % (1 << 32))
        sampling = {"temp": options.temperature or 0.0, "top_k": options.top_k or 0, "min_p": 0.0}
        top_p = 1.0 if options.top_p is None else options.top_p
        tokens: Iterator[int] = self.weights.generate(self.ids, **sampling, top_p=top_p)
        return tokens

    def response(self, first: float) -> Response:
        """The answer, when `pieces` has ended."""
        seconds, options = time.perf_counter() - self.began, self.options
        dropped = tuple(f.name for f in fields(Options) if f.name in options.set() and f.name not in _UNDERSTOOD)
        cost = machine(seconds)
        return Response(
            cut(self.text, options.stop),
            self.finish,
            Usage(len(self.ids), self.written),
            cost.cost,
            cost.source,
            seconds,
            first,
            model_version=self.model.source.fingerprint,
            applied=replace(options, **dict.fromkeys(dropped)),
            dropped=dropped,
            notes=shortened(self.cut),
            logprobs=None if options.top_logprobs is None else tuple(self.logprobs),
        )


def _room(weights: Any) -> int:
    """Tokens of prompt and answer together."""
    return min(int(weights.n_ctx()), int(weights._model.n_ctx_train()))


def _last_logits(weights: Any) -> Any:
    """Logits (vocabulary,) float64 after the last token that was read."""
    import numpy as np

    row = np.ctypeslib.as_array(weights._ctx.get_logits_ith(-1), shape=(weights.n_vocab(),))
    return row.astype(np.float64)


def _expected(weights: Any, token: int, top: int) -> TokenLogprob:
    """A token that was just drawn, and what else was likely in its place."""
    import numpy as np

    logprobs = _last_logits(weights)
    logprobs -= np.logaddexp.reduce(logprobs)
    best = np.argsort(-logprobs)[:top].tolist()
    said = functools.partial(_said, weights)
    return TokenLogprob(said(token), float(logprobs[token]), tuple((said(i), float(logprobs[i])) for i in best))


def _said(weights: Any, token: int) -> str:
    return str(weights.detokenize([token], special=True).decode("utf-8", "replace"))


def _prompt(weights: Any, request: Request, name: str) -> list[int]:
    """Token ids of a prompt, by the file's chat template or as plain text.

    Raises:
        BadRequest: when a chat template is asked for and there is none, or it does not take these messages.
    """
    template = weights.metadata.get("tokenizer.chat_template")
    if request.template and template is None:
        raise BadRequest(f"the file of {name} has no chat template; ask with template=False, or another model")
    if template is None or request.template is False:
        return _encoded(weights, "\n\n".join(m.content for m in request.messages))
    import jinja2
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    begin, end = (_said(weights, i) if i >= 0 else "" for i in (weights.token_bos(), weights.token_eos()))
    turns: Any = [{"role": m.role, "content": m.content} for m in request.messages]
    try:
        text = Jinja2ChatFormatter(template, eos_token=end, bos_token=begin)(messages=turns).prompt
    except (ValueError, jinja2.TemplateError) as error:
        raise BadRequest(f"the chat template of {name} does not take these messages: {error}") from error
    ids: list[int] = weights.tokenize(text.encode(), add_bos=not text.startswith(begin or "\0"), special=True)
    return ids


def _encoded(weights: Any, text: str) -> list[int]:
    ids: list[int] = weights.tokenize(text.encode(), add_bos=True, special=False)
    return ids or [weights.token_bos()]


def _pair(weights: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a context and what follows it; white space at its end moves to the continuation.

    Raises:
        BadRequest: for an empty continuation.
    """
    if not continuation:
        raise BadRequest(f"a continuation of {context[-60:]!r} is empty: there is nothing to score")
    stripped = context.rstrip()
    head = _encoded(weights, stripped) if stripped else [weights.token_bos()]
    whole = _encoded(weights, context + continuation)
    if whole[: len(head)] == head and len(whole) > len(head):
        return head, whole[len(head) :]
    shared = next((i for i, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), len(whole) - 1)
    shared = max(1, min(shared, len(whole) - 1))
    return whole[:shared], whole[shared:]
