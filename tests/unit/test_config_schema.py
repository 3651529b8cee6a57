from typing import Any

import pytest

from pso_attn.config import configuration_from
from pso_attn.errors import ConfigurationError


def read(**keys: Any) -> Any:
    return configuration_from({"task": "digits", **keys}, "a.toml")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"serch": {}}, 'a.toml: "serch" is not a key of a space file; did you mean "search"'),
        ({"budget": {"particels": 3}}, r'"budget\.particels" .* did you mean "particles"'),
        ({"constraints": {"expression": []}}, 'did you mean "expressions"'),
        ({"run": {"sead": 3}}, 'did you mean "seed"'),
        ({"search": [1]}, r'"search" is \[1\]; expected a table, \[search\]'),
        ({"start": {"heads": 8}}, r"expected a list of tables, \[\[start\]\]"),
        ({"task": 3}, '"task" is 3; expected text in quotes'),
        ({"task": ""}, '"task" is ""; expected text'),
        ({"objectives": "loss"}, "expected a list of text"),
        ({"objectives": ["loss", "flops"]}, "has 2 names; this version searches for exactly one"),
        ({"objectives": []}, "has 0 names"),
        ({"objective": "m:f"}, '"objective" stands in place of a task, and "task" is there'),
        ({"objective": "f"}, '"objective" is "f"; expected "module:function"'),
        ({"objective_batched": True}, '"objective_batched" is for an objective of your own'),
        ({"maximize": ["accuracy"]}, '"maximize" is for an objective of your own'),
        ({"model": {"family": "lsmt"}}, 'model.family is "lsmt"; did you mean "lstm"'),
        ({"model": {"family": "rnn"}}, "or a factory of your own as .module:factory"),
        ({"model": {"family": 3}}, "model.family is 3; choose one of lstm, transformer"),
        ({"search": {"family": ["lstm"]}}, r'"family" is in \[search\], and all particles are of'),
        ({"model": {"heads": 2}, "search": {"heads": [1]}}, "fixed in .* and varied in"),
        ({"target": 3}, '"target" is 3; expected text in quotes'),
        ({"split": "fold"}, r'"split" is "fold"; expected a table, \[split\]'),
        (
            {"forecast": {}},
            r"\[forecast\] is empty; say how many steps are forecast, as horizon =",
        ),
        ({"constraints": {"expressions": "a < 3"}}, "expected a list of text"),
        ({"constraints": {"expressions": [3]}}, "expected text in quotes"),
        ({"run": {"device": 3}}, r'"run\.device" is 3; expected text'),
        ({"run": {"seed": -1}}, "expected a whole number of at least 0"),
        ({"run": {"seed": 2**63}}, "expected a whole number"),
        ({"run": {"planned_generations": 0}}, "at least 1"),
    ],
)
def test_a_key_or_type_that_cannot_be_meant_is_one_sentence(
    keys: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        read(**keys)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"model": {"family": "transformer"}}, "and model.family names one as well"),
        ({"objective_batched": 1}, '"objective_batched" is 1; expected true or false'),
        ({"maximize": "loss"}, "expected a list of text"),
        ({"data": "a.csv"}, '"objective" stands in place of a task, and "data" is there'),
        (
            {"columns": {"patch": 2}},
            '"objective" stands in place of a task, and "columns" is there',
        ),
        ({"split": {"test": 0.3}}, '"objective" stands in place of a task, and "split" is there'),
    ],
)
def test_beside_an_objective_of_ones_own_stands_nothing_of_a_task(
    keys: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        configuration_from({"objective": "m:f", **keys}, "a.toml")


def test_a_document_with_an_objective_of_ones_own_reads_back_equal() -> None:
    own = {"objective": "m:f", "objective_batched": True, "maximize": ["loss"]}
    configuration = configuration_from({**own, "run": {"code": "/here"}}, "a.toml")
    assert configuration_from(configuration.document(), "config.toml") == configuration
    assert configuration.own_code == {"objective": "m:f"}


@pytest.mark.parametrize("name", ["particles", "batch", "generations", "steps", "seeds"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4", float("nan")])
def test_a_budget_that_is_no_positive_whole_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf'"budget\.{name}" is .* whole number'):
        read(budget={name: value})


def test_common_random_numbers_is_true_or_false() -> None:
    assert not read(budget={"common_random_numbers": False}).budget.common_random_numbers
    with pytest.raises(ConfigurationError, match="expected true or false"):
        read(budget={"common_random_numbers": 0})


def test_a_search_for_weights_has_no_random_numbers_but_common_ones() -> None:
    weights = {"mode": "weights"}
    assert read(weights=weights, budget={"common_random_numbers": True}).weights == weights
    with pytest.raises(ConfigurationError, match=r"common_random_numbers is false, and in a sear"):
        read(weights=weights, budget={"common_random_numbers": False})


def test_batch_is_the_swarm_by_default_and_never_more() -> None:
    assert read(budget={"particles": 5}).budget.batch == 5
    assert read(budget={"particles": 5, "batch": 1}).budget.batch == 1
    with pytest.raises(ConfigurationError, match=r"budget\.batch is 6, more than"):
        read(budget={"particles": 5, "batch": 6})


@pytest.mark.parametrize(
    ("given", "kept"),
    [([], (1.0,)), ([0.5], (0.5, 1.0)), ([0.2, 1], (0.2, 1.0)), ([1.0], (1.0,))],
)
def test_rungs_always_end_at_the_full_budget(given: list[float], kept: tuple[float, ...]) -> None:
    assert read(budget={"rungs": given}).budget.rungs == kept


@pytest.mark.parametrize(
    "given", [[0.5, 0.5], [0.5, 0.25], [0], [1.5], [float("nan")], ["a"], [True], 0.5]
)
def test_rungs_that_do_not_ascend_inside_the_budget_are_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"budget\.rungs"):
        read(budget={"rungs": given})


def test_a_task_is_made_with_the_keys_that_are_for_it() -> None:
    given = {"target": "price", "columns": {"drop": ["id"]}, "split": {"test": 0.1}}
    read_ = configuration_from({"task": "m:Mine", **given}, "a.toml")
    assert read_.task_options == given
    assert configuration_from(read_.document(), "a.toml") == read_


def test_a_missing_task_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r'a\.toml: "task" is missing'):
        configuration_from({}, "a.toml")
