"""Small spaces on which a sampler shows that it keeps its promises."""

from collections.abc import Mapping, Sequence
from typing import Any

from pso_attn.space import Knob, Space, read_space


def cube(dimension: int) -> Space:
    """Return the unit cube: floats x0, x1, … from 0 to 1, whose default is the middle."""
    return space_of(
        [Knob(f"x{i}", "float", "A coordinate.", low=0.0, high=1.0) for i in range(dimension)]
    )


def labels(knobs: int = 3) -> Space:
    """Return a space of labels only: categorical knobs of 2, 3, 4, … choices."""
    return space_of(
        [
            Knob(
                f"label{i}",
                "categorical",
                "A label.",
                choices=tuple("abcdefgh"[: i + 2]),
                default="a",
            )
            for i in range(knobs)
        ]
    )


def four_points() -> Space:
    """Return a space of four settings."""
    return space_of(
        [
            Knob("gate", "bool", "A switch.", choices=(False, True), default=False),
            Knob("heads", "ordered", "A size.", choices=(1, 2), default=1),
        ]
    )


def mixed(starts: Sequence[Mapping[str, Any]] = (), constraints: Sequence[str] = ()) -> Space:
    """Return a space with one knob of each kind, a conditional one among them."""
    return space_of(
        [
            Knob("kind", "categorical", "A label.", choices=("a", "b", "c"), default="b"),
            Knob("gate", "bool", "A switch.", choices=(False, True), default=False),
            Knob("heads", "ordered", "A size.", choices=(1, 2, 4, 8), default=4),
            Knob("window", "int", "A count.", low=2, high=64, log=True, default=8),
            Knob("rate", "float", "A rate.", low=1e-4, high=1e-1, log=True, default=1e-2),
            Knob("slope", "float", "Only with a.", low=0.0, high=2.0, when={"kind": ("a",)}),
        ],
        starts,
        constraints,
    )


def labelled() -> Space:
    """Return a space of numbers and labels in which every knob always acts."""
    always = [c.knob for c in mixed().coordinates if not c.when]
    return space_of(always)


def space_of(
    knobs: Sequence[Knob],
    starts: Sequence[Mapping[str, Any]] = (),
    constraints: Sequence[str] = (),
) -> Space:
    """Return the space in which each of the knobs varies over its declared range."""
    declared = {knob.name: knob for knob in knobs}
    return read_space(
        {name: {} for name in declared},
        {},
        declared,
        list(constraints),
        [dict(start) for start in starts],
        None,
        "testing",
    )
