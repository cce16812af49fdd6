import pandas as pd
import pytest

from llmlab.results.published import published
from llmlab.settings import config


def table(right: int, n: int, **changed: object) -> pd.DataFrame:
    entry = config("published.yaml")["scores"][0]
    row = {"model": entry["model"], "benchmark": entry["benchmark"], "protocol": "loglikelihood"} | changed
    scores = [1.0] * right + [0.0] * (n - right)
    return pd.DataFrame([row | {"score": s, "metrics": {entry["metric"]: s}} for s in scores])


@pytest.mark.parametrize(("right", "verdict"), [(206, "within its interval"), (300, "higher"), (100, "lower")])
def test_verdict_of_a_full_run(right: int, verdict: str) -> None:
    row = published(table(right, 1172)).iloc[0]
    assert (row.verdict, row.n, row.published) == (verdict, 1172, 0.1758)
    assert row.low < row.score < row.high


def test_other_protocols_and_models_are_not_compared() -> None:
    assert published(table(5, 10, protocol="generate")).empty
    assert published(table(5, 10, model="micro/base")).empty


def test_every_published_score_is_complete_and_has_a_source() -> None:
    for entry in config("published.yaml")["scores"]:
        assert set(entry) >= {"model", "benchmark", "metric", "value", "source"} and 0 <= entry["value"] <= 1
        assert entry["source"].startswith("https://")
