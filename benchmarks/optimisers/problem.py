"""A problem that samplers are measured on, an instance of it, and the score of a search.

Every (problem, seed) is an instance of its own (shift, rotation, noise), the same for all
samplers. The score is log10 of (noise-free value of the incumbent, which is chosen by what was
observed, − optimum) / (median random value − optimum), cut at −5: −1 is a tenth of the regret.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.testing import drive
from pso_attn.types import Params, Sampler

FLOOR = -5.0
RANDOM_POINTS = 1000
Function = Callable[[Params], float]
Replicate = Callable[[Params, np.random.Generator], float]
Group = Literal["continuous", "mixed integer", "HPO", "noisy", "conditional"]
Split = Literal["develop", "held-out"]


@dataclass(frozen=True, eq=False)
class Instance:
    """What one seed makes of a problem.

    value: flat params to their noise-free value; ArithmeticError where there is none.
    optimum: the least value there is. replicate: one observation where noise is not added
    to the value but recorded in a table.
    """

    value: Function
    optimum: float = 0.0
    replicate: Replicate | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """A space, and how the instance of a seed is made.

    split: whether samplers may be developed on it; by a rule, fixed before any result.
    noise: standard deviation of what is observed, as a share of the median random regret.
    is_core: whether it runs unless all dimensions are asked for.
    """

    name: str
    group: Group
    split: Split
    space: Space
    instance: Callable[[int], Instance]
    noise: float = 0.0
    is_core: bool = True


@cache
def realised(problem: Problem, seed: int) -> tuple[Instance, float]:
    """Return a seed's instance and the median regret of random points; failures count as worst."""
    instance = problem.instance(seed)
    points = generator(seed, problem.name, "random").random(
        (RANDOM_POINTS, problem.space.dimension)
    )
    values = []
    for position in points:
        try:
            values.append(instance.value(problem.space.decode(position)))
        except ArithmeticError:
            values.append(math.inf)
    return instance, float(np.median(values)) - instance.optimum


def scores(
    problem: Problem, sampler: Sampler, seed: int, generations: int, checkpoints: Sequence[int]
) -> list[float]:
    """Return the score after each of so many evaluations.

    The noise of evaluation n is that of (problem, seed, n), whatever the sampler.
    """
    instance, median = realised(problem, seed)
    observed: list[tuple[float, float]] = []  # as seen, and noise-free regret

    def evaluate(params: Params) -> float:
        try:
            value = instance.value(params)
        except ArithmeticError:
            observed.append((math.inf, median))
            raise
        rng = generator(seed, problem.name, "noise", len(observed))
        if instance.replicate is not None:
            seen = instance.replicate(params, rng)
        else:
            seen = value + problem.noise * median * float(rng.normal())
        observed.append((seen, value - instance.optimum))
        return seen

    drive(sampler, problem.space, evaluate, generations)
    # the first of equals: max and min keep it
    regrets = [min(observed[:count], key=lambda pair: pair[0])[1] for count in checkpoints]
    return [math.log10(max(regret / median, 10.0**FLOOR)) for regret in regrets]
