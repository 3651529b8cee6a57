"""What holds for every space: the codec loses nothing, and repair keeps what it promises."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pso_attn.space import Knob, Space, read_space

LABELS = ("a", "b", "c", "d")

finite = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))
spans = st.floats(1e-3, 1e6)
unit = st.floats(0.0, 1.0)


@st.composite
def knobs(draw: st.DrawFn, name: str) -> Knob:
    kind = draw(
        st.sampled_from(("float", "log", "step", "int", "logint", "list", "label", "bool"))
    )
    low, span = draw(finite), draw(spans)
    if kind == "float":
        return Knob(name, "float", "", low=low, high=low + span)
    if kind == "log":
        small = draw(st.floats(1e-30, 1e6))
        return Knob(name, "float", "", low=small, high=small * (1 + span), log=True)
    if kind == "step":
        step = draw(st.sampled_from((0.001, 0.05, 0.1, 0.25, 1.0, 3.0)))
        return Knob(
            name, "float", "", low=round(low, 3), high=round(low, 3) + 40 * step, step=step
        )
    if kind == "int":
        return Knob(
            name, "int", "", low=int(low), high=int(low) + 1 + int(span),
            step=draw(st.sampled_from((None, 1))),
        )  # fmt: skip
    if kind == "logint":
        small = draw(st.integers(1, 1000))
        return Knob(name, "int", "", low=small, high=small + 1 + int(span), log=True)
    if kind == "list":
        choices = draw(st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True))
        return Knob(name, "ordered", "", choices=tuple(choices))
    if kind == "label":
        return Knob(name, "categorical", "", choices=LABELS)
    return Knob(name, "bool", "")


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """A space with knobs of any kind, one conditional, one per layer, one per head."""
    own = [draw(knobs(f"k{i}")) for i in range(draw(st.integers(1, 4)))]
    structure = [
        Knob("layers", "int", "", low=1, high=3, default=2),
        Knob("heads", "ordered", "", choices=(1, 2, 4), minimum=1, default=2),
        Knob("kv_heads", "ordered", "", choices=(1, 2, 4), minimum=1, divides="heads"),
        Knob("kind", "categorical", "", choices=LABELS, default="a"),
        Knob("idle", "float", "", low=0.1, high=9.0, log=True, when={"kind": ("b", "c")}),
        Knob("tau", "float", "", low=0.1, high=9.0, log=True, default=1.0, per=("layer",)),
        Knob("span", "int", "", low=1, high=64, log=True, when={"kind": ("b",)}, per=("head",)),
    ]
    declared = {knob.name: knob for knob in (*own, *structure)}
    search: dict[str, Any] = {name: {} for name in declared}
    search |= {"tau": {"per": "layer"}, "span": {"per": "head"}}
    constraints = draw(
        st.lists(
            st.sampled_from(
                (
                    "heads * layers <= 4",
                    "max(tau) <= 2",
                    "kind != 'a' or layers == 1",
                    "sum(span) <= 30 * layers",
                    "idle * layers < 6 and kind in ['a', 'b', 'c']",
                    "abs(max(tau) - 1) < 1e-6",
                )
            ),
            unique=True,
            max_size=3,
        )
    )
    return read_space(search, {}, declared, constraints, [], None, "property")


def draw_position(data: st.DataObject, space: Space) -> np.ndarray[Any, Any]:
    edges = st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0))
    size = space.dimension
    return np.array(data.draw(st.lists(unit | edges, min_size=size, max_size=size)))


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_encoding_what_was_decoded_loses_nothing(space: Space, data: st.DataObject) -> None:
    params = space.decode(draw_position(data, space))
    position = space.encode(params)
    assert space.decode(position) == params
    assert {name: type(value) for name, value in space.decode(position).items()} == {
        name: type(value) for name, value in params.items()
    }
    assert ((position >= 0) & (position <= 1)).all()


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_snapping_changes_no_setting_and_nothing_twice(space: Space, data: st.DataObject) -> None:
    position = draw_position(data, space)
    snapped = space.snap(position)
    assert space.decode(snapped) == space.decode(position)
    assert np.array_equal(space.snap(snapped), snapped)
    assert np.array_equal(snapped[space.levels == 0], position[space.levels == 0])
    assert np.array_equal(space.snap(np.stack([position, snapped]))[0], snapped)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_active_names_what_decode_returns(space: Space, data: st.DataObject) -> None:
    position = draw_position(data, space)
    acting = [name for name, acts in zip(space.names, space.active(position), strict=True) if acts]
    assert acting == list(space.decode(position))


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_many_positions_act_as_each_by_itself(space: Space, data: st.DataObject) -> None:
    one, other = (space.snap(draw_position(data, space)) for _ in range(2))
    positions = np.vstack([one, np.where(np.eye(space.dimension, dtype=bool), other, one)])
    each = np.array([space.active(position) for position in positions])
    np.testing.assert_array_equal(space.all_active(positions), each)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data(), st.integers(0, 3))
def test_repair_stays_inside_repeats_and_meets_what_it_says(
    space: Space, data: st.DataObject, particle: int
) -> None:
    position = draw_position(data, space)
    repaired = space.repair(position, 7, 1, particle)
    again = space.repair(position, 7, 1, particle)
    assert np.array_equal(repaired.position, again.position)
    assert repaired.params == again.params == space.decode(repaired.position)
    assert ((repaired.position >= 0) & (repaired.position <= 1)).all()
    assert repaired.violations == space.violations(repaired.params)
    assert all(amount > 0 for amount in repaired.violations.values())
    if repaired.violations:
        assert np.array_equal(repaired.position, position)
    else:
        settled = space.repair(repaired.position, 8, 2, particle)
        assert np.array_equal(settled.position, repaired.position)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_settings_have_the_true_numbers_of_layers_and_heads(
    space: Space, data: st.DataObject
) -> None:
    nested = space.settings(space.decode(draw_position(data, space)))
    assert len(nested["tau"]) == nested["layers"]
    if "span" in nested:
        assert [len(row) for row in nested["span"]] == [nested["heads"]] * nested["layers"]


@given(st.permutations(LABELS), unit)
def test_permuting_labels_permutes_what_is_decoded(order: list[str], x: float) -> None:
    def decoded(choices: list[str]) -> Any:
        declared = {"kind": Knob("kind", "categorical", "", choices=LABELS)}
        space = read_space({"kind": choices}, {}, declared, where="property")
        return space.decode(np.array([x]))["kind"]

    assert order.index(decoded(list(order))) == LABELS.index(decoded(list(LABELS)))
