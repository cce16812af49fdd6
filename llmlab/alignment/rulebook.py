"""Keyword and regex rules from YAML: found in disguise, in bounded time, and in streams without showing a match.

Rules see the folded text (`llmlab.alignment.spelling`): lower case, without look-alikes and invisible characters.
Keywords are found as whole words, also in leet spelling (`st3al`) and with their letters apart (`s t e a l`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from llmlab import settings
from llmlab.alignment.spelling import decoded, fold
from llmlab.errors import DataError, InterceptorFailed, MissingPackage, UnknownName
from llmlab.types import digest

Action: TypeAlias = Literal["block", "suspect", "flag"]
SECONDS = 0.1
"""How long one rule may search one text: a regular expression can take exponential time."""
CONTEXT = 64
"""Characters before a piece of a stream that its rules can look back on."""
_LEET = {c[0]: c for c in ("a4@", "b8", "e3", "g9", "i1!", "l1", "o0", "s5$", "t7", "z2")}
_APART = r"[\W_]{1,3}"


class Rule(BaseModel):
    """One rule. It needs keywords or patterns.

    action: "block" decides; "suspect" leaves the decision to the classifier or judge behind the rules, and blocks when
    there is none; "flag" only leaves a note. unless: phrases in which a match means nothing ("kill time").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    about: str = ""
    side: Literal["input", "output", "both"] = "both"
    action: Action = "block"
    keywords: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    @field_validator("keywords", "patterns", "unless")
    @classmethod
    def _not_empty(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(text.strip() for text in texts):
            raise ValueError("an empty text would be found everywhere")
        return texts


class Hit(NamedTuple):
    """A place where a rule was found; start and end count folded characters."""

    rule: str
    action: Action
    start: int
    end: int
    about: str = ""

    def __str__(self) -> str:
        return f"rule {self.rule!r}{self.about and f' ({self.about})'}"


class Seen(NamedTuple):
    """What is known of a text that may go on: hits that are sure, and the place from which a match may still come."""

    hits: list[Hit]
    open_from: int


@dataclass(frozen=True)
class _Compiled:
    rule: Rule
    match: Any
    begun: Any
    unless: Any


class Rules:
    """Compiled rules. Made by `rules`."""

    def __init__(self, given: tuple[Rule, ...], where: str = "rules") -> None:
        self.given = given
        self.where = where
        self._sides = {
            side: tuple(_compile(rule, where) for rule in given if rule.side in (side, "both"))
            for side in ("input", "output")
        }
        together = {side: _any_of([one.rule for one in compiled]) for side, compiled in self._sides.items()}
        self._any = {side: _regex().compile(pattern, _regex().VERSION1) for side, pattern in together.items()}
        self._any_begun = {side: _begun(pattern) for side, pattern in together.items()}

    def find(self, text: str, side: Literal["input", "output"]) -> list[Hit]:
        """Every hit in a whole text; on the input side also in what it hides by Base64, ROT13 or hexadecimal digits.

        Raises:
            InterceptorFailed: when a rule needs more than `SECONDS`: what was not searched must not pass.
        """
        texts = [text, *(decoded(text) if side == "input" else ())]
        return [hit for one in texts for hit in self.find_plain(one, side)]

    def find_plain(self, text: str, side: Literal["input", "output"]) -> list[Hit]:
        """Every hit in a whole text as it reads."""
        return self.look(fold(text), side, final=True).hits

    @property
    def streams(self) -> bool:
        """Whether a stream can be checked as it comes: a pattern that looks ahead needs all of the text."""
        return not any("(?=" in p or "(?!" in p for rule in self.given if rule.side != "input" for p in rule.patterns)

    def look(self, folded: str, side: Literal["input", "output"], start: int = 0, final: bool = False) -> Seen:
        """Search folded text from `start`; `final` says that nothing follows.

        Without it a match that reaches the end, or that could begin before it, is open: more text decides.
        """
        # one search for all rules says mostly that there is nothing
        first = self._search(self._any[side], folded, start, "all rules", partial=not final)
        if first is None or first.start() == len(folded):  # at the end anything could begin, and nothing has
            return Seen([], len(folded))
        place = first.start()
        if not first.partial and not final:  # another may have begun before the one that is whole
            begun = self._search(self._any_begun[side], folded, start, "all rules", partial=True)
            place = min(place, begun.start() if begun is not None else place)
        found = [self._look(one, folded, place, final) for one in self._sides[side]]
        return Seen([h for seen in found for h in seen.hits], min((s.open_from for s in found), default=len(folded)))

    def _look(self, one: _Compiled, folded: str, start: int, final: bool) -> Seen:
        hits, open_from = [], len(folded)
        for match in self._matches(one, folded, start):
            open_end = not final and match.end() == len(folded)
            excused = self._excused(one, folded, match.start(), match.end(), final)
            if open_end or excused is None:
                open_from = min(open_from, match.start())
            elif not excused:
                hits.append(Hit(one.rule.id, one.rule.action, match.start(), match.end(), one.rule.about))
        if not final:
            begun = self._search(one.begun, folded, start, one.rule.id, partial=True)
            open_from = min(open_from, begun.start() if begun is not None else open_from)
        return Seen(hits, open_from)

    def _excused(self, one: _Compiled, folded: str, start: int, end: int, final: bool) -> bool | None:
        """Whether the match lies in a phrase of `unless`; None when more text decides."""
        if one.unless is None:
            return False
        place = max(0, start - CONTEXT)
        while (match := self._search(one.unless, folded, place, one.rule.id, partial=not final)) is not None:
            if match.start() > start:
                return False
            if match.partial:
                return None
            if match.end() >= end:
                return True
            place = match.start() + 1
        return False

    def _matches(self, one: _Compiled, folded: str, start: int) -> Iterator[Any]:
        try:
            yield from one.match.finditer(folded, start, timeout=SECONDS)
        except TimeoutError as error:
            raise _too_slow(one.rule.id, self.where, folded) from error

    def _search(self, pattern: Any, folded: str, start: int, name: str, partial: bool = False) -> Any:
        try:
            return pattern.search(folded, start, partial=partial, timeout=SECONDS)
        except TimeoutError as error:
            raise _too_slow(name, self.where, folded) from error

    def identity(self) -> Any:
        """What its verdicts depend on."""
        return digest([rule.model_dump() for rule in self.given])

    def __repr__(self) -> str:
        return f"{len(self.given)} rules of {self.where}"


def rules(given: str | os.PathLike[str] | Mapping[str, Any] | Rules | None = None) -> Rules:
    """Rules from a YAML file (`rules:` above a list of `Rule` fields), or from the same as a dict.

    None takes the rules that come with the library, `configs/guard.yaml`: a few examples in plain English and the words
    of the embedded world. They are a start for rules of your own, and no protection.

    Raises:
        DataError: for a file that is no such YAML, a duplicate id, a rule without keywords and patterns, or a pattern
            that is no regular expression.
        UnknownName: for a key that does not exist, with the known ones.
    """
    if isinstance(given, Rules):
        return given
    if isinstance(given, Mapping):
        return _checked(given, "rules")
    path = settings.file_or_shipped("configs/guard.yaml" if given is None else given)
    return _checked(_read(path), os.fspath(path) if given is not None else "configs/guard.yaml")


def _read(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise DataError(f"{path}{f':{mark.line + 1}' if mark else ''}: not YAML ({error})") from None


def _checked(loaded: Any, where: str) -> Rules:
    if not isinstance(loaded, Mapping) or not isinstance(loaded.get("rules"), list):
        raise DataError(f"{where}: should be a mapping with a list under 'rules'")
    for key in loaded:
        if key != "rules":
            raise UnknownName.among(f"key of {where}", key, ["rules"])
    made: dict[str, Rule] = {}
    for number, row in enumerate(loaded["rules"], 1):
        rule = _rule(row, f"{where}, rule {number}")
        if rule.id in made:
            raise DataError(f"{where}, rule {number}: id {rule.id!r} is already used; ids are unique")
        made[rule.id] = rule
    return Rules(tuple(made.values()), where)


def _rule(row: Any, where: str) -> Rule:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: should be a mapping of {', '.join(Rule.model_fields)}; it is {type(row).__name__}")
    for key in row:
        if key not in Rule.model_fields:
            raise UnknownName.among(f"key of a rule ({where})", key, Rule.model_fields)
    try:
        rule = Rule.model_validate(dict(row))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: {at}: {first['msg']} (got {first['input']!r:.60})") from None
    if not rule.keywords and not rule.patterns:
        raise DataError(f"{where}: rule {rule.id!r} needs keywords or patterns")
    return rule


def _compile(rule: Rule, where: str) -> _Compiled:
    regex = _regex()
    for pattern in rule.patterns:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise DataError(f"{where}: rule {rule.id!r}: pattern {pattern!r}: {error}") from None
    unless = regex.compile("|".join(map(_phrase, rule.unless))) if rule.unless else None
    pattern = _either(["|".join("".join(parts) for word in rule.keywords for parts in _spellings(word))], rule.patterns)
    return _Compiled(rule, regex.compile(pattern, regex.VERSION1), _begun(pattern), unless)


def _any_of(given: Sequence[Rule]) -> str:
    """One pattern that begins where the first of any rules begins, and may end elsewhere."""
    keywords = _tree([parts for rule in given for word in rule.keywords for parts in _spellings(word)])
    return _either([keywords], [pattern for rule in given for pattern in rule.patterns])


def _begun(pattern: str) -> Any:
    """Finds, in a partial search, the first place from which more text could make a match.

    A search that may also match as a whole prefers any whole match to an earlier one that has only begun; what has to
    go on by a character and then fails can only begin.
    """
    return _regex().compile(rf"(?:{pattern})(?s:.)(?!)", _regex().VERSION1)


def _either(keywords: Sequence[str], patterns: Sequence[str]) -> str:
    r"""One pattern for all. The keywords share their boundaries, which are checked first and mostly fail.

    Each alternative numbers its groups from 1 (?|…), so that a \1 means what it meant when it stood alone.
    """
    parts = [rf"(?<![^\W_])(?:{keyword})(?![^\W_])" for keyword in keywords if keyword]
    parts += [f"(?:{pattern})" for pattern in patterns]
    return f"(?|{'|'.join(parts)})" if parts else "(?!)"  # which never matches: there are no rules for this side


def _tree(spellings: Sequence[Sequence[str]]) -> str:
    """A pattern for all spellings, in which equal beginnings are tried once."""
    branches: dict[str, list[Sequence[str]]] = {}
    for parts in spellings:
        branches.setdefault(parts[0] if parts else "", []).append(parts[1:])
    found = [head + _tree(rest) if head else "" for head, rest in branches.items()]
    return f"(?:{'|'.join(found)})" if len(found) > 1 else "".join(found)


def _spellings(keyword: str) -> list[list[str]]:
    """A whole word or phrase, in plain or leet letters, together or all of them apart; each as its parts."""
    words = [[_letter(c) for c in word] for word in fold(keyword).split()]
    together = _joined(words, r"\s+")
    if all(len(word) == 1 for word in words):
        return [together]
    return [together, _joined([_joined([[c] for c in word], _APART) for word in words], r"[\W_]{1,5}")]


def _joined(parts: Sequence[Sequence[str]], separator: str) -> list[str]:
    return [piece for i, part in enumerate(parts) for piece in ([separator, *part] if i else part)]


def _letter(letter: str) -> str:
    escaped: str = _regex().escape(_LEET.get(letter, letter))
    return f"[{escaped}]" if letter in _LEET else escaped


def _phrase(phrase: str) -> str:
    return r"\s+".join(map(_regex().escape, fold(phrase).split()))


def _regex() -> Any:
    try:
        import regex  # type: ignore[import-untyped]  # ships no types
    except ModuleNotFoundError as error:
        raise MissingPackage("rules need the package 'regex': pip install 'llmlab[guard]'") from error
    return regex


def _too_slow(name: str, where: str, text: str) -> InterceptorFailed:
    return InterceptorFailed(
        f"{name} of {where} took more than {SECONDS} s on {len(text)} characters; nested repeats such as (a+)+ "
        "do that: write the pattern so that it can match in one way only"
    )
