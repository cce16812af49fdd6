"""The values that flow through the library: frozen dataclasses, no I/O.

A `Request` goes into a model, a `Response` comes out; a `Sample` is one item of a benchmark, a `Score` the
verdict on one answer. Methods return new objects.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from llmlab.errors import BadRequest, UnknownName

Role: TypeAlias = Literal["system", "user", "assistant"]
FinishReason: TypeAlias = Literal["stop", "length", "refusal", "unknown"]
Protocol: TypeAlias = Literal["loglikelihood", "decision", "letter_logprob", "letter", "generate"]

NAN = math.nan
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
"""The schema of any JSON object: what OpenAI calls json_object."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """How to generate. None means: whatever the model does by default.

    temperature and top_p as the providers define them; max_tokens bounds the answer (reasoning included, where
    the provider counts it so); stop lists strings that end the answer and are not part of it; effort is the
    provider's reasoning effort ("low", "medium", ...); top_logprobs asks for that many alternatives per token;
    schema is a JSON schema that the answer must follow; extra is passed to the provider's call as it is.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    effort: str | None = None
    top_logprobs: int | None = None
    schema: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        stop: Any = self.stop  # people also write a string or a list
        if stop is not None:
            texts = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Sequence) else (stop,)
            if not all(isinstance(text, str) for text in texts):
                raise BadRequest(f"stop is a text or a list of texts; got {stop!r}")
            object.__setattr__(self, "stop", texts)

    @classmethod
    def of(cls, **options: Any) -> Options:
        """Options by name.

        Raises:
            UnknownName: with the closest known names.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownName.among("generation option", name, known)
        return cls(**options)

    def merged(self, stronger: Options) -> Options:
        """These options, overruled by every one that `stronger` sets."""
        return replace(self, **stronger.set())

    def set(self) -> dict[str, Any]:
        """Only the options that are set, by name."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked.

    Attributes:
        messages: the conversation, the last turn normally the user's.
        options: how to generate; overrules the model's own options.
        template: True wraps the messages in the model's chat template, False sends the text of the single
            message as it is (a completion, as base models and few-shot prompts want it), None lets the model
            decide: chat where it has a template. Cloud chat models always chat.
        interventions: what changes a local model's inside during this call (see `llmlab.alignment`).
        repeat: which of several answers to the same request this is; sampling seeds and the cache depend on it.
    """

    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)
    template: bool | None = None
    interventions: tuple[Any, ...] = ()
    repeat: int = 0

    @classmethod
    def of(cls, prompt: Prompt, **options: Any) -> Request:
        """A request from text, a list of messages (`Message` or `{"role", "content"}`) or another request.

        Raises:
            BadRequest: for anything else.
            UnknownName: for an option that does not exist, with the closest ones that do.
        """
        if isinstance(prompt, Request):
            request = prompt
        elif isinstance(prompt, str):
            request = cls((Message("user", prompt),))
        elif isinstance(prompt, Sequence):
            request = cls(tuple(_message(m, i) for i, m in enumerate(prompt)))
        else:
            raise BadRequest(f"a prompt is {_PROMPT}; got {_short(prompt)}")
        return request.with_options(**options) if options else request

    @property
    def prompt(self) -> str:
        """The text of the last user turn ("" when there is none)."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    def with_options(self, **options: Any) -> Request:
        """The same request with some options overruled."""
        return replace(self, options=self.options.merged(Options.of(**options)))

    def with_system(self, text: str) -> Request:
        """The same request with `text` put before the system prompt, or as the system prompt."""
        if self.messages and self.messages[0].role == "system":
            merged = Message("system", f"{text}\n\n{self.messages[0].content}")
            return replace(self, messages=(merged, *self.messages[1:]))
        return replace(self, messages=(Message("system", text), *self.messages))

    def revise(self, *turns: str) -> Request:
        """The same conversation, continued: turns alternate so that the last one is the user's."""
        roles: list[Role] = ["user" if i % 2 == 0 else "assistant" for i in range(len(turns))][::-1]
        return replace(self, messages=self.messages + tuple(map(Message, roles, turns)))

    @property
    def prompt_hash(self) -> str:
        """16 hex digits that change when anything that the model reads changes."""
        return digest([[m.role, m.content] for m in self.messages], self.template)


