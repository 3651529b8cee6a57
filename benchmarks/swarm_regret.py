"""How soon the samplers find what is good: regret at equal evaluations, on problems made up here.

    python benchmarks/swarm_regret.py --quick
    python benchmarks/swarm_regret.py --samplers pso,tpe,cmaes --seeds 10 --batch 20

Every (problem, seed) is an instance of its own (shifts, rotations, noise), the same for all
samplers. The score is log10 of (true value of the incumbent, which is chosen by what was
observed, - optimum) / (median random value - optimum), cut at -5: a difference of 1 is a tenth of
the regret. A batch is proposed whole before any of it is told. Prints the mean score of each
sampler, then the first sampler against each other one: wins, ties (within .05), losses, mean
difference (negative: the first is better), and seconds a batch.
"""

import argparse
import math
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import optuna

from pso_attn.assembly import SAMPLERS, load_name
from pso_attn.seeding import generator
from pso_attn.space import Knob, Space
from pso_attn.testing import drive
from pso_attn.testing.spaces import space_of
from pso_attn.types import Array, History, Params, Proposal, Sampler

FLOOR, TIE = -5.0, 0.05
RANDOM_POINTS = 1000
Function = Callable[[Params], float]


@dataclass(frozen=True)
class Problem:
    """A space, and how an instance of its function is made; its least value is 0.

    noise: standard deviation of what is observed, as a share of the median random value.
    """

    name: str
    space: Space
    instance: Callable[[np.random.Generator], Function]
    noise: float = 0.0


def floats(dimension: int) -> list[Knob]:
    return [Knob(f"x{i}", "float", "A number.", low=-1.0, high=1.0) for i in range(dimension)]


def vector(params: Params) -> Array:
    return np.array([value for name, value in params.items() if name[0] == "x"])


def landscape(
    shape: Callable[[Array], float], dimension: int, reach: float = 0.7, rotated: bool = False
) -> Callable[[np.random.Generator], Function]:
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


PROBLEMS = (
    Problem("sphere 5", space_of(floats(5)), landscape(sphere, 5)),
    Problem("ellipsoid 8", space_of(floats(8)), landscape(ellipsoid, 8, rotated=True)),
    Problem("rosenbrock 6", space_of(floats(6)), landscape(rosenbrock, 6, 0.5)),
    Problem("rastrigin 5", space_of(floats(5)), landscape(rastrigin, 5)),
    Problem("ackley 10", space_of(floats(10)), landscape(ackley, 10)),
    Problem("levy 8", space_of(floats(8)), landscape(levy, 8, rotated=True)),
    Problem("edge 6", space_of(floats(6)), edge),
    Problem("peaks 4", space_of(floats(4)), peaks),
    Problem("integers 8", space_of(INTEGERS), integers),
    Problem("categories 7", space_of(CATEGORIES), categories),
    Problem("conditional 12", space_of(CONDITIONAL), conditional),
    Problem("diverging 5", space_of(floats(5)), diverging),
    Problem("noisy sphere 6", space_of(floats(6)), landscape(sphere, 6), 0.1),
    Problem("noisy levy 5", space_of(floats(5)), landscape(levy, 5), 0.1),
    Problem("noisy integers 8", space_of(INTEGERS), integers, 0.1),
    Problem("noisy conditional 12", space_of(CONDITIONAL), conditional, 0.1),
)
QUICK = ("sphere 5", "ackley 10", "integers 8", "conditional 12", "noisy sphere 6")


class Timed:
    """A sampler, and the seconds that its proposals took."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.seconds = sampler, 0.0

    def propose(self, space: Space, history: History) -> Proposal:
        began = time.perf_counter()
        proposal = self.sampler.propose(space, history)
        self.seconds += time.perf_counter() - began
        return proposal


@cache
def instance_of(problem: Problem, seed: int) -> tuple[Function, float]:
    """Return an instance's function and its median over random points."""
    function = problem.instance(generator(seed, problem.name, "instance"))
    values = []
    for position in generator(seed, problem.name, "random").random(
        (RANDOM_POINTS, problem.space.dimension)
    ):
        try:
            values.append(function(problem.space.decode(position)))
        except ArithmeticError:
            values.append(math.inf)
    return function, float(np.median(values))


