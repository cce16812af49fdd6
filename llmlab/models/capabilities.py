"""Which options a model refuses: from `configs/models.yaml`, and from what the API has answered.

What is learned holds for this process, by model and URL. A refused option is left out, recorded in
`response.dropped`, and logged once per model as a warning of the logger `llmlab.models`.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import replace

from llmlab.settings import config
from llmlab.types import Options

log = logging.getLogger("llmlab.models")

DROPPABLE = frozenset({"temperature", "top_p", "top_k", "stop", "seed", "effort", "top_logprobs"})
"""Options that an answer can do without. A call whose `schema` or `max_tokens` is refused fails instead."""

_REFUSES = re.compile(
    r"unsupported|not support|unrecognized|unknown (?:name|field|parameter|argument)|not permitted|not allowed"
    r"|not enabled|deprecated|no longer|cannot (?:both )?be (?:set|specified|used)|only the default",
    re.IGNORECASE,
)


class Capabilities:
    """What one model at one URL refuses.

    Attributes:
        refused: names of options, and names of request fields that are not options of ours.
    """

    def __init__(self, name: str, api_version: str = "") -> None:
        self.name = name
        self.refused: set[str] = set(_listed(name, api_version))
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def accept(self, options: Options) -> tuple[Options, tuple[str, ...]]:
        """The options without those that are refused, and the names of these."""
        if not self.refused:
            return options, ()
        dropped = tuple(name for name in options.set() if name in self.refused and name in DROPPABLE)
        if not dropped:
            return options, ()
        for name in dropped:
            self._warn(name)
        return replace(options, **dict.fromkeys(dropped)), dropped

    def learn(self, name: str) -> bool:
        """Note that an option or field is refused; False when that was known already."""
        with self._lock:
            new = name not in self.refused
            self.refused.add(name)
        return new

    def _warn(self, option: str) -> None:
        with self._lock:
            if option in self._warned:
                return
            self._warned.add(option)
        log.warning("%s does not accept %s; it is left out (see response.dropped)", self.name, option)


def refused_option(words: str, field: str | None, fields: Mapping[str, str]) -> str | None:
    """Which of the request's fields an API's complaint refuses, None when it complains about something else.

    Args:
        words: the API's message.
        field: the field it names as the culprit, where its errors have one.
        fields: names of request fields -> what we call them.
    """
    if not _REFUSES.search(words):
        return None
    if field not in fields:
        field = next((f for f in fields if re.search(rf"(?<![\w.]){re.escape(f)}(?!\w)", words)), None)
    if field is None:
        return None
    # a wrong value of a parameter that has others to choose from is the caller's mistake
    if re.search(r"supported values are", words, re.IGNORECASE):
        return None
    return fields[field]


def supports(name: str, feature: str) -> bool:
    """Whether `configs/models.yaml` lists a feature ("decision", "letter_logprob") for a model."""
    return any(re.fullmatch(pattern, name) for pattern in config("models.yaml")["supports"].get(feature, ()))


def _listed(name: str, api_version: str) -> set[str]:
    rules = config("models.yaml")["refuses"]
    return {
        option
        for rule in rules
        if re.fullmatch(rule["models"], name) and api_version >= str(rule.get("since", ""))
        for option in rule["options"]
    }


_known: dict[tuple[str, str, str], Capabilities] = {}
_known_lock = threading.Lock()


def capabilities(name: str, base_url: str, api_version: str = "") -> Capabilities:
    """What is known in this process about a model at a URL."""
    with _known_lock:
        key = (name, base_url, api_version)
        if key not in _known:
            _known[key] = Capabilities(name, api_version)
        return _known[key]


def forget() -> None:
    """Start anew, as in a new process."""
    with _known_lock:
        _known.clear()