Prompt: TypeAlias = str | Sequence[Message | Mapping[str, Any]] | Request

_PROMPT = 'text, a list of messages ({"role": "user", "content": "…"}) or a Request'
_ROLES: tuple[str, ...] = get_args(Role)


def _message(given: object, at: int) -> Message:
    if isinstance(given, Message):
        return given
    if not isinstance(given, Mapping):
        raise BadRequest(f"a prompt is {_PROMPT}; its item {at} is {_short(given)}")
    if set(given) != {"role", "content"} or given["role"] not in _ROLES or not isinstance(given["content"], str):
        raise BadRequest(
            f"a message has a role ({', '.join(_ROLES)}) and a content (text), nothing else; message {at} is "
            f"{_short(given)}"
        )
    return Message(**given)


def _short(given: object) -> str:
    text = repr(given)
    return f"{type(given).__name__} {text if len(text) <= 80 else text[:79] + '…'}"


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def digest(*parts: Any) -> str:
    """16 hex digits of JSON-serialisable parts, the same in every process.

    An iterator counts as the list of its items, which are never held all at once.
    """
    hashed = hashlib.blake2b(digest_size=8)
    between = b"["
    for part in parts:
        hashed.update(between)
        if isinstance(part, Iterator):
            inside = b"["
            for item in part:
                hashed.update(inside + _canonical(item))
                inside = b","
            hashed.update(b"[]" if inside == b"[" else b"]")
        else:
            hashed.update(_canonical(part))
        between = b","
    hashed.update(b"[]" if between == b"[" else b"]")
    return hashed.hexdigest()


