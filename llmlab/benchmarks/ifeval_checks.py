"""The 25 instructions of IFEval that a program can check: one function each, in one table.

Each takes a response and the instruction's settings and says whether the instruction was followed. They follow the
wording of the paper's code as lm-evaluation-harness 0.4.13 runs it, its oddities included: keywords are patterns, a
highlighted section in double asterisks can count more than once, JSON may be any JSON value.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmlab.benchmarks.language import count_capital_words, count_sentences, language

_FEWER, _AT_LEAST = RELATIONS = ("less than", "at least")
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES = ("```json", "```Json", "```JSON", "```")
_POSTSCRIPTS = {"P.S.": r"\s*p\.\s?s\..*$", "P.P.S": r"\s*p\.\s?p\.\s?s.*$"}


def followed(instruction: str, settings: Mapping[str, Any], response: str) -> bool:
    """Whether a response follows an instruction; an empty one follows none."""
    return bool(response.strip()) and CHECKS[instruction](response, **settings)


def needed(instruction: str) -> tuple[str, ...]:
    """The names of an instruction's settings."""
    return tuple(inspect.signature(CHECKS[instruction]).parameters)[1:]


def _holds(count: int, relation: str, number: float) -> bool:
    return count < number if relation == _FEWER else count >= number


# -- words ---------------------------------------------------------------------------------------------------


def has_keywords(text: str, keywords: Sequence[str]) -> bool:
    """Every keyword is found, as a pattern, in any case."""
    return all(re.search(keyword, text, re.IGNORECASE) for keyword in keywords)


def keyword_frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword is found less often than, or at least, so many times; inside longer words too."""
    return _holds(len(re.findall(keyword.strip(), text, re.IGNORECASE)), relation, frequency)


def avoids_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words is there, as a whole word, in any case."""
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A letter is there less often than, or at least, so many times, in any case.

    Two published items ask for "#" and "!". lm-eval draws a random letter for them; here the character is counted.
    """
    return _holds(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


# -- language and case ---------------------------------------------------------------------------------------


def in_language(text: str, language: str) -> bool:
    """The whole text reads as the language of this ISO 639-1 code; a text without any language does too."""
    return _reads_as(text, language)


def english_capitals(text: str) -> bool:
    """English, and in capital letters."""
    return text.isupper() and _reads_as(text, "en")


def english_lowercase(text: str) -> bool:
    """English, and without a capital letter."""
    return text.islower() and _reads_as(text, "en")


def capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> bool:
    """So many words are in capitals."""
    return _holds(count_capital_words(text), capital_relation, capital_frequency)


def _reads_as(text: str, code: str) -> bool:
    return language(text) in (code, None)


# -- length --------------------------------------------------------------------------------------------------


def number_of_sentences(text: str, num_sentences: int, relation: str) -> bool:
    """So many sentences."""
    return _holds(count_sentences(text), relation, num_sentences)


def number_of_words(text: str, num_words: int, relation: str) -> bool:
    """So many runs of letters, digits and underscores."""
    return _holds(len(re.findall(r"\w+", text)), relation, num_words)


def number_of_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs between *** dividers; only the first and the last may be empty, and do not count."""
    paragraphs = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(paragraphs[1:-1]):
        return False
    return sum(map(bool, paragraphs)) == num_paragraphs


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs between blank lines, and one of them begins with a word.

    Empty paragraphs are not counted, and yet are not skipped when the one in question is looked up.
    """
    paragraphs = text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > count or count != num_paragraphs:
        return False
    paragraph = paragraphs[nth_paragraph - 1].strip()
    if not paragraph:
        return False
    word = paragraph.split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower() == first_word.lower()


# -- content and format --------------------------------------------------------------------------------------


def number_of_placeholders(text: str, num_placeholders: int) -> bool:
    """At least so many [placeholders]."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def has_postscript(text: str, postscript_marker: str) -> bool:
    """A postscript with this marker, anywhere."""
    marker = postscript_marker.strip()
    pattern = _POSTSCRIPTS.get(marker, rf"\s*{marker.lower()}.*$")
    return re.search(pattern, text.lower(), re.MULTILINE) is not None


def number_of_bullets(text: str, num_bullets: int) -> bool:
    """Exactly so many lines that begin with * or -."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def one_of_three_answers(text: str) -> bool:
    """One of the three given sentences is in it."""
    return any(option in text for option in _OPTIONS)


def number_of_highlights(text: str, num_highlights: int) -> bool:
    """At least so many *highlights* or **highlights** that are not empty."""
    single = [part.strip("*") for part in re.findall(r"\*[^\n\*]*\*", text)]
    double = [part[2:-2] for part in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(bool(part.strip()) for part in (*single, *double)) >= num_highlights


def number_of_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections that begin with a word and a number."""
    return len(re.split(rf"\s?{section_spliter.strip()}\s?\d+\s?", text)) - 1 >= num_sections


def is_json(text: str) -> bool:
    """JSON as a whole, a Markdown fence aside."""
    text = text.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    # deep nesting of brackets ends in the second
    except (ValueError, RecursionError):
        return False
    return True


def has_title(text: str) -> bool:
    """A <<title>> in one line that is not empty."""
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str) -> bool:
    """Two different responses, with six asterisks between them."""
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    answers = [part for part in parts if part]
    return len(answers) == 2 and answers[0] != answers[1]


def repeats_prompt(text: str, prompt_to_repeat: str) -> bool:
    """Begins with the request, in any case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(text: str, end_phrase: str) -> bool:
    """Ends with the phrase, in any case; closing quotation marks aside."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def is_quoted(text: str) -> bool:
    """Wrapped in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def has_no_comma(text: str) -> bool:
    """No comma at all."""
    return "," not in text


CHECKS: dict[str, Callable[..., bool]] = {
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capitals,
    "change_case:english_lowercase": english_lowercase,
    "combination:repeat_prompt": repeats_prompt,
    "combination:two_responses": two_responses,
    "detectable_content:number_placeholders": number_of_placeholders,
    "detectable_content:postscript": has_postscript,
    "detectable_format:constrained_response": one_of_three_answers,
    "detectable_format:json_format": is_json,
    "detectable_format:multiple_sections": number_of_sections,
    "detectable_format:number_bullet_lists": number_of_bullets,
    "detectable_format:number_highlighted_sections": number_of_highlights,
    "detectable_format:title": has_title,
    "keywords:existence": has_keywords,
    "keywords:forbidden_words": avoids_words,
    "keywords:frequency": keyword_frequency,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": in_language,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "length_constraints:number_paragraphs": number_of_paragraphs,
    "length_constraints:number_sentences": number_of_sentences,
    "length_constraints:number_words": number_of_words,
    "punctuation:no_comma": has_no_comma,
    "startend:end_checker": ends_with,
    "startend:quotation": is_quoted,
}
