"""Knobs that nobody but the space file declares."""

from typing import Any

import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.space import Space, own_knobs, read_space


def read(search: dict[str, Any], fixed: dict[str, Any] | None = None) -> Space:
    fixed = fixed or {}
    return read_space(search, fixed, own_knobs(search, fixed, (), "a.toml"), where="a.toml")


def defaults(search: dict[str, Any], fixed: dict[str, Any] | None = None) -> dict[str, Any]:
    space = read(search, fixed)
    return space.settings(space.decode(space.starts[0]))


def test_a_range_is_whole_where_both_ends_are_and_begins_in_its_middle() -> None:
    assert defaults({"units": {"low": 10, "high": 30}}) == {"units": 20}
    assert defaults({"x": {"low": 1, "high": 3.0}}) == {"x": 2.0}
    assert defaults({"lr": {"low": 1e-4, "high": 1e-2, "log": True}}) == {"lr": 1e-3}
    kinds = {c.name: c.knob.kind for c in read({"n": {"low": 1, "high": 2}}).coordinates}
    assert kinds == {"n": "int"}
    assert defaults({"n": {"low": 0, "high": 10, "default": 2}}) == {"n": 2}


def test_a_list_of_numbers_is_ordered_and_any_other_is_of_labels() -> None:
    space = read({"size": [64, 16, 32], "kind": ["b", "a"], "flag": [True, False]})
    kinds = {c.name: (c.knob.kind, c.knob.choices) for c in space.coordinates}
    assert kinds["size"] == ("ordered", (16, 32, 64))
    assert kinds["kind"] == ("categorical", ("b", "a"))
    assert kinds["flag"] == ("categorical", (True, False))
    assert space.settings(space.decode(space.starts[0])) == {
        "size": 64,
        "kind": "b",
        "flag": True,
    }


def test_ordered_says_otherwise() -> None:
    kinds = {
        c.name: c.knob.kind
        for c in read(
            {
                "size": {"choices": ["small", "large"], "ordered": True},
                "code": {"choices": [3, 1, 2], "ordered": False},
            }
        ).coordinates
    }
    assert kinds == {"size": "ordered", "code": "categorical"}


def test_a_condition_among_own_knobs_holds() -> None:
    when = {"x": {"low": 0.0, "high": 1.0, "when": {"kind": ["b"]}}, "kind": ["a", "b"]}
    assert defaults(when) == {"kind": "a"}
    assert read(when).settings({"kind": "b", "x": 0.5}) == {"kind": "b", "x": 0.5}


def test_one_value_for_each_layer_where_layers_are_a_whole_number() -> None:
    per = {"low": 0.0, "high": 1.0, "per": "layer"}
    assert defaults({"x": per}, {"layers": 3}) == {"layers": 3, "x": [0.5, 0.5, 0.5]}
    with pytest.raises(ConfigurationError, match="needs layers to have a value always"):
        read({"x": per})
    with pytest.raises(ConfigurationError, match='layers is "many", and x has one value for each'):
        read({"x": per, "layers": ["many", "few"]})


def test_the_order_of_the_file_changes_no_coordinate() -> None:
    search = {"b": [1, 2], "a": {"low": 0.0, "high": 1.0}, "c": ["x", "y"]}
    backwards = dict(reversed(search.items()))
    assert read(search).names == read(backwards).names


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"x": {}}, "search.x has no low; state it"),
        ({"x": 3}, r"search.x is 3; expected a list of choices or a table"),
        ({"x": [[1], [2]]}, r"search.x\[0\] is \[1\]; expected a number, text, true or false"),
        ({"x": ["a"]}, 'has one choice alone, "a"; fix it under'),
        (
            {"x": {"low": 0, "high": 10, "default": 2.5}},
            "search.x.default is 2.5; expected a whole number",
        ),
        ({"x": {"low": 2, "high": 1}}, "is empty: low = 2 is above high = 1"),
        ({"x": {"choices": [1, 2], "ordered": 3}}, "ordered is 3; expected true or false"),
        ({"x.y": [1, 2]}, "has a dot in its name"),
        ({"x": [float("nan"), 1]}, r"x\[0\] is nan; expected a finite number$"),
        ({"x": [1, float("inf")]}, r"x\[1\] is inf; expected a finite number$"),
        (
            {"x": {"low": -1e308, "high": 1e308}},
            r"x.low is -1e\+308; expected a finite number, no further from 0 than 1e\+300",
        ),
        (
            {"x": {"low": 0, "high": 2**63}},
            "x.high is 9223372036854775808; expected a whole number, no further from 0 than 1,099",
        ),
        ({"x": {"lo": 1, "high": 2}}, 'search.x.lo is not a key of a knob; did you mean "low"'),
    ],
)
def test_what_no_knob_can_be_is_one_sentence(search: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        read(search)


def test_a_fixed_setting_is_a_scalar() -> None:
    fixed = {"n": 3, "x": 0.5, "kind": "a", "flag": True}
    assert defaults({"y": [1, 2]}, fixed) == {**fixed, "y": 1}
    with pytest.raises(ConfigurationError, match=r"model\.z is a table; expected a number"):
        read({"y": [1, 2]}, {"z": {"a": 1}})
