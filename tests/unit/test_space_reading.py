"""Space files become spaces, or one sentence that says why not."""

import math
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from pso_attn.errors import ConfigurationError, ConstraintError
from pso_attn.space import Knob, Space, read_space

KNOBS = {
    knob.name: knob
    for knob in (
        Knob(
            "mechanism", "categorical", "", choices=("softmax", "linear", "low_rank"),
            default="softmax", per=("model", "layer"),
        ),
        Knob(
            "heads", "ordered", "", choices=(1, 2, 4, 8, 16), minimum=1, default=4,
            per=("model", "layer"),
        ),
        Knob("head_dim", "ordered", "", choices=(4, 8, 16), minimum=1),
        Knob("kv_heads", "ordered", "", choices=(1, 2, 4, 8), minimum=1, divides="heads"),
        Knob("layers", "int", "", low=1, high=4, minimum=1, default=2),
        Knob("d_model", "ordered", "", choices=(16, 32, 64), minimum=1, default=32),
        Knob("ratio", "ordered", "", choices=(1, 2, 4), minimum=0.25, default=4),
        Knob("size", "ordered", "", choices=("small", "medium", "large"), default="large"),
        Knob("causal", "bool", "", default=False),
        Knob(
            "lr", "float", "", low=1e-4, high=1e-2, log=True, minimum=0.0, maximum=1.0,
            default=3e-3,
        ),
        Knob(
            "temperature", "float", "", low=0.25, high=4.0, log=True, minimum=1e-3, maximum=1e3,
            default=1.0, neutral=1.0, when={"mechanism": ("softmax", "low_rank")},
            per=("model", "layer", "head"),
        ),
        Knob(
            "window_tokens", "int", "", low=1, high=64, log=True, minimum=0,
            when={"mechanism": ("softmax",)}, per=("model", "layer"),
        ),
    )
}  # fmt: skip


def read(
    search: str,
    model: str = "",
    constraints: tuple[str, ...] = (),
    starts: tuple[str, ...] = (),
    derive: Any = None,
) -> Space:
    tables = [tomllib.loads(text) for text in (search, model, *starts)]
    return read_space(tables[0], tables[1], KNOBS, constraints, tables[2:], derive, "a.toml")


def defaults(space: Space) -> dict[str, Any]:
    return space.settings(space.decode(space.starts[0]))


