"""Conditional problems made of COCO's functions: a label chooses one of three, with own knobs.

Each kind is a `bbob` function in five dimensions: two coordinates are shared by all kinds, three
are knobs that act under their kind alone. A kind's values are regrets over the function's median
random regret, raised by 0, .1 or .3: two kinds end in a dead end. Functions f, f + 8 and f + 16
make a problem, so all three are even (held out) or odd.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from coco import made_by_coco, numbered, split_of
from problem import Instance, Problem

from pso_attn.seeding import generator
from pso_attn.space import Knob, Space
from pso_attn.testing.spaces import space_of
from pso_attn.types import Params

KINDS, SHARED, OWN = "abc", 2, 3
RAISED = (0.0, 0.1, 0.3)
POINTS = 200  # random points of which a function's median is taken


def problems() -> Iterator[Problem]:
    for first in range(1, 9):
        functions = (first, first + 8, first + 16)
        name = "conditional " + " ".join(f"f{function:02d}" for function in functions)
        made = partial(instance, functions)
        yield Problem(name, "conditional", split_of(first), _space(), made)


def instance(functions: tuple[int, ...], seed: int) -> Instance:
    rng = generator(seed, "conditional", *functions)
    raised = rng.permutation(RAISED)
    made = [made_by_coco("bbob", function, SHARED + OWN, seed + 1) for function in functions]
    points = rng.uniform(-5.0, 5.0, (POINTS, SHARED + OWN))
    medians = [np.median([call(x) for x in points]) - least for call, least in made]

    def value(params: Params) -> float:
        kind = KINDS.index(str(params["kind"]))
        call, least = made[kind]
        numbers = [number for name, number in params.items() if name != "kind"]
        regret = float(call(np.array(numbers, dtype=float))) - least
        return float(raised[kind] + regret / medians[kind])

    return Instance(value)


def _space() -> Space:
    own = [
        numbered(f"{kind}{k}", SHARED + k, when={"kind": (kind,)})
        for kind in KINDS
        for k in range(OWN)
    ]
    shared = [numbered(f"shared{k}", k) for k in range(SHARED)]
    label = Knob("kind", "categorical", "A label.", choices=tuple(KINDS), default=KINDS[0])
    return space_of([label, *shared, *own])
