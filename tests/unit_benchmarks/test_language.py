import pytest

from llmlab.benchmarks import language
from llmlab.benchmarks.language import count_capital_words, split_sentences


@pytest.fixture(params=["punkt", "fallback"])
def splitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of splitting where nltk's data is installed, else the fallback."""
    if request.param == "fallback":
        monkeypatch.setattr(language, "_punkt", lambda: None)
    elif language._punkt() is None:
        pytest.skip("nltk's punkt data is not installed")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("  \n ", 0),
        ("One", 1),
        ("One. Two! Three? Four", 4),
        ("It costs 3.50 at example.org today.", 1),
        ("Dr. Wu met Mr. Ode at 5 p.m. on Friday. They spoke.", 2),
        ('She asked: "Why?" He left.', 2),
        ("Wait... it moves. Good.", 2),
        ("J. R. Fox wrote it.", 1),
        ("First line\nsecond line", 1),
    ],
)
def test_sentences_are_counted(text: str, count: int, splitter: None) -> None:
    assert language.count_sentences(text) == count


def test_closing_quotation_marks_stay_with_their_sentence() -> None:
    assert split_sentences('He said "Go!" (And went.) So.') == ['He said "Go!"', "(And went.)", "So."]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("NASA and ESA met.", 2),
        ("DON'T", 2),  # DO, N'T
        ("Mr. X saw I. A B-C **BOLD** 42", 5),
        ("none here", 0),
    ],
)
def test_capital_words_are_tokens_of_the_treebank(text: str, count: int, splitter: None) -> None:
    assert count_capital_words(text) == count


def test_language_is_the_same_each_time_and_unknown_without_letters() -> None:
    assert language.language("Der Hafen ist am Abend sehr still.") == "de"
    mixed = "hello bonjour"
    assert len({language.language(mixed) for _ in range(20)}) == 1
    assert language.language("123 ...") is None


def test_fallback_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_punkt", lambda: None)
    assert language.sentence_rule().startswith("a fallback rule")
