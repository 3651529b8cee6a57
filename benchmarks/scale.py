"""Which design keeps 8 to 4,096 GPUs busy, and what that costs in quality: a simulation.

    python benchmarks/scale.py [--gpus 8 64 512 4096] [--sampler pso-classic] [--repeats 3]
                               [--problems NAME …] [--moves 12] [--json]

Real samplers, real functions (`optimisers/made_up.py`), simulated seconds. A GPU trains one
particle at a time. How long: what trainings of random settings of the spaces `digits` and `text`
take here (`scale_seconds.py`), in units of their median, times a straggler's factor:

    none    1
    rare    10 for one training in a hundred
    tail    median 1, 95th percentile 5, 99th 10, never above 20: a random leaf's in table 1 of
            Dean & Barroso (2013), The Tail at Scale, CACM 56 (2)

Designs, all of as many evaluations, G times --moves:

    synchronous  a generation of G; the next is proposed when all of it is finished
    backups      the same, but once half of a generation is finished, every training that takes
                 longer than LATE times their median is begun again on an idle GPU, and the first
                 of the two that ends counts, as in `evaluate/executors/attempts.py`: the same
                 floats, "backup tasks" (Dean & Ghemawat 2004, MapReduce, section 3.6)
    overlapped   a swarm of G in batches of G / 8, each proposed once as many GPUs are idle, while
                 stragglers train on. It sees all of every batch but the last 16 (two moves of the
                 swarm), and waits for those it must see. Of the last 16 it sees what is finished;
                 for the rest `pso` is told the median loss (Ginsbourger et al. 2010, "constant
                 liar"), and `pso-classic` a failure, which moves a particle and is nobody's best
    islands      8 synchronous swarms (2 of 8 GPUs) on clocks of their own; after every 4th
                 generation the best that the island before it on a ring has by then replaces
                 the worst trial of that generation

Printed: utilisation, the share of the GPUs' time that goes into trainings that count; score at the
end (log10 of regret / a random point's, lower is better); all seconds, and those until the quality
that all designs of the repeat reach, in medians of a training. Mean and standard deviation over
problems and repeats. The driver's own time is left out (`driver_cost.py`).
"""

import argparse
import copy
import heapq
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scale_seconds import measured_seconds

from pso_attn.evaluate.executors.attempts import LATE
from pso_attn.seeding import generator
from pso_attn.swarm import ClassicSwarm, ScreenedSwarm
from pso_attn.testing.driving import MINIMISED, finished
from pso_attn.types import Array, History, Proposal, Trial

sys.path.append(str(Path(__file__).with_name("optimisers")))
from made_up import problems
from problem import FLOOR, Problem, realised

SAMPLERS: dict[str, Any] = {"pso": ScreenedSwarm, "pso-classic": ClassicSwarm}
STRAGGLERS = ("none", "rare", "tail")
TAIL = ((0.0, 1.0), (0.5, 1.0), (0.95, 5.0), (0.99, 10.0), (1.0, 20.0))  # share, factor
OVERLAP, LAG = 8, 16  # batches of a swarm, batches that a proposal may not have seen
ISLANDS, SMALLEST_ISLAND, MIGRATION = 8, 4, 4


