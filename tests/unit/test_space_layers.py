"""Knobs that act under conditions, and knobs that differ between layers and heads."""

from typing import Any

import numpy as np
import pytest

from pso_attn.errors import ConfigurationError, ConstraintError
from pso_attn.space import Knob, Space, read_space

LABELS = ("softmax", "linear")
KNOBS = {
    knob.name: knob
    for knob in (
        Knob("mechanism", "categorical", "", choices=LABELS, default="softmax",
             per=("model", "layer")),
        Knob("layers", "int", "", low=1, high=3, minimum=1, default=2),
        Knob("heads", "ordered", "", choices=(1, 2, 4), minimum=1, default=2,
             per=("model", "layer")),
        Knob("kv_heads", "ordered", "", choices=(1, 2, 4), minimum=1, divides="heads",
             per=("model", "layer")),
        Knob("temperature", "float", "", low=0.25, high=4.0, log=True, default=1.0, neutral=1.0,
             when={"mechanism": ("softmax",)}, per=("model", "layer", "head")),
        Knob("window", "int", "", low=1, high=9, default=5, when={"mechanism": ("softmax",)},
             per=("model", "layer")),
        Knob("causal", "bool", "", default=True, when={"window": (1, 2, 3, 4, 5)}),
    )
}  # fmt: skip


def read(search: dict[str, Any], fixed: dict[str, Any] | None = None, **rest: Any) -> Space:
    return read_space(search, fixed or {}, KNOBS, where="a.toml", **rest)


def settings(space: Space, **params: Any) -> dict[str, Any]:
    flat = {name.replace("__", "."): value for name, value in params.items()}
    return space.settings(space.decode(space.encode(flat)))


def test_a_knob_acts_only_under_its_condition() -> None:
    space = read({"window": {}, "mechanism": {}})
    assert space.names == ("mechanism", "window")  # what conditions others comes first
    acting = space.encode({"mechanism": "softmax", "window": 7})
    idle = space.encode({"mechanism": "linear", "window": 7})
    assert space.decode(acting) == {"mechanism": "softmax", "window": 7}
    assert space.decode(idle) == {"mechanism": "linear"}
    assert space.active(idle).tolist() == [True, False]
    assert "window" not in space.settings(space.decode(idle))


def test_conditions_of_conditions_count_too() -> None:
    space = read({"causal": {}, "window": {}, "mechanism": {}})
    assert space.names == ("mechanism", "window", "causal")
    assert settings(space, mechanism="softmax", window=5)["causal"] is True
    assert "causal" not in settings(space, mechanism="softmax", window=6)
    assert "causal" not in settings(space, mechanism="linear", window=5)


def test_conditions_that_layers_meet_by_themselves_are_seen_in_many_positions() -> None:
    space = read(
        {"mechanism": {"per": "layer"}, "window": {"per": "layer"}, "causal": {}, "layers": {}}
    )
    positions = space.snap(np.random.default_rng(0).random((300, space.dimension)))
    acting = space.all_active(positions)
    np.testing.assert_array_equal(acting, [space.active(position) for position in positions])
    assert 0 < acting[:, space.names.index("causal")].sum() < 300


def test_a_condition_on_what_is_fixed_is_settled_at_once() -> None:
    space = read({"window": {}}, {"mechanism": "softmax"})
    assert space.coordinates[0].when == {}


def test_a_condition_of_the_file_joins_the_declared_one() -> None:
    space = read({"window": {"when": {"layers": 3}}, "mechanism": {}, "layers": {}})
    window = next(c for c in space.coordinates if c.name == "window")
    assert window.when == {"mechanism": ("softmax",), "layers": (3,)}
    assert "window" in settings(space, layers=3)
    assert "window" not in settings(space, layers=2)
    assert "window" not in settings(space, layers=3, mechanism="linear")


def test_the_default_of_an_unmentioned_knob_follows_its_condition() -> None:
    space = read({"mechanism": {}})
    assert settings(space, mechanism="softmax")["window"] == 5
    assert "window" not in settings(space, mechanism="linear")
    assert "temperature" not in settings(read({"layers": {}}, {"mechanism": "linear"}))


def test_a_knob_per_layer_has_a_coordinate_for_each_layer_it_may_reach() -> None:
    space = read({"temperature": {"per": "layer"}, "layers": {}})
    assert space.names == ("layers", "temperature.0", "temperature.1", "temperature.2")
    params = space.decode(space.encode({"layers": 2, "temperature.1": 2.0, "temperature.2": 3.0}))
    assert params == {"layers": 2, "temperature.0": 1.0, "temperature.1": 2.0}
    assert space.settings(params)["temperature"] == [1.0, 2.0]


def test_a_knob_per_head_nests_by_layer_and_head() -> None:
    space = read({"temperature": {"per": "head"}, "heads": [1, 2], "layers": {"high": 2}})
    assert set(space.names[:2]) == {"heads", "layers"}
    assert space.names[2:] == (
        "temperature.0.0", "temperature.0.1", "temperature.1.0", "temperature.1.1",
    )  # fmt: skip
    two = settings(space, heads=2, layers=2, temperature__1__0=2.0)
    assert two["temperature"] == [[1.0, 1.0], [2.0, 1.0]]
    assert settings(space, heads=1, layers=2)["temperature"] == [[1.0], [1.0]]