def scores(
    problem: Problem, sampler: Sampler, seed: int, generations: int, checkpoints: Sequence[int]
) -> list[float]:
    """Return the score after each of so many evaluations."""
    function, median = instance_of(problem, seed)
    noise = iter(generator(seed, problem.name, "noise").normal(size=10_000))
    observed: list[tuple[float, float]] = []

    def evaluate(params: Params) -> float:
        error = float(next(noise)) * problem.noise * median
        try:
            value = function(params)
        except ArithmeticError:
            observed.append((math.inf, median))
            raise
        observed.append((value + error, value))
        return value + error

    drive(sampler, problem.space, evaluate, generations)
    regrets = [min(observed[:count])[1] / median for count in checkpoints]
    return [math.log10(max(regret, 10.0**FLOOR)) for regret in regrets]


def compared(
    names: Sequence[str],
    problems: Sequence[Problem],
    seeds: Sequence[int],
    particles: int,
    batch: int,
    generations: int,
    checkpoints: Sequence[int],
) -> tuple[Array, Mapping[str, float]]:
    """Return the scores (samplers, problems, seeds, checkpoints), and seconds a batch."""
    table = np.empty((len(names), len(problems), len(seeds), len(checkpoints)))
    seconds = dict.fromkeys(names, 0.0)
    for n, name in enumerate(names):
        for p, problem in enumerate(problems):
            for s, seed in enumerate(seeds):
                made = load_name(SAMPLERS[name], "sampler")
                timed = Timed(made(seed, particles, batch, generations))
                table[n, p, s] = scores(problem, timed, seed, generations, checkpoints)
                seconds[name] += timed.seconds
        seconds[name] /= len(problems) * len(seeds) * generations
    return table, seconds


def report(
    names: Sequence[str],
    problems: Sequence[Problem],
    checkpoints: Sequence[int],
    table: Array,
    seconds: Mapping[str, float],
) -> None:
    at = "  ".join(f"@{count}" for count in checkpoints)
    print(f"\nmean score {at}, and at the end by problem")
    for n, name in enumerate(names):
        means = " ".join(f"{mean:6.2f}" for mean in table[n].mean(axis=(0, 1)))
        by_problem = " ".join(f"{mean:5.1f}" for mean in table[n, :, :, -1].mean(axis=1))
        print(f"{name:12s} {means} | {by_problem}")
    print("problems: " + ", ".join(problem.name for problem in problems))
    print(f"\n{names[0]} against: wins-ties-losses and mean difference {at}; seconds a batch")
    for n, name in enumerate(names):
        off = table[0] - table[n]
        cells = [
            f"{np.sum(d < -TIE):3d}-{np.sum(np.abs(d) <= TIE)}-{np.sum(d > TIE)} {d.mean():+.2f}"
            for d in np.moveaxis(off, -1, 0)
        ]
        print(f"{name:12s} {'   '.join(cells) if n else '':60s} {seconds[name]:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samplers", default="pso,pso-classic,pyswarms,random,qmc,tpe,cmaes")
    parser.add_argument("--problems", default="", help="parts of names, by comma")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--particles", type=int, default=0, help="as the batch unless said")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="five problems, one seed, 50 each")
    parser.add_argument("--save", default="", help="keep the scores in this .npy")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    parts = asked.problems.split(",")
    problems = [p for p in PROBLEMS if any(part in p.name for part in parts)]
    seeds, evaluations = asked.seeds, asked.evaluations
    if asked.quick:
        problems, seeds, evaluations = [p for p in PROBLEMS if p.name in QUICK], 1, 50
    batch = asked.batch
    generations = evaluations // batch
    checkpoints = sorted({max(batch, generations * k // 4 * batch) for k in (1, 2, 4)})
    names = asked.samplers.split(",")
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
          f"numpy {np.__version__}, Optuna {optuna.__version__}")  # fmt: skip
    print(f"{len(problems)} problems x {seeds} seeds, batches of {batch}")
    numbers = range(asked.first_seed, asked.first_seed + seeds)
    particles = asked.particles or batch
    table, seconds = compared(names, problems, numbers, particles, batch, generations, checkpoints)
    if asked.save:
        np.save(asked.save, table)
    report(names, problems, checkpoints, table, seconds)


if __name__ == "__main__":
    main()
