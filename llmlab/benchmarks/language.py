"""Sentences, words in capitals, and the language of a text, counted as IFEval's authors count them.

They use nltk (with its punkt data) and langdetect. nltk's data is a download of its own: without it sentences are split
by `split_sentences`, and `sentence_rule` says so, so that the number can be marked.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from llmlab.errors import MissingPackage

_INSTALL = "pip install 'llmlab[ifeval]', or nltk and langdetect"
_END = re.compile(r"""(\S*?)([.?!]+)["'”’)\]}*]*(\s+)(?=(\w*|\S))""")
# after these a full stop ends no sentence; only those that punkt knows, for which "e.g." does
_TITLES = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "gen", "col", "lt", "sen", "rep", "st", "vs", "v", "jan", "feb", "aug", "sep",
    "sept", "oct", "nov", "dec",
})  # fmt: skip
# after these it does where the next word begins with a capital
_ABBREVIATIONS = frozenset({
    "inc", "ltd", "co", "corp", "jr", "sr", "bros", "u.s", "u.k", "u.n", "d.c", "a.m", "p.m", "ph.d",
})  # fmt: skip
# after a single capital letter, which is rather an initial, only these begin a sentence
_STARTERS = frozenset(
    {"a", "he", "how", "i", "if", "in", "it", "one", "she", "so", "the", "they", "this", "we", "what"}
)


def count_sentences(text: str) -> int:
    """Number of sentences, by punkt where its data is installed, else by `split_sentences`."""
    punkt = _punkt()
    return len(punkt.tokenize(text) if punkt is not None else split_sentences(text))


def count_capital_words(text: str) -> int:
    """Number of tokens all of whose letters are capitals; a contraction is two tokens, as in the Penn Treebank."""
    words = _word_tokenizer()
    punkt = _punkt()
    sentences = punkt.tokenize(text) if punkt is not None else split_sentences(text)
    return sum(token.isupper() for sentence in sentences for token in words.tokenize(sentence))


def sentence_rule() -> str:
    """What splits sentences here: "nltk punkt" or "a fallback rule"."""
    return "a fallback rule (nltk's punkt data is not installed)" if _punkt() is None else "nltk punkt"


def language(text: str) -> str | None:
    """ISO 639-1 code as langdetect finds it (zh-cn and zh-tw for Chinese), None where there is nothing to go by.

    langdetect samples; here it always starts from the same seed, so that a text always has the same language.
    """
    factory, nothing_found = _detectors()
    detector = factory.create()
    detector.seed = 0
    try:
        detector.append(text)
        return str(detector.detect())
    except nothing_found:
        return None


def need_packages() -> None:
    """Raise MissingPackage now rather than after the answers are paid for."""
    _word_tokenizer()
    _detectors()


def split_sentences(text: str) -> list[str]:
    """Sentences by their punctuation, with the commonest English abbreviations.

    >>> split_sentences('Dr. Wu left at 5 p.m. yesterday. "Why?" It rained...')
    ['Dr. Wu left at 5 p.m. yesterday.', '"Why?"', 'It rained...']
    """
    found, start = [], 0
    for match in _END.finditer(text):
        if _ends_sentence(match[1], match[2], match[4]):
            found.append(text[start : match.start(3)])
            start = match.end()
    return [sentence for sentence in (*found, text[start:]) if sentence.strip()]


def _ends_sentence(word: str, mark: str, following: str) -> bool:
    if "?" in mark or "!" in mark:
        return True
    word = word.lstrip("\"'“‘([{*_")
    if word.lower() in _TITLES:
        return False
    if len(word) == 1 and word.isupper() and word != "I":
        return following.lower() in _STARTERS
    if len(mark) > 1 or len(word) == 1 or word.isdigit() or word.lower() in _ABBREVIATIONS:
        return not following[:1].islower()
    return True


@cache
def _punkt() -> Any:
    from nltk.tokenize import PunktTokenizer

    try:
        return PunktTokenizer("english")
    except LookupError:
        return None


@cache
def _word_tokenizer() -> Any:
    try:
        from nltk.tokenize.destructive import NLTKWordTokenizer
    except ModuleNotFoundError as error:
        raise MissingPackage(f"counting sentences and words as IFEval does needs nltk: {_INSTALL}") from error
    return NLTKWordTokenizer()


@cache
def _detectors() -> tuple[Any, type[Exception]]:
    try:
        from langdetect import LangDetectException
        from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
    except ModuleNotFoundError as error:
        raise MissingPackage(f"the language checks of IFEval need langdetect: {_INSTALL}") from error
    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    return factory, LangDetectException
