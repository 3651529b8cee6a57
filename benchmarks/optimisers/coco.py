"""COCO's `bbob` and `bbob-mixint` functions, plain and with noise; package `coco-experiment`.

Hansen et al. (2021), COCO; Finck et al. (2009) for the functions; Tušar et al. (2019) for the
mixed-integer ones, of whose coordinates a fifth each has 2, 4, 8 and 16 values and a fifth is
continuous. **Even function numbers are held out, in every suite**, so that no function is
developed on in one form and reported in another. Each function runs in one dimension of 5, 10
and 20 (`core_dimension`) unless all are asked for. Seed s is COCO's instance s + 1.

COCO's box, −5 to 5, is wider by one here, at the upper and the lower end in turn: at the middle of
COCO's own, where searches begin, f9 and f19 are near their optimum whatever the instance.
"""

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, Literal

import numpy as np
from problem import Instance, Problem, Split

from pso_attn.errors import ConfigurationError
from pso_attn.space import Knob
from pso_attn.testing.spaces import space_of
from pso_attn.types import Params

Suite = Literal["bbob", "bbob-mixint"]
FUNCTIONS = range(1, 25)
DIMENSIONS = (5, 10, 20)
BEST = "._bbob_problem_best_parameter.txt"  # where COCO writes a problem's best point


def split_of(function: int) -> Split:
    return "develop" if function % 2 else "held-out"


def core_dimension(suite: Suite, function: int) -> int:
    """Return the dimension that a function runs in: both halves get all three, in turn."""
    turn = (function - 1) // 2 + (suite == "bbob-mixint")
    return DIMENSIONS[turn % 3]


def problems() -> Iterator[Problem]:
    """Yield every function of both suites in every dimension, and the noisy variants."""
    for suite in ("bbob", "bbob-mixint"):
        for function in FUNCTIONS:
            for dimension in DIMENSIONS:
                is_core = dimension == core_dimension(suite, function)
                yield _problem(suite, function, dimension, is_core=is_core)
    for function in FUNCTIONS:
        # a third of each suite, not the same; much and little noise in turn
        suite = {1: "bbob-mixint", 2: "bbob"}.get(function % 3)
        if suite is not None:
            noise = (0.1, 0.02)[(function - 1) // 2 % 2]
            yield _problem(suite, function, (5, 10)[function // 6 % 2], noise)


def instance(suite: Suite, function: int, dimension: int, seed: int) -> Instance:
    """Return the instance of a seed: COCO's own function, and the value at its best point."""
    made, optimum = made_by_coco(suite, function, dimension, seed + 1)

    def value(params: Params) -> float:
        return float(made(np.array(list(params.values()), dtype=float)))

    return Instance(value, optimum)


@cache
def made_by_coco(suite: Suite, function: int, dimension: int, number: int) -> tuple[Any, float]:
    """Return COCO's problem and its least value."""
    found = _suite(suite, dimension, number)
    made = found.get_problem_by_function_dimension_instance(function, dimension, number)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        made._best_parameter("print")  # the only way to it: COCO keeps the optimum to itself
        best = np.loadtxt(BEST)
    return made, float(made(best))


@cache
def _suite(suite: Suite, dimension: int, number: int) -> Any:
    """Return COCO's suite of one instance; kept, as it owns the memory of its functions."""
    if importlib.util.find_spec("cocoex") is None:
        raise ConfigurationError(f"{suite} needs coco-experiment; pip install -e .[bench]")
    import cocoex

    return cocoex.Suite(suite, f"instances:{number}", f"dimensions:{dimension}")


def numbered(name: str, index: int, **rest: Any) -> Knob:
    """Return the knob of a function's coordinate: its place says which end is wider."""
    low, high = -5.0 - index % 2, 6.0 - index % 2
    return Knob(name, "float", "A number.", low=low, high=high, **rest)


def _problem(
    suite: Suite, function: int, dimension: int, noise: float = 0.0, is_core: bool = True
) -> Problem:
    is_mixed = suite == "bbob-mixint"
    knobs = _mixed(dimension) if is_mixed else [numbered(f"x{i}", i) for i in range(dimension)]
    return Problem(
        f"{'noisy ' if noise else ''}{suite} f{function:02d} d{dimension:02d}",
        "noisy" if noise else "mixed integer" if is_mixed else "continuous",
        split_of(function),
        space_of(knobs),
        partial(instance, suite, function, dimension),
        noise,
        is_core,
    )


def _mixed(dimension: int) -> list[Knob]:
    """Return whole numbers of 2, 4, 8 and 16 values, then numbers, a fifth of each."""
    fifth = dimension // 5
    whole = [
        Knob(f"i{k}", "int", "A count.", low=0, high=2 ** (k // fifth + 1) - 1)
        for k in range(4 * fifth)
    ]
    return [*whole, *(numbered(f"x{i}", i) for i in range(fifth))]
