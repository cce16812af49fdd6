"""What clients may send. Types are strict, unknown fields are refused, and what is not supported says so."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from llmlab.types import Message

MOST_CHOICES = 16
MOST_PROMPTS = 128
# fields of OpenAI's that are taken only with a value that changes nothing
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": ([],),
    "logit_bias": ({},),
    "metadata": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}
_Text = Annotated[str, Field(min_length=1)]
_Id = Annotated[int, Field(ge=0, lt=1 << 31)]


def _one_of(what: str) -> WrapValidator:
    """For a field of several types: pydantic would say what each of them misses, and clients saw only the first."""

    def check(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValidationError:
            raise ValueError(f"should be {what}{_others(value)}") from None

    return WrapValidator(check)


def _others(value: Any) -> str:
    """What else than text is among the parts of a message."""
    parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
    kinds = sorted({repr(part["type"])[:40] for part in parts if part.get("type", "text") != "text"})
    return f"; this server does not take {', '.join(kinds)}" if kinds else ""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Request(_Body):
    @model_validator(mode="before")
    @classmethod
    def _text_is_text(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body  # refused by its type
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair is no text: send UTF-8, or both halves") from None
        return body


class StreamOptions(_Body):
    """What a stream has beside its pieces."""

    include_usage: bool = False


class Generation(_Request):
    """Fields of both endpoints."""

    model: str
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1, lt=1 << 31)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    stop: Annotated[
        _Text | Annotated[list[_Text], Field(max_length=16)] | None,
        _one_of("a text, or a list of at most 16, none of them empty"),
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    neutral: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        for name, harmless in _NEUTRAL.items():
            value = body.get(name)
            if value is not None and not any(value == h and type(value) in (type(h), float) for h in harmless):
                raise ValueError(f"{name} is not supported by this server: leave it out")
        return {name: value for name, value in body.items() if name not in _NEUTRAL}

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for stream=true")
        return self

    @property
    def stops(self) -> tuple[str, ...] | None:
        """Stop strings."""
        return None if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class TextPart(_Body):
    """A piece of a message; images and sound are not taken."""

    type: Literal["text"]
    text: str


class Turn(_Body):
    """A message. The tools' role is not taken."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        str | Annotated[list[TextPart], Field(min_length=1)],
        _one_of('text, or a list of {"type": "text", "text": …} with at least one; images and sound are not supported'),
    ]

    @property
    def message(self) -> Message:
        """The turn as the library knows it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, content)


class Schema(_Body):
    """A named JSON schema."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(_Body):
    """Form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None

    @model_validator(mode="after")
    def _schema_where_needed(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with type 'json_schema', and only with it")
        return self


class ChatBody(Generation):
    """`/v1/chat/completions`."""

    messages: list[Turn] = Field(min_length=1, max_length=4096)
    max_tokens: int | None = Field(None, ge=1, lt=1 << 31)
    max_completion_tokens: int | None = Field(None, ge=1, lt=1 << 31)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is for logprobs=true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens say different things: give one of them")
        return self

    @property
    def limit(self) -> int | None:
        """Tokens of the answer."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens


class CompletionBody(Generation):
    """`/v1/completions`: text, or token ids, to be continued."""

    prompt: Annotated[
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[_Id], Field(min_length=1)]
        | Annotated[list[Annotated[list[_Id], Field(min_length=1)]], Field(min_length=1, max_length=MOST_PROMPTS)],
        _one_of(
            f"a text, a list of token ids, or a list of 1 to {MOST_PROMPTS} of either, none of the ids' lists empty"
        ),
    ]
    max_tokens: int | None = Field(16, ge=0, lt=1 << 31)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens=0 is for echo=true")
        if self.echo and self.stream:
            raise ValueError("echo does not stream: leave one of echo and stream out")
        if len(self.prompts) * (self.n or 1) > MOST_PROMPTS:
            raise ValueError(f"prompts times n should be at most {MOST_PROMPTS}; send several requests")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt on its own."""
        given: Any = self.prompt
        if isinstance(given, str) or isinstance(given[0], int):
            return [given]
        return list(given)


class Feedback(_Request):
    """`/v1/feedback`: what came of an answer. The first word about a user or conversation counts."""

    id: str = Field(description="the id that came with the answer")
    value: Annotated[
        Annotated[float, Field(ge=0, le=1)] | dict[str, Annotated[float, Field(ge=0, le=1)]],
        _one_of("a number from 0 to 1, or an object with one for each metric"),
    ] = Field(description="the experiment's metric, higher is better; or a value for each of its metrics")
