"""Problems made up here, on which the default sampler was developed: all of them are `develop`.

Smooth, rotated, multimodal, with the optimum at the edge, with whole numbers, labels, conditions,
failures, noise. The least value of each is 0; every seed shifts and turns it anew.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from problem import Function, Group, Instance, Problem

from pso_attn.seeding import generator
from pso_attn.space import Knob
from pso_attn.testing.spaces import space_of
from pso_attn.types import Array, Params

Made = Callable[[np.random.Generator], Function]


def floats(dimension: int) -> list[Knob]:
    return [Knob(f"x{i}", "float", "A number.", low=-1.0, high=1.0) for i in range(dimension)]


def vector(params: Params) -> Array:
    return np.array([value for name, value in params.items() if name[0] == "x"])


def landscape(
    shape: Callable[[Array], float], dimension: int, reach: float = 0.7, rotated: bool = False
) -> Made:
    """Return instances of a shape (least at 0) whose optimum lies anywhere within `reach`."""

    def instance(rng: np.random.Generator) -> Function:
        optimum = rng.uniform(-reach, reach, dimension)
        turned = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
        turn = turned if rotated else np.eye(dimension)
        return lambda params: shape(turn @ (vector(params) - optimum))

    return instance


def sphere(z: Array) -> float:
    return float(z @ z)


def ellipsoid(z: Array) -> float:
    return float(10.0 ** np.linspace(0, 3, z.size) @ (z * z))


def rosenbrock(z: Array) -> float:
    x = 1.0 + 2.0 * z
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def rastrigin(z: Array) -> float:
    x = 3.0 * z
    return float(np.sum(x * x + 5.0 * (1.0 - np.cos(2.0 * np.pi * x))))


def ackley(z: Array) -> float:
    x = 10.0 * z
    ring = np.exp(-0.2 * np.sqrt(np.mean(x * x)))
    return float(20.0 - 20.0 * ring + math.e - np.exp(np.mean(np.cos(2.0 * np.pi * x))))


def levy(z: Array) -> float:
    w = 1.0 + 5.0 * z / 4.0 * 2.0
    middle = (w[:-1] - 1.0) ** 2 * (1.0 + 10.0 * np.sin(np.pi * w[:-1] + 1.0) ** 2)
    first, last = np.sin(np.pi * w[0]) ** 2, (w[-1] - 1.0) ** 2
    return float(first + np.sum(middle) + last * (1.0 + np.sin(2.0 * np.pi * w[-1]) ** 2))


def edge(rng: np.random.Generator) -> Function:
    """A bowl whose optimum lies at the ends of every range."""
    optimum = rng.choice([-1.0, 1.0], 6)
    weights = rng.uniform(0.3, 3.0, 6)
    return lambda params: float(weights @ np.abs(vector(params) - optimum) ** 1.5)


def peaks(rng: np.random.Generator) -> Function:
    """21 Gaussian peaks without a common slope, after bbob's f21."""
    centres, heights = rng.uniform(-0.9, 0.9, (21, 4)), np.r_[1.0, rng.uniform(0.2, 0.9, 20)]
    widths = np.exp(rng.uniform(np.log(5.0), np.log(30.0), 21))
    widths[0] = 12.0
    highest = np.max(heights * np.exp(-widths * np.sum((centres - centres[0]) ** 2, axis=1)))

    def function(params: Params) -> float:
        off = np.sum((centres - vector(params)) ** 2, axis=1)
        return float(highest - np.max(heights * np.exp(-widths * off)))

    return function


INTEGERS = [
    *floats(3),
    *(Knob(f"i{k}", "int", "A count.", low=0, high=12) for k in range(3)),
    Knob("n0", "int", "A size.", low=8, high=256, log=True),
    Knob("o0", "ordered", "A size.", choices=(1, 2, 4, 8, 16)),
]


def integers(rng: np.random.Generator) -> Function:
    """Numbers and whole numbers that depend on each other, after bbob-mixint."""
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0] @ np.diag(10.0 ** rng.uniform(-0.5, 1.0, 8))
    whole = rng.integers(2, 11, 3)
    size, order = 2.0 ** rng.uniform(4, 7), 2.0 ** rng.integers(0, 5)
    optimum = rng.uniform(-0.7, 0.7, 3)
    size = float(round(size))

    def function(params: Params) -> float:
        counts = np.array([params[f"i{k}"] for k in range(3)], dtype=float)
        scaled = (math.log2(float(params["n0"])) - math.log2(size)) / 2.5
        steps = (math.log2(float(params["o0"])) - math.log2(order)) / 2.0
        z = np.r_[vector(params) - optimum, (counts - whole) / 6.0, scaled, steps]
        return float(np.sum((z @ turn) ** 2))

    return function


