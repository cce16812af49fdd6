"""Recipes: what wins over what, and what is refused."""

from pathlib import Path

import pytest
import yaml

from llmlab.errors import DataError, UnknownName
from llmlab.finetune.config import METHODS, OBJECTIVES, Recipe, recipe
from llmlab.settings import shipped


def test_shipped_files_are_valid_for_every_size_method_and_objective() -> None:
    for method in METHODS:
        for objective in OBJECTIVES:
            for parameters in (1e6, 135e6, 1.2e9, 7e9, 70e9, None):
                made = recipe(method, objective, parameters=parameters and int(parameters))
                assert (made.method, made.objective) == (method, objective)


def test_smaller_models_get_higher_rates() -> None:
    rates = [recipe(parameters=int(n)).learning_rate for n in (1e6, 135e6, 494e6, 1.2e9, 7e9)]
    assert rates == sorted(rates, reverse=True) and rates[0] > 5 * rates[-1]


def test_overrides_win_over_the_file_which_wins_over_what_is_shipped(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("method: qlora\nrank: 3\nlearning_rate: 5e-4\n")
    assert recipe().rank == 16
    made = recipe(config=own, learning_rate=1e-5)
    assert (made.method, made.rank, made.learning_rate) == ("qlora", 3, 1e-5)
    assert recipe("full", config=own).method == "full"


def test_a_shipped_file_keeps_its_place_below_the_objective() -> None:
    named = recipe(objective="dpo", config="configs/finetune/lora.yaml", parameters=10**6)
    assert named == recipe("lora", "dpo", parameters=10**6)
    assert named == recipe(objective="dpo", config=shipped("configs/finetune/lora.yaml"), parameters=10**6)


def test_own_sizes_pick_the_smallest_that_fits() -> None:
    sizes = {"100M": {"rank": 4}, "1B": {"rank": 8}}
    ranks = [recipe(config={"sizes": sizes}, parameters=n).rank for n in (10**6, 10**8, 10**9, 10**10)]
    assert ranks == [4, 4, 8, 16]


def test_unknown_key_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'learning_rat'. Did you mean 'learning_rate'\? Known: .*warmup"):
        recipe(learning_rat=1.0)
    own = tmp_path / "own.yaml"
    own.write_text("sizes:\n  1B: {ranks: 4}\n")
    with pytest.raises(UnknownName, match=r"own.yaml, sizes\) 'ranks'. Did you mean 'rank'"):
        recipe(config=own)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than 0, it is 0"),
        ({"rank": "many"}, "rank: Input should be a valid integer"),
        ({"patience": 2}, "patience counts evaluations: set evaluate_every"),
        ({"evaluate_every": 2, "validation": 0.0}, "needs held-out examples"),
        ({"objective": "grpo", "batch": 12}, "must be a multiple of group"),
    ],
)
def test_wrong_value_is_refused_with_its_field(fields: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        recipe(**fields)  # type: ignore[arg-type]


def test_unknown_method_objective_and_file_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"method 'loar'. Did you mean 'lora'"):
        recipe("loar")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="objective 'rlhf'"):
        recipe(objective="rlhf")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="Or the path of a YAML file"):
        recipe(config="nowhere.yaml")


def test_file_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("rank: [1\n")
    with pytest.raises(DataError, match=r"own.yaml: not YAML"):
        recipe(config=own)


def test_recipe_survives_its_own_record() -> None:
    made = recipe("qlora", "dpo", targets=["q_proj", "v_proj"])
    assert Recipe(**yaml.safe_load(yaml.safe_dump(made.model_dump(mode="json")))) == made
