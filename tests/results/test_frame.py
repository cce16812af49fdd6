"""Rows become one tidy table whose columns always have the same types."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from llmlab.errors import DataError
from llmlab.results import COLUMNS, Results
from llmlab.results.frame import tidy


def test_the_table_has_exactly_the_named_columns(row):
    assert list(tidy([row()]).columns) == list(COLUMNS)


def test_no_rows_make_an_empty_table_of_the_same_types(row):
    empty, one = tidy([]), tidy([row()])
    assert len(empty) == 0
    assert dict(empty.dtypes) == dict(one.dtypes)


def test_what_a_row_leaves_out_is_unknown(row):
    bare = tidy([{"model": "a", "benchmark": "b", "sample": "1", "score": 1}]).iloc[0]
    assert np.isnan(bare["cost"])
    assert np.isnan(bare["seconds"])
    assert pd.isna(bare["input_tokens"])
    assert bare["text"] == ""
    assert bare["metrics"] == {}
    assert bare["dropped"] == []
    assert bare["parsed"]
    assert not bare["truncated"]
    assert bare["error"] == ""
    assert bare["repeat"] == 0


def test_none_is_unknown_and_never_zero(row):
    frame = tidy([row(cost=None, input_tokens=None, answer=None, explanation=None, score=None, metrics=None)])
    assert frame["cost"].isna().all()
    assert frame["input_tokens"].isna().all()
    assert frame["score"].isna().all()
    assert frame.loc[0, "answer"] == ""
    assert frame.loc[0, "metrics"] == {}


def test_a_table_survives_the_round_trip(row, failed):
    once = tidy([row(), failed(sample="2"), row(sample="3", metrics={"mc2": 0.5})])
    pd.testing.assert_frame_equal(tidy(once), once)


def test_further_columns_are_kept(row):
    frame = tidy([row(answer_key="k1"), row(sample="2")])
    assert frame.columns[-1] == "answer_key"
    assert frame.loc[0, "answer_key"] == "k1"
    assert pd.isna(frame.loc[1, "answer_key"])


def test_missing_columns_are_named():
    with pytest.raises(DataError, match=r"these have no sample, score"):
        tidy([{"model": "a", "benchmark": "b"}])


def test_a_value_of_the_wrong_kind_is_named(row):
    with pytest.raises(DataError, match="column 'cost'"):
        tidy([row(cost="cheap")])


def test_half_a_surrogate_pair_is_replaced(row):
    assert tidy([row(text="ab\ud800c")]).loc[0, "text"] == "ab?c"


def test_any_text_is_kept_as_it_is(row):
    text = 'tab\t, quote ", 漢字, \u202eright to left, nul \x00, emoji 🙂\r\n'
    assert tidy([row(text=text)]).loc[0, "text"] == text


def test_numbers_as_ids_and_targets_become_text(row):
    frame = tidy([row(sample=7, target=3)])
    assert frame.loc[0, "sample"] == "7"
    assert frame.loc[0, "target"] == "3"


def test_rows_may_come_from_an_iterator(row):
    assert len(Results(row(sample=str(i)) for i in range(3))) == 3