@dataclass(frozen=True, eq=False)
class Work:
    """One search to simulate.

    seconds: (evaluations,), how long each training takes. again: (evaluations,), and how long it
    takes where it is begun a second time.
    """

    problem: Problem
    sampler: str
    gpus: int
    moves: int
    seed: int
    seconds: Array
    again: Array

    def swarm(self, particles: int, batch: int, seed: int) -> Any:
        return SAMPLERS[self.sampler](seed, particles, batch, self.moves * particles // batch)

    def trained(self, proposal: Proposal, generation: int, first: int) -> tuple[Trial, ...]:
        """Return what a proposal's trainings give, its trials numbered from `first`."""
        instance, space = realised(self.problem, self.seed)[0], self.problem.space
        trials = []
        for slot, (i, x) in enumerate(zip(proposal.particles, proposal.positions, strict=True)):
            params = space.decode(x)
            loss = instance.value(params) - instance.optimum
            trials.append(finished(generation, first + slot, i, x, loss, params=params))
        return tuple(trials)


@dataclass(frozen=True, eq=False)
class Trace:
    """What came of a search: (evaluations,) each, when trainings ended and their regrets.

    busy: seconds of all that count.
    """

    ends: Array
    regrets: Array
    busy: float

    def utilisation(self, work: Work) -> float:
        return self.busy / float(work.gpus * self.ends.max())

    def reached(self, regret: float) -> float:
        """Return when a regret was first reached."""
        return float(self.ends[self.regrets <= regret].min())


def synchronous(work: Work, has_backups: bool = False) -> Trace:
    swarm, history = work.swarm(work.gpus, work.gpus, work.seed), History(MINIMISED)
    now, busy, ends = 0.0, 0.0, []
    shape = (work.moves, -1)
    for first, second in zip(work.seconds.reshape(shape), work.again.reshape(shape), strict=True):
        history = _after(history, work, swarm.propose(work.problem.space, history))
        late = LATE * np.sort(first)[len(first) // 2 - 1]
        is_late = has_backups & (late + second < first)
        took = np.where(is_late, late + second, first)
        busy += float(np.where(is_late, second, first).sum())
        ends.append(now + took)
        now = float(ends[-1].max())
    return Trace(np.concatenate(ends), _regrets(history.trials), busy)


def backups(work: Work) -> Trace:
    return synchronous(work, has_backups=True)


def overlapped(work: Work) -> Trace:
    batch, space = max(1, work.gpus // OVERLAP), work.problem.space
    swarm, history, whole = work.swarm(work.gpus, batch, work.seed), History(MINIMISED), 0
    idle_from, ends = np.zeros(work.gpus), list[Array]()
    for g, seconds in enumerate(work.seconds.reshape(-1, batch)):
        idle = np.argsort(idle_from, kind="stable")[:batch]
        now = float(idle_from[idle[-1]])
        if g > LAG:
            now = max(now, float(ends[g - LAG - 1].max()))
        while whole < g and ends[whole].max() <= now:
            whole += 1
        _fold(swarm, work, history.truncated(whole))  # what can never change again
        seen = _seen(history, ends, whole, now, work.sampler)
        history = _after(history, work, copy.copy(swarm).propose(space, seen))
        ends.append(now + seconds)
        idle_from[idle] = ends[-1]
    return Trace(np.concatenate(ends), _regrets(history.trials), float(work.seconds.sum()))


def islands(work: Work) -> Trace:
    count = min(ISLANDS, work.gpus // SMALLEST_ISLAND)
    size, space = work.gpus // count, work.problem.space
    swarms = [work.swarm(size, size, 1000 * work.seed + k) for k in range(count)]
    histories = [History(MINIMISED)] * count
    bests = [list[tuple[float, Trial]]() for _ in range(count)]  # (when, the best by then)
    clocks = [(0.0, k) for k in range(count)]
    seconds = work.seconds.reshape(count, work.moves, size)
    ends, regrets = np.empty_like(seconds), np.empty_like(seconds)
    while clocks:
        now, k = heapq.heappop(clocks)
        history, g = histories[k], len(histories[k])
        if g and g % MIGRATION == 0:
            came = [best for when, best in bests[k - 1] if when <= now]
            history = _with_migrant(history, came[-1]) if came else history
        histories[k] = _after(history, work, swarms[k].propose(space, history))
        ends[k, g] = now + seconds[k, g]
        regrets[k, g] = _regrets(histories[k].generations[g])
        now = float(ends[k, g].max())
        bests[k].append((now, min(histories[k].trials, key=_regret)))
        if g + 1 < work.moves:
            heapq.heappush(clocks, (now, k))
    return Trace(ends.ravel(), regrets.ravel(), float(work.seconds.sum()))


DESIGNS: dict[str, Callable[[Work], Trace]] = {
    "synchronous": synchronous,
    "backups": backups,
    "overlapped": overlapped,
    "islands": islands,
}


def straggling(kind: str, uniform: Array) -> Array:
    """Return the factors, (n,), of uniform deviates (n,)."""
    if kind == "rare":
        return np.where(uniform > 0.99, 10.0, 1.0)
    shares, factors = np.array(TAIL).T if kind == "tail" else (np.array([0.0, 1.0]), np.ones(2))
    return np.exp(np.interp(uniform, shares, np.log(factors)))


def _after(history: History, work: Work, proposal: Proposal) -> History:
    """Return the history with one more generation, trained."""
    number = len(history)
    trials = work.trained(proposal, number, number * len(proposal.particles))
    return History(history.objectives, (*history.generations, trials))


def _seen(
    history: History, ends: Sequence[Array], whole: int, now: float, sampler: str
) -> History:
    """Return the history as a proposal sees it: what still trains in it is a lie or a failure."""
    generations = list(history.generations)
    done = [t for g in range(whole) for t in generations[g]]
    window = range(whole, len(generations))
    for g in window:
        done += [t for t, end in zip(generations[g], ends[g], strict=True) if end <= now]
    lie = None
    if sampler == "pso" and done:
        lie = statistics.median(_regret(trial) for trial in done)
    for g in window:
        generations[g] = tuple(
            t if end <= now else finished(g, t.number, t.candidate.particle, t.position, lie)
            for t, end in zip(generations[g], ends[g], strict=True)
        )
    return History(history.objectives, tuple(generations))


def _with_migrant(history: History, migrant: Trial) -> History:
    """Return the history in which a migrant stands in the place of the last's worst trial."""
    *before, last = history.generations
    worst = max(last, key=_regret)
    i = worst.candidate.particle
    moved = finished(worst.generation, worst.number, i, migrant.position, _regret(migrant))
    swapped = tuple(moved if trial is worst else trial for trial in last)
    return History(history.objectives, (*before, swapped))


def _fold(swarm: Any, work: Work, history: History) -> None:
    """Bring a swarm's memory up to a history, so that a proposal folds the rest alone."""
    remember = swarm.ledger if work.sampler == "pso" else swarm.state
    remember(work.problem.space, history)


def _regret(trial: Trial) -> float:
    return trial.outcome.values[0] if trial.outcome.values else math.inf


def _regrets(trials: Sequence[Trial]) -> NDArray[np.float64]:
    return np.array([_regret(trial) for trial in trials])


def simulate(
    sampler: str, gpus: int, moves: int, chosen: Sequence[Problem], repeats: int, base: Array
) -> dict[str, dict[str, list[float]]]:
    """Return for each straggler and design the figures of all problems and repeats."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(repeats):
        rng = generator(seed, gpus, "scale")
        own = rng.choice(base, gpus * moves)
        luck, second_luck = rng.random((2, gpus * moves))
        for problem in chosen:
            median = realised(problem, seed)[1]
            for kind in STRAGGLERS:
                times = (own * straggling(kind, uniform) for uniform in (luck, second_luck))
                work = Work(problem, sampler, gpus, moves, seed, *times)
                traces = {name: design(work) for name, design in DESIGNS.items()}
                shared = max(float(trace.regrets.min()) for trace in traces.values())
                for name, trace in traces.items():
                    figures = found[f"{kind}, {name}"]
                    score = max(float(trace.regrets.min()) / median, 10.0**FLOOR)
                    figures["utilisation"].append(trace.utilisation(work))
                    figures["score"].append(math.log10(score))
                    figures["seconds"].append(float(trace.ends.max()))
                    figures["time to quality"].append(trace.reached(shared))
    return found


def main() -> None:
    """Print a line for each size, straggler and design, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = {problem.name: problem for problem in problems()}
    parser.add_argument("--gpus", nargs="+", type=int, default=[8, 64, 512, 4096])
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=["pso-classic"])
    parser.add_argument("--problems", nargs="+", choices=known, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--moves", type=int, default=12, help="of the whole swarm")
    parser.add_argument("--trainings", type=int, default=24, help="timed of each space")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for gpus in options.gpus:
        if gpus < OVERLAP or gpus % OVERLAP:
            parser.error(f"--gpus {gpus}: give a multiple of {OVERLAP}")
    chosen = [known[name] for name in options.problems or ["rosenbrock 6", "levy 8"]]
    base, spread = measured_seconds(options.trainings)
    document: dict[str, Any] = {"schema": 1, "trainings": spread, "simulated": {}}
    if not options.json:
        for space, figures in spread.items():
            print(f"{space}: seconds of a training / their median: {figures}")
    for sampler in options.sampler:
        for gpus in options.gpus:
            found = simulate(sampler, gpus, options.moves, chosen, options.repeats, base)
            document["simulated"][f"{sampler}, {gpus}"] = found
            if options.json:
                continue
            for case, figures in found.items():
                row = [
                    f"{name} {statistics.mean(values):7.2f} ± {statistics.pstdev(values):5.2f}"
                    for name, values in figures.items()
                ]
                print(f"{sampler}, {gpus:4}, {case:18}", "  ".join(row), flush=True)
    if options.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