@pytest.mark.parametrize(
    ("search", "model", "sentence"),
    [
        (
            "widow_tokens = {}", "",
            'a.toml: search.widow_tokens is not a knob; did you mean "window_tokens"?',
        ),
        ("heads = {}", "hads = 1", 'a.toml: model.hads is not a knob; did you mean "heads"?'),
        ("heads = {}", "heads = 1", "a.toml: heads is in both [model] and [search]; keep one"),
        ("", "", "a.toml: [search] is empty, so nothing varies; name a knob"),
        ("heads = 4", "", "a.toml: search.heads is 4; expected a list of choices or a table"),
        ("heads = { lo = 1 }", "", 'search.heads.lo is not a key of a knob; did you mean "low"?'),
        ("heads = []", "", "search.heads.choices is []; expected a list of choices"),
        ("heads = [2, 2]", "", "search.heads.choices has 2 twice; keep one"),
        ("heads = [2]", "", "search.heads has one choice alone, 2; fix it under [model]"),
        ("heads = [0, 1]", "", "choices[0] is 0; expected a whole number of at least 1"),
        ("heads = [true, 2]", "", "choices[0] is true; expected a whole number"),
        ("heads = [1, 2.5]", "", "choices[1] is 2.5; expected a whole number"),
        ("heads = [[1], 2]", "", "choices[0] is [1]; expected a whole number"),
        ("ratio = [0.1, 1]", "", "choices[0] is 0.1; expected a finite number of at least 0.25"),
        ("heads = { choices = [1, 2], ordered = false }", "", "ordered is false, and heads is"),
        ("mechanism = { ordered = true }", "", "ordered is true, and mechanism is declared cat"),
        ("heads = { low = 5, high = 7 }", "", "leaves none of its choices [1, 2, 4, 8, 16]"),
        ("heads = { step = 2 }", "", "search.heads.step is given, and heads has choices"),
        ("mechanism = { low = 1 }", "", 'list those wanted of ["softmax", "linear", "low_rank"]'),
        ('mechanism = ["softmax", "linaer"]', "", '"linaer"; did you mean "linear"?'),
        ('mechanism = { per = "token" }', "", 'per is "token"; mechanism may be given per "mo'),
        ('lr = { per = "layer" }', "", 'per is "layer"; lr may be given per "model"'),
        ("causal = [1, 0]", "", "choices[0] is 1; expected false or true"),
        ('causal = ["yes", "no"]', "", 'choices[0] is "yes"; expected false or true'),
        ("lr = { low = 0.1, high = 0.01 }", "", "is empty: low = 0.1 is above high = 0.01"),
        ("lr = { low = 0.1, high = 0.1 }", "", "low = high = 0.1; fix it under [model]"),
        ("lr = { low = 0.0 }", "", "low is 0.0; a log scale needs it above 0"),
        ('lr = { low = "a" }', "", 'lr.low is "a"; expected a finite number from 0 to 1'),
        ("lr = { low = nan }", "", "lr.low is nan; expected a finite number"),
        ("lr = { high = inf }", "", "lr.high is inf; expected a finite number"),
        ("lr = { high = 2.0 }", "", "lr.high is 2.0; expected a finite number from 0 to 1"),
        ("lr = { log = 1 }", "", "lr.log is 1; expected true or false"),
        ("lr = { log = true, step = 0.001 }", "", "lr has both log and step; keep one"),
        ("lr = { step = 0 }", "", "lr.step is 0; expected a number above 0"),
        ("lr = { step = 1.0 }", "", "lr.step is 1.0; expected a number above 0 and at most"),
        ("lr = { step = 1e-9 }", "", "values; expected at most 100,000"),
        ('lr = { default = "a" }', "", 'lr.default is "a"; expected a finite number'),
        ("lr = { default = 0.5 }", "", "default is 0.5, which is not searched; the nearest in"),
        ('size = ["small", "medium"]\nlr = { default = true }', "", "lr.default is true"),
        ("layers = { low = 1.5 }", "", "layers.low is 1.5; expected a whole number"),
        ("layers = { step = 1.5 }", "", "layers.step is 1.5; expected a whole number above 0"),
        ("head_dim = {}", "heads = 0", "model.heads is 0; expected a whole number of at least 1"),
        ("heads = {}", 'd_model = "x"', 'model.d_model is "x"; expected a whole number'),
        ("lr = {}", "heads = 6\nkv_heads = 4", "model.kv_heads is 4, which does not divide heads"),
        ("heads = {}", "temperature = [1.0]", "has 1 entries; expected 2, one for each layer"),
        ("layers = {}", "temperature = [1.0, 2.0]", "is a list, and layers is not fixed"),
        ("heads = {}", "temperature = [[1.0], [2.0]]", "is a list, and heads is not fixed"),
        ("heads = {}", 'temperature = [1.0, "a"]', 'temperature is "a"; expected a finite'),
        ("heads = {}", "lr = [1.0, 2.0]", "model.lr is [1.0, 2.0]; expected a finite number"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_naming_file_key_and_way_out(
    search: str, model: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(search, model)
    assert str(caught.value).startswith("a.toml: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("search", "model", "sentence"),
    [
        ("window_tokens = {}", 'mechanism = "linear"', 'here mechanism can only be "linear"'),
        (
            'window_tokens = {}\nmechanism = ["linear", "low_rank"]', "",
            "search.window_tokens can never act: it acts only where mechanism is",
        ),
        ("heads = {}", 'mechanism = "linear"\nwindow_tokens = 4', "model.window_tokens can never"),
        (
            'window_tokens = { when = { mechanism = "linear" } }', "",
            'acts only when mechanism is "softmax"; choose among these',
        ),
        ("heads = { when = { heads = 4 } }", "", "search.heads.when names heads itself"),
        ("heads = { when = { layrs = 4 } }", "", 'when.layrs is not a knob; did you mean "layers'),
        ("heads = { when = { layers = 3 } }", "", "here layers can only be 2"),
        ("heads = { when = { layers = 3 } }\nlayers = [1, 2]", "", "can only be 1 or 2"),
        ("heads = { when = { layers = [] } }", "", "when.layers is []; expected a list"),
        ('heads = { when = { layers = "a" } }', "", 'when.layers[0] is "a"; expected a whole'),
        ('heads = { when = "layers" }', "", "search.heads.when is"),
        ("heads = { when = { lr = 0.01 } }\nlr = {}", "", "no list of values to choose from"),
        (
            "heads = { when = { layers = 2 } }\nlayers = { when = { heads = 4 } }", "",
            "(heads -> layers -> heads); break the circle",
        ),
        (
            'heads = { when = { mechanism = "linear", causal = true } }\nmechanism = {}\n'
            'causal = { when = { mechanism = "softmax" } }', "",
            'it needs mechanism to be "softmax" and also "linear"',
        ),
        (
            'causal = { when = { temperature = 1.0 } }\ntemperature = { per = "head" }', "",
            "which differs between heads",
        ),
        (
            'temperature = { per = "head" }\nheads = { when = { mechanism = "softmax" } }\n'
            "mechanism = {}", "", "search.temperature.per needs heads to have a value always",
        ),
    ],
)  # fmt: skip
def test_a_condition_that_can_never_hold_is_refused(
    search: str, model: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(search, model)
    assert str(caught.value).startswith("a.toml: ")
    assert sentence in str(caught.value)


def test_an_empty_table_is_the_declared_range() -> None:
    space = read("lr = {}\nheads = {}\ncausal = {}")
    lr, heads, causal = sorted(space.coordinates, key=lambda c: "lr heads causal".find(c.name))
    assert (lr.knob.low, lr.knob.high, lr.knob.log) == (1e-4, 1e-2, True)
    assert heads.knob.choices == (1, 2, 4, 8, 16)
    assert causal.knob.choices == (False, True)


def test_numbers_are_ordered_by_size_and_labels_as_they_come() -> None:
    space = read('heads = [8, 1, 3]\nmechanism = ["linear", "softmax"]\nlr = [0.01, 0.001]')
    choices = {c.name: c.knob.choices for c in space.coordinates}
    assert choices == {
        "heads": (1, 3, 8),
        "mechanism": ("linear", "softmax"),
        "lr": (0.001, 0.01),
    }
    assert dict(zip(space.names, space.categorical, strict=True)) == {
        "heads": False,
        "mechanism": True,
        "lr": False,
    }


def test_ordered_labels_keep_their_declared_order() -> None:
    space = read('size = ["large", "small"]')
    assert space.coordinates[0].knob.choices == ("small", "large")
    assert not space.categorical[0]


def test_low_and_high_select_among_declared_sizes() -> None:
    assert read("heads = { high = 4 }").coordinates[0].knob.choices == (1, 2, 4)


def test_a_stated_step_replaces_a_declared_log_scale() -> None:
    knob = read("lr = { low = 0.0, high = 0.01, step = 0.005 }").coordinates[0].knob
    assert (knob.log, knob.step) == (False, 0.005)


def test_whole_numbers_stand_for_floats_but_not_the_other_way() -> None:
    space = read("temperature = { low = 1, high = 4 }", "lr = 1")
    assert isinstance(space.decode(space.starts[0])["temperature"], float)
    assert isinstance(defaults(space)["lr"], float)


@pytest.mark.parametrize(
    ("search", "default", "notes"),
    [
        ("heads = [1, 2]", 2, 1),
        ("lr = { high = 0.001 }", 0.001, 1),
        ('size = ["small", "medium"]', "medium", 1),
        ('mechanism = ["linear", "low_rank"]', "linear", 1),
        ("heads = { choices = [1, 2], default = 1 }", 1, 0),
        ("heads = {}", 4, 0),
        ("head_dim = {}", 8, 0),
        ("window_tokens = { low = 1, high = 4 }", 2, 0),
    ],
)
def test_a_default_outside_the_stated_range_moves_to_the_nearest_and_is_noted(
    search: str, default: Any, notes: int
) -> None:
    space = read(search)
    assert list(space.decode(space.starts[0]).values()) == [default]
    assert len(space.notes) == notes
    assert all("outside the stated range" in note for note in space.notes)


def test_settings_hold_fixed_values_and_defaults_of_what_acts() -> None:
    assert defaults(read("heads = {}", 'd_model = 64\nmechanism = "linear"')) == {
        "mechanism": "linear",
        "heads": 4,
        "layers": 2,
        "d_model": 64,
        "ratio": 4,
        "size": "large",
        "causal": False,
        "lr": 3e-3,
    }


def test_starts_follow_the_defaults_and_take_defaults_for_what_they_omit() -> None:
    space = read("heads = {}\nlr = {}", starts=("heads = 8", "lr = 0.01"))
    assert [space.decode(start) for start in space.starts] == [
        {"heads": 4, "lr": 0.003},
        {"heads": 8, "lr": 0.003},
        {"heads": 4, "lr": 0.01},
    ]


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ("heads = 3", "start 1: heads is 3, which is not searched; the nearest in its range is 2"),
        ("heds = 2", 'start 1: heds is not searched; did you mean "heads"?'),
        ("lr = 0.1", "start 1: lr is not searched"),
        ('heads = "a"', 'start 1: heads is "a"; expected a whole number'),
        ("heads = [1, 2]", "start 1: heads is [1, 2]; expected a whole number"),
        ('mechanism = "low_rank"', 'which is not searched; expected one of ["softmax", "linear"]'),
        ("temperature = [1.0]", "start 1: temperature has 1 entries; expected 2, one for each"),
        ("temperature = [[1.0, 1, 1, 1], 2]", "varies by layer, not by head"),
    ],
)
def test_a_start_outside_the_space_is_refused(start: str, sentence: str) -> None:
    search = 'heads = [1, 2, 4]\nmechanism = ["softmax", "linear"]\ntemperature = {per = "layer"}'
    with pytest.raises(ConfigurationError) as caught:
        read(search, starts=(start,))
    assert str(caught.value).startswith("a.toml: start 1: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("heads > 8 and heads < 3", "no point of the space satisfies"),
        ("lr > 0.02", "none of 4,096 sampled points satisfies"),
        ("heads * head_dim <= d_model", "needs head_dim, which has no value of its own"),
        ("heds > 1", 'a.toml: constraint "heds > 1": heds is neither a knob nor a figure'),
        ("parameters > 1", "neither a knob nor a figure"),
        ("heads >", "does not parse"),
        ("heads", "for a condition"),
    ],
)
def test_a_constraint_that_cannot_be_met_or_read_is_refused(
    expression: str, sentence: str
) -> None:
    with pytest.raises(ConstraintError) as caught:
        read("heads = {}\nlr = {}" if "lr" in expression else "heads = {}", "", (expression,))
    assert str(caught.value).startswith("a.toml: ")
    assert sentence in str(caught.value)


def test_only_the_constraints_that_nothing_meets_are_named() -> None:
    with pytest.raises(ConstraintError) as caught:
        read("heads = {}\nlayers = {}", "", ("heads >= 2", "layers > 7"))
    assert '"layers > 7"' in str(caught.value)
    assert "heads" not in str(caught.value)


def test_a_fixed_divisor_that_no_choice_allows_is_refused() -> None:
    refusal = "model.kv_heads is 4, which divides none of search.heads = 1 or 2"
    with pytest.raises(ConfigurationError, match=refusal):
        read("heads = [1, 2]", "kv_heads = 4")


def test_figures_come_from_derive_only_where_an_expression_names_them() -> None:
    calls = []

    def derive(settings: Any) -> dict[str, float]:
        calls.append(settings)
        return {"parameters": settings["heads"] * 100}

    read("heads = {}", constraints=("heads <= 8",), derive=derive)
    assert not calls
    space = read("heads = {}", constraints=("parameters <= 250",), derive=derive)
    assert calls
    assert space.violations({"heads": 4}) == {"parameters <= 250": 150.0}


def test_derive_may_give_the_value_of_a_knob_without_a_default() -> None:
    space = read(
        "heads = {}",
        constraints=("heads * head_dim <= d_model",),
        derive=lambda settings: {"head_dim": settings["d_model"] // settings["heads"]},
    )
    assert space.violations({"heads": 8}) == {}


def test_settings_that_derive_refuses_are_infeasible() -> None:
    def derive(settings: Any) -> dict[str, float]:
        if settings["heads"] > 4:
            raise ConfigurationError("too many heads")
        return {"flops": 1.0}

    space = read("heads = {}", constraints=("flops < 2",), derive=derive)
    assert space.violations({"heads": 8}) == {"flops < 2": 1.0}
    assert space.violations({"heads": 4}) == {}


def test_where_no_settings_can_work_the_reason_is_given() -> None:
    def derive(settings: Any) -> dict[str, float]:
        raise ConfigurationError("rank = 9 exceeds the 4 tokens")

    with pytest.raises(ConfigurationError, match="exceeds the 4 tokens"):
        read("heads = {}", constraints=("parameters < 2",), derive=derive)


def test_an_unbounded_range_must_be_stated() -> None:
    knobs = {"gain": Knob("gain", "float", "", low=0.0)}
    with pytest.raises(ConfigurationError, match=r"a\.toml: search\.gain has no high; state it"):
        read_space({"gain": {}}, {}, knobs, where="a.toml")
    space = read_space({"gain": {"high": 2}}, {}, knobs, where="a.toml")
    assert math.isclose(float(space.decode(space.starts[0])["gain"]), 1.0)


def test_a_default_that_follows_from_other_knobs_is_what_they_give() -> None:
    knobs = {
        "heads": Knob("heads", "ordered", "", choices=(1, 2, 4, 8), default=4),
        "kv_heads": Knob("kv_heads", "ordered", "", choices=(1, 2, 4, 8), divides="heads"),
    }
    search = {"heads": {}, "kv_heads": [1, 2, 4]}

    def derive(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {"kv_heads": settings.get("kv_heads", settings["heads"])}

    space = read_space(search, {}, knobs, starts=[{"heads": 2}], derive=derive)
    assert [space.decode(row) for row in space.starts] == [
        {"heads": 4, "kv_heads": 4},
        {"heads": 2, "kv_heads": 2},
    ]


def test_listed_numbers_lie_between_low_and_high_and_labels_do_not() -> None:
    narrowed = read("heads = { choices = [1, 2, 4, 8], high = 4 }\nlr = {}")
    assert narrowed.coordinates[0].scale.values == (1, 2, 4)
    with pytest.raises(ConfigurationError, match="leaves none of its choices"):
        read("heads = { choices = [4, 8], high = 2 }")
    with pytest.raises(ConfigurationError, match="has both choices and low"):
        read('mechanism = { choices = ["softmax", "linear"], low = 1 }')


@pytest.mark.parametrize(
    "order", ["heads = [2, 4, 2]\nlayers = 3", "layers = 3\nheads = [2, 4, 2]"]
)
def test_a_list_is_as_long_as_the_layers_wherever_these_stand(order: str) -> None:
    assert read("lr = {}", order).settings({"lr": 1e-3})["heads"] == [2, 4, 2]
    wrong = order.replace("[2, 4, 2]", "[2, 4]")
    with pytest.raises(ConfigurationError, match="has 2 entries; expected 3"):
        read("lr = {}", wrong)


def test_lists_of_heads_are_for_what_varies_by_head() -> None:
    with pytest.raises(ConfigurationError, match="varies by layer, not by head"):
        read("lr = {}", "layers = 2\nheads = 2\nwindow_tokens = [[1, 2], [1, 2]]")
