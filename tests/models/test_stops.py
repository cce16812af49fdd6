from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmlab.models.stops import cut, until

TEXT = st.text(alphabet="ab\n", max_size=12)


@given(st.lists(TEXT), st.lists(TEXT, max_size=3).map(tuple))
def test_pieces_end_where_the_whole_text_would(pieces: list[str], stop: tuple[str, ...]) -> None:
    assert "".join(until(pieces, stop)) == cut("".join(pieces), stop)


def test_without_stop_sequences_pieces_pass_as_they_are() -> None:
    assert list(until(["a", "b"], None)) == ["a", "b"]


def test_what_follows_the_stop_is_read_to_the_end() -> None:
    pieces = iter(["one STOP", " two", " three"])
    assert list(until(pieces, ("STOP",))) == ["one "]
    assert list(pieces) == []


def test_a_piece_is_held_back_only_as_long_as_it_may_begin_a_stop() -> None:
    emitted = until(iter(["abcdef", "ghi"]), ("XYZ",))
    assert next(emitted) == "abcd"