def test_heads_that_differ_between_layers_give_rows_of_different_length() -> None:
    space = read({"temperature": {"per": "head"}, "heads": {"per": "layer"}})
    ragged = settings(space, heads__0=1, heads__1=2)
    assert ragged["heads"] == [1, 2]
    assert ragged["temperature"] == [[1.0], [1.0, 1.0]]


def test_a_condition_holds_in_each_layer_by_itself() -> None:
    space = read({"mechanism": {"per": "layer"}, "window": {"per": "layer"}, "causal": {}})
    mixed = {"mechanism.0": "linear", "mechanism.1": "softmax", "window.0": 9, "window.1": 3}
    params = space.decode(space.encode(mixed))
    assert "window.0" not in params
    assert params["window.1"] == 3
    both = space.settings(params)
    assert both["window"] == [None, 3]  # a list keeps one entry for each layer
    assert both["causal"] is True  # where any layer meets its conditions
    none = settings(space, mechanism__0="linear", mechanism__1="linear")
    assert "window" not in none
    assert "causal" not in none


def test_a_knob_of_the_whole_model_acts_where_any_layer_meets_its_condition() -> None:
    space = read({"window": {}}, {"mechanism": ["linear", "softmax"]})
    assert settings(space)["window"] == 5
    assert settings(space)["mechanism"] == ["linear", "softmax"]
    layered = read({"window": {"per": "layer"}}, {"mechanism": ["linear", "softmax"]})
    assert settings(layered)["window"] == [None, 5]


def test_a_start_gives_a_knob_per_layer_as_one_value_or_a_list_or_by_its_flat_name() -> None:
    space = read(
        {"temperature": {"per": "head"}, "layers": {}},
        starts=[
            {"temperature": 2.0},
            {"temperature": [2.0, 3.0]},
            {"layers": 1, "temperature": [[2.0, 3.0]]},
            {"temperature.1.0": 2.0},
        ],
    )
    found = [space.settings(space.decode(start))["temperature"] for start in space.starts[1:]]
    assert found == [
        [[2.0, 2.0], [2.0, 2.0]],
        [[2.0, 2.0], [3.0, 3.0]],
        [[2.0, 3.0]],
        [[1.0, 1.0], [2.0, 1.0]],
    ]


def test_expressions_see_lists_of_the_layers_that_are_there() -> None:
    space = read(
        {"temperature": {"per": "layer"}, "layers": {}}, constraints=["len(temperature) < 3"]
    )
    assert space.violations(space.decode(space.encode({"layers": 2}))) == {}
    three = space.decode(space.encode({"layers": 3}))
    assert space.violations(three) == {"len(temperature) < 3": 1e-9}


def test_expressions_see_the_default_of_a_knob_that_does_not_act() -> None:
    space = read({"window": {"default": 3}, "mechanism": {}}, constraints=["window <= 4"])
    idle = space.decode(space.encode({"mechanism": "linear", "window": 9}))
    assert space.violations(idle) == {}
    assert space.violations({"mechanism": "softmax", "window": 9}) == {"window <= 4": 5.0}


def test_a_bare_list_in_a_comparison_is_refused_at_once() -> None:
    with pytest.raises(ConstraintError, match=r"a\.toml: .* min\(\), max\(\) or all\(\)"):
        read({"temperature": {"per": "layer"}}, constraints=["temperature < 2"])


def test_divisors_are_lowered_in_each_layer() -> None:
    space = read({"heads": {"per": "layer"}, "kv_heads": {"per": "layer"}})
    wanted = {"heads.0": 2, "heads.1": 4, "kv_heads.0": 4, "kv_heads.1": 4}
    repaired = space.repair(space.encode(wanted), 0, 0, 0)
    assert space.settings(repaired.params)["kv_heads"] == [2, 4]
    assert not repaired.violations


def test_one_divisor_for_all_layers_divides_the_heads_of_each() -> None:
    space = read({"kv_heads": {}}, {"heads": [2, 4]})
    repaired = space.repair(space.encode({"kv_heads": 4}), 0, 0, 0)
    assert repaired.params == {"kv_heads": 2}


def test_encoding_an_unknown_name_or_value_is_refused() -> None:
    space = read({"heads": {}, "temperature": {}})
    with pytest.raises(ConfigurationError, match=r'heds is not searched; did you mean "heads"'):
        space.encode({"heds": 2})
    with pytest.raises(ConfigurationError, match=r"heads is 3, .* nearest in its range is 2"):
        space.encode({"heads": 3})
    with pytest.raises(ConfigurationError, match=r'temperature is "a", .* expected a number'):
        space.encode({"temperature": "a"})


def test_positions_outside_the_cube_count_as_its_border() -> None:
    space = read({"heads": {}, "temperature": {}})
    assert space.decode(np.array([-0.2, 1.3])) == {"heads": 1, "temperature": 4.0}
    assert space.snap(np.array([-0.2, 1.3]))[0] == pytest.approx(1 / 6)