def _canonical(value: Any) -> bytes:
    return _CANONICAL.encode(value).encode()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, counted the same way for every provider. None is unknown, which is not 0.

    input_tokens include cached_tokens (read from a prompt cache) and cache_write_tokens; output_tokens include
    reasoning_tokens.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        def total(a: int | None, b: int | None) -> int | None:
            return None if a is None and b is None else (a or 0) + (b or 0)

        return Usage(*(total(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


class Attempt(NamedTuple):
    """One try of a call: seconds it waited to start, seconds it took, and how it ended ("" when it worked)."""

    waited: float
    seconds: float
    error: str = ""


class TokenLogprob(NamedTuple):
    """A generated token, its log-probability in nats, and the best alternatives at that place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """An answer and what it took.

    Attributes:
        text: the answer. A refusal is an answer too.
        finish_reason: "length" means cut off at max_tokens, "refusal" that the provider declined or blocked.
        usage: tokens.
        cost: US dollars; NaN when the price or the usage is unknown.
        price: what the cost was computed with (matched model and version of the price data), "" if unpriced.
        seconds: time of the successful try, without waiting and retries.
        first_token_seconds: time to the first token of a streamed answer, else NaN.
        model: name under which it was asked.
        model_version: version or fingerprint that answered, as the provider resolved it.
        requested, applied: options that were asked for, and those that were sent.
        dropped: names of options the provider does not accept, left out.
        attempts: every try, failed ones first.
        trace: the inner calls of a wrapper, in order.
        notes: what a person should know about this answer (a stream that was held back, an edit, ...).
        cached: True when it came from the store and cost nothing now; cost is then what it cost the first time.
        reasoning: the thinking text, where the model shows one; never part of `text`.
        logprobs: per generated token, when asked for.
    """

    text: str
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    cost: float = NAN
    price: str = ""
    seconds: float = NAN
    first_token_seconds: float = NAN
    model: str = ""
    model_version: str = ""
    requested: Options = field(default_factory=Options)
    applied: Options = field(default_factory=Options)
    dropped: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    trace: tuple[Response, ...] = ()
    notes: tuple[str, ...] = ()
    cached: bool = False
    reasoning: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None

    def edited(self, text: str, note: str = "") -> Response:
        """The same answer with other words, and a note that says why."""
        return replace(self, text=text, notes=(*self.notes, note) if note else self.notes)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Response({self.text!r}, {self._facts()})"

    def _repr_markdown_(self) -> str:
        return f"{self.text}\n\n<small>{self._facts()}</small>"

    def _facts(self) -> str:
        """What it took, in one line."""
        facts = [self.model] if self.model else []
        facts.append(f"{_count(self.usage.input_tokens)} + {_count(self.usage.output_tokens)} tokens")
        facts.append("unpriced" if math.isnan(self.cost) else f"${self.cost:.6f}")
        facts += [] if math.isnan(self.seconds) else [f"{self.seconds:.2f} s"]
        facts += ["cut off at max_tokens"] if self.finish_reason == "length" else []
        facts += ["refused"] if self.finish_reason == "refusal" else []
        return " · ".join(facts)


def _count(n: int | None) -> str:
    return "?" if n is None else str(n)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer. The last one has the whole `response`; its text may be empty.

    logprobs: of the tokens since the piece before, where they were asked for and come along; a token may be here
    before its text is, which is held back while it could become part of a stop sequence.
    """

    text: str
    response: Response | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


_SHORTENED = "the prompt was too long: its first "


def shortened(tokens: int) -> tuple[str, ...]:
    """The note on a prompt that lost its first `tokens` tokens; none where it lost nothing."""
    return (f"{_SHORTENED}{tokens} tokens were cut off",) if tokens else ()


def was_shortened(note: str) -> bool:
    """Whether notes say that the prompt lost its beginning."""
    return _SHORTENED in note


@dataclass(frozen=True, slots=True)
class ContinuationLogprob:
    """How likely a model finds one continuation of a context.

    logprob: summed log-probability of the continuation's tokens, in nats (NaN when it could not be computed).
    tokens: how many tokens it was split into. is_greedy: whether greedy decoding would have produced it.
    truncated: tokens of the context that were cut off on the left because the model's context was too short.
    """

    logprob: float
    tokens: int
    is_greedy: bool
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice among given options.

    probabilities sum to 1 over the choices, in their order; NaN throughout when the protocol only yields a
    pick. choice is the index of the pick, None when the answer could not be read. `response` is the
    underlying answer where one was generated.
    """

    choices: tuple[str, ...]
    probabilities: tuple[float, ...]
    choice: int | None
    protocol: Protocol
    response: Response | None = None

    @property
    def text(self) -> str:
        """The picked choice, "" when none could be read."""
        return "" if self.choice is None else self.choices[self.choice]


@dataclass(frozen=True)
class Score:
    """Verdict on one answer, with its evidence."""

    value: float
    """In [0, 1]; NaN when the answer could not be judged."""
    answer: str | None = None
    """What was read out of the text."""
    explanation: str | None = None
    """Why, for the person reading the table."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further numbers for the same answer, by the field's names (acc_norm, mc2, rougeL_acc, ...)."""
    parsed: bool = True
    """False when no answer could be read out of the text: counted as unparsable."""


@dataclass(frozen=True)
class Sample:
    """One item of a benchmark or suite.

    Attributes:
        input: the question: text, or a conversation.
        target: the right answer, several acceptable ones, or for multiple choice the index of the right choice.
        id: unique within its benchmark; made from the content when left empty.
        choices: the options of a multiple-choice question.
        metadata: everything else the benchmark needs or a reader wants to group by.
        scorer: overrules the suite's scorer for this item.
        tags: labels for coverage tables.
        cluster: items with the same cluster are not independent (same passage, subject, template family).
    """

    input: str | tuple[Message, ...]
    target: str | int | tuple[str, ...] | None = None
    id: str = ""
    choices: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scorer: Scorer | None = None
    tags: tuple[str, ...] = ()
    cluster: str = ""

    def __post_init__(self) -> None:
        target: Any = self.target  # rows read from JSON have lists
        if isinstance(target, list):
            object.__setattr__(self, "target", tuple(target))
        if not self.id:
            content = self.input if isinstance(self.input, str) else [asdict(m) for m in self.input]
            object.__setattr__(self, "id", digest(content, self.target, self.choices))


Scorer: TypeAlias = Callable[[str, Sample], Score]
Call: TypeAlias = Callable[[Request], Response]
Interceptor: TypeAlias = Callable[[Request, Call], Response]
