"""What is not feasible is moved to what is, or said to be infeasible."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pso_attn.errors import ConstraintError
from pso_attn.space import Knob, Space, read_space

KNOBS = {
    knob.name: knob
    for knob in (
        Knob("kind", "categorical", "", choices=("a", "b", "c"), default="a"),
        Knob("heads", "ordered", "", choices=(1, 2, 4, 8), minimum=1, default=2),
        Knob("kv_heads", "ordered", "", choices=(1, 2, 3, 4, 8), minimum=1, divides="heads"),
        Knob("width", "int", "", low=4, high=64, log=True, minimum=1, default=8),
        Knob("lr", "float", "", low=1e-4, high=1e-2, log=True, default=1e-3),
        Knob("decay", "float", "", low=0.0, high=1.0, default=0.5),
    )
}


def read(
    *constraints: str, search: Mapping[str, Any] | None = None, starts: Any = (), **fixed: Any
) -> Space:
    names = [name for name in KNOBS if name not in fixed]
    return read_space(
        search or {name: {} for name in names}, fixed, KNOBS, constraints, starts, None, "a.toml"
    )


def positions(space: Space, count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((count, space.dimension))


def test_what_is_feasible_stays_as_it_is() -> None:
    space = read("heads * width <= 4096", kv_heads=1)
    position = positions(space, 1)[0]
    repaired = space.repair(position, 0, 0, 0)
    assert np.array_equal(repaired.position, position)
    assert repaired.params == space.decode(position)
    assert repaired.violations == {}


def test_repair_meets_every_constraint_and_decodes_to_its_params() -> None:
    space = read("heads * width <= 32", "kind != 'b' or heads == 1")
    for particle, position in enumerate(positions(space, 100)):
        repaired = space.repair(position, 0, 0, particle)
        assert repaired.violations == {}
        assert space.violations(repaired.params) == {}
        assert space.decode(repaired.position) == repaired.params


def test_repair_changes_only_what_the_constraint_is_about() -> None:
    space = read("heads * width <= 32", kv_heads=1)
    position = space.encode({"heads": 8, "width": 64, "kind": "c", "lr": 0.0071, "decay": 0.9})
    params = space.repair(position, 0, 0, 0).params
    assert {name: params[name] for name in ("kind", "lr", "decay")} == {
        "kind": "c",
        "lr": 0.0071,
        "decay": 0.9,
    }


def test_repaired_particles_stay_apart() -> None:
    space = read("decay <= 0.5", kv_heads=1)
    repaired = [
        space.repair(p, 0, 0, k).params["decay"] for k, p in enumerate(positions(space, 50))
    ]
    assert len(set(repaired)) == 50


def test_repair_is_deterministic_and_keyed_by_particle() -> None:
    space = read("heads + width <= 10", "kind == 'a' or decay < 0.1")
    for position in positions(space, 20):
        first, again = (space.repair(position, 1, 2, 3) for _ in range(2))
        assert np.array_equal(first.position, again.position)


def test_a_divisor_is_lowered_to_the_next_that_divides() -> None:
    space = read(heads=8)
    for asked, given in ((8, 8), (4, 4), (3, 2), (2, 2), (1, 1)):
        assert space.repair(space.encode({"kv_heads": asked}), 0, 0, 0).params["kv_heads"] == given


def test_a_divisor_is_lowered_to_what_it_must_divide() -> None:
    space = read()
    repaired = space.repair(space.encode({"heads": 2, "kv_heads": 8}), 0, 0, 0)
    assert (repaired.params["heads"], repaired.params["kv_heads"]) == (2, 2)


def test_where_no_divisor_is_admitted_the_other_knob_moves() -> None:
    space = read(search={"heads": [2, 3, 4], "kv_heads": [2, 4], "lr": {}})
    position = space.encode({"heads": 3, "kv_heads": 2})
    assert space.violations(space.decode(position)) == {"heads % kv_heads == 0": 1.0}
    assert space.repair(position, 0, 0, 0).params["heads"] in (2, 4)


def test_a_divisor_that_is_fixed_moves_the_heads() -> None:
    space = read(kv_heads=4)
    params = space.repair(space.encode({"heads": 2}), 0, 0, 0).params
    assert params["heads"] in (4, 8)


def test_out_of_reach_the_first_position_comes_back_with_its_violations() -> None:
    space = read("abs(decay - 0.5) < 1e-6", kv_heads=1)
    position = space.encode({"decay": 0.9})
    repaired = space.repair(position, 0, 0, 0)
    assert np.array_equal(repaired.position, position)
    assert repaired.params == space.decode(position)
    assert repaired.violations == {"abs(decay - 0.5) < 1e-6": pytest.approx(0.4, abs=1e-5)}


def test_without_any_feasible_point_known_violations_are_reported() -> None:
    space = replace(read("heads <= 4", kv_heads=1), anchors=np.empty((0, 5)))
    assert space.repair(space.encode({"heads": 8}), 0, 0, 0).violations == {"heads <= 4": 4.0}


def test_starts_are_repaired_and_the_change_is_noted() -> None:
    space = read("heads <= 4", "width == 8", kv_heads=1, starts=[{"heads": 8, "lr": 0.002}])
    assert space.decode(space.starts[1]) | {"heads": 4} == {
        "kind": "a", "heads": 4, "width": 8, "lr": 0.002, "decay": 0.5,
    }  # fmt: skip
    (note,) = space.notes
    assert note.startswith("start 1: heads 8 became ")
    assert note.endswith(', to meet "heads <= 4"')


def test_a_start_out_of_reach_is_noted_as_untrained() -> None:
    space = read("abs(decay - 0.5) < 1e-6", kv_heads=1, starts=[{"decay": 0.9}])
    assert space.decode(space.starts[1])["decay"] == 0.9
    assert space.notes == (
        'start 1: stays untrained, for want of a way to meet "abs(decay - 0.5) < 1e-6"',
    )


def test_a_rare_feasible_point_of_a_small_space_is_found_by_looking_at_all() -> None:
    search = {"heads": {}, "width": {}, "kind": {}}
    space = read("heads == 8 and width == 64 and kind == 'c'", search=search)
    assert space.decode(space.starts[0]) == {"heads": 8, "width": 64, "kind": "c"}
    assert len(space.anchors) == 1


def test_an_unsatisfiable_small_space_says_that_no_point_will_do() -> None:
    with pytest.raises(ConstraintError, match=r'no point of the space satisfies "width > 64"'):
        read("width > 64", search={"heads": {}, "width": {}})


def test_with_starts_replaces_the_first_trials_of_a_run_alone() -> None:
    space = read(kv_heads=1, starts=[{"heads": 8}, {"heads": 4}])
    asked = positions(space, 2)
    first, second, third = (space.with_starts(asked, trial) for trial in (0, 2, 4))
    assert np.array_equal(first, space.starts[:2])
    assert np.array_equal(second, np.stack([space.starts[2], asked[1]]))
    assert np.array_equal(third, asked)


def test_values_that_are_rare_to_hit_are_taken_from_the_defaults() -> None:
    space = read("abs(decay - 0.5) < 1e-6", "heads == 8", kv_heads=1)
    assert space.decode(space.starts[0])["decay"] == 0.5
    assert space.decode(space.starts[0])["heads"] == 8