CATEGORIES = [
    Knob("a", "categorical", "A label.", choices=tuple("pqrst")),
    Knob("b", "categorical", "A label.", choices=tuple("uvw")),
    Knob("g", "bool", "A switch.", choices=(False, True)),
    *floats(4),
]


def categories(rng: np.random.Generator) -> Function:
    """Labels that cost something and move where the numbers should be."""
    costs = {k: rng.permutation(5) * 0.3 for k in ("p", "u")}
    shifts = rng.normal(0, 0.25, (5, 4))
    optimum = rng.uniform(-0.5, 0.5, 4)
    right = bool(rng.integers(2))

    def function(params: Params) -> float:
        a, b = "pqrst".index(str(params["a"])), "uvw".index(str(params["b"]))
        cost = costs["p"][a] + costs["u"][b] - costs["u"][:3].min()
        z = vector(params) - np.clip(optimum + shifts[a], -0.9, 0.9)
        return float(cost + 0.4 * (params["g"] != right) + 2.0 * z @ z * (1 + 0.5 * b))

    return function


CONDITIONAL = [
    Knob("kind", "categorical", "A label.", choices=("s", "l", "r"), default="s"),
    Knob("rate", "float", "A rate.", low=1e-5, high=1e-1, log=True, default=1e-3),
    Knob("depth", "int", "A count.", low=1, high=8, default=4),
    *(
        Knob(f"{kind}{k}", "float", "Its own.", low=-1.0, high=1.0, when={"kind": (kind,)})
        for kind in "slr"
        for k in range(3)
    ),
]


def conditional(rng: np.random.Generator) -> Function:
    """Three kinds with knobs of their own; the rate must suit the depth."""
    optima = rng.uniform(-0.7, 0.7, (3, 3))
    floors = rng.permutation([0.0, 0.15, 0.4])
    rate, depth = rng.uniform(-4, -2), int(rng.integers(2, 8))

    def function(params: Params) -> float:
        kind = str(params["kind"])
        own = np.array([params[f"{kind}{k}"] for k in range(3)], dtype=float)
        off = math.log10(float(params["rate"])) - rate + 0.2 * (int(params["depth"]) - depth)
        steep = off * off * (4.0 if off > 0 else 0.5)
        bowl = np.sum((own - optima["slr".index(kind)]) ** 2)
        deep = 0.05 * (int(params["depth"]) - depth) ** 2
        return float(floors["slr".index(kind)] + bowl + steep + deep)

    return function


def diverging(rng: np.random.Generator) -> Function:
    """A bowl a third of which cannot be evaluated; the optimum lies near that part."""
    inner = landscape(sphere, 5, 0.5)(rng)
    normal = rng.normal(size=5)
    normal /= np.linalg.norm(normal)

    def function(params: Params) -> float:
        if vector(params) @ normal > 0.4:
            raise ArithmeticError
        return inner(params)

    return function


def problems() -> Iterator[Problem]:
    yield _problem("sphere 5", "continuous", floats(5), landscape(sphere, 5))
    yield _problem("ellipsoid 8", "continuous", floats(8), landscape(ellipsoid, 8, rotated=True))
    yield _problem("rosenbrock 6", "continuous", floats(6), landscape(rosenbrock, 6, 0.5))
    yield _problem("rastrigin 5", "continuous", floats(5), landscape(rastrigin, 5))
    yield _problem("ackley 10", "continuous", floats(10), landscape(ackley, 10))
    yield _problem("levy 8", "continuous", floats(8), landscape(levy, 8, rotated=True))
    yield _problem("edge 6", "continuous", floats(6), edge)
    yield _problem("peaks 4", "continuous", floats(4), peaks)
    yield _problem("integers 8", "mixed integer", INTEGERS, integers)
    yield _problem("categories 7", "mixed integer", CATEGORIES, categories)
    yield _problem("conditional 12", "conditional", CONDITIONAL, conditional)
    yield _problem("diverging 5", "continuous", floats(5), diverging)
    yield _problem("noisy sphere 6", "noisy", floats(6), landscape(sphere, 6), 0.1)
    yield _problem("noisy levy 5", "noisy", floats(5), landscape(levy, 5), 0.1)
    yield _problem("noisy integers 8", "noisy", INTEGERS, integers, 0.1)
    yield _problem("noisy conditional 12", "noisy", CONDITIONAL, conditional, 0.1)


def _problem(
    name: str, group: Group, knobs: Sequence[Knob], made: Made, noise: float = 0.0
) -> Problem:
    return Problem(name, group, "develop", space_of(knobs), partial(_instance, name, made), noise)


def _instance(name: str, made: Made, seed: int) -> Instance:
    return Instance(made(generator(seed, name, "instance")))
