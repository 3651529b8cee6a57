"""What choosing a trial takes in anyone's Optuna study: `PSOSampler` beside Optuna's samplers.

    python benchmarks/study_seconds.py [--samplers pso,pso-classic,tpe,cmaes,random]
                                       [--trials 200,2000] [--dimension 10] [--repeats 5] [--json]

A study by `study.optimize`, in memory, of a bowl over floats. `--trials` were told at random
before, which all samplers are shown; then each is asked for `--asked` more, in turns. Milliseconds
of CPU a trial, everything included but what a study of `RandomSampler` takes as well: median over
repeats, and from the least to the most. The first trial after the change of sampler, which reads
all that is there, is left out.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler

import pso_attn
from pso_attn.swarm import VARIANTS

PEERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


def sampler_of(name: str, seed: int) -> BaseSampler:
    """Return one of Optuna's, or our swarm of ten particles."""
    if name in PEERS:
        return PEERS[name](seed)
    return pso_attn.PSOSampler(n_particles=10, seed=seed, variant=name)


def seconds(sampler: BaseSampler, trials: int, dimension: int, asked: int, seed: int) -> float:
    """Return the CPU seconds of a trial, that of its objective and its study included."""

    def bowl(trial: optuna.Trial) -> float:
        return sum((trial.suggest_float(f"x{k}", 0.0, 1.0) - 0.3) ** 2 for k in range(dimension))

    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    study.optimize(bowl, n_trials=trials)
    study.sampler = sampler
    study.optimize(bowl, n_trials=1)
    began = time.process_time()
    study.optimize(bowl, n_trials=asked)
    return (time.process_time() - began) / asked


def main() -> None:
    """Print a line for each sampler and size, or all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samplers", default="pso,pso-classic,tpe,cmaes,random")
    parser.add_argument("--trials", default="200,2000", help="told before, by comma")
    parser.add_argument("--dimension", type=int, default=10)
    parser.add_argument("--asked", type=int, default=10, help="trials that are timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the figures alone, on stdout")
    given = parser.parse_args()
    names = given.samplers.split(",")
    for name in set(names) - PEERS.keys() - VARIANTS.keys():
        parser.error(f"{name} is not a sampler; choose among {', '.join((*VARIANTS, *PEERS))}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    say = sys.stderr if given.json else sys.stdout
    print(f"{platform.machine()}, Optuna {optuna.__version__}, ms of CPU a trial", file=say)
    figures: dict[str, dict[str, list[float]]] = {}
    for trials in map(int, given.trials.split(",")):
        taken = defaultdict[str, list[float]](list)
        for repeat in range(given.repeats):
            empty = seconds(
                RandomSampler(seed=repeat), trials, given.dimension, given.asked, repeat
            )
            for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
                sampler = sampler_of(name, repeat)
                spent = seconds(sampler, trials, given.dimension, given.asked, repeat)
                taken[name].append(1e3 * (spent - empty))
        for name in names:
            each = sorted(taken[name])
            figures.setdefault(name, {})[str(trials)] = [
                statistics.median(each),
                each[0],
                each[-1],
            ]
            print(
                f"{trials:6d} trials  {name:12} {statistics.median(each):8.2f} "
                f"({each[0]:.2f} … {each[-1]:.2f})",
                file=say,
            )
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
