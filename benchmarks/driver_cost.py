"""What the driver itself takes of a generation, while all devices wait: proposing and storing.

    python benchmarks/driver_cost.py [--sampler NAME …] [--batch 64 512 4096]
                                     [--generations 5] [--chunk 16] [--url URL] [--json]

A real search of a space of 10 knobs, by the program's own loop, into a real journal or the
database at --url; only the training is none: outcomes are a formula's, each with a curve of ten
points and six metrics, as a training of `digits` has, and come in chunks of --chunk. Seconds of
wall time for each step of the loop; a median leaves the first two generations out, in which
nothing is modelled. `chunk` is what recording one chunk takes: the last of a generation is all
that devices wait for, since the others are recorded while later ones still train.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from pso_attn.evaluate.generations import Chunks, plan_generation
from pso_attn.evaluate.trainings import Trainings
from pso_attn.search import Search, run_search
from pso_attn.space import Knob, Space
from pso_attn.store import OptunaStore, RunFolder
from pso_attn.swarm import ClassicSwarm, ScreenedSwarm
from pso_attn.testing.spaces import space_of
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Objective,
    Outcome,
    Proposal,
    Sampler,
    State,
    Store,
)

STEPS = ("propose", "plan", "begin", "record", "history")
WAITED_FOR = ("propose", "plan", "begin", "history", "chunk")
LOSS = (Objective("loss", "minimize"),)
NOTHING_MODELLED = 2  # generations
KNOBS = [
    *(Knob(f"x{i}", "float", "A number.", low=-1.0, high=1.0, default=0.0) for i in range(4)),
    Knob("lr", "float", "A rate.", low=1e-4, high=1e-1, log=True, default=1e-2),
    Knob("window", "int", "A count.", low=2, high=64, log=True, default=8),
    Knob("width", "int", "A count.", low=8, high=128, default=32),
    Knob("heads", "ordered", "A size.", choices=(1, 2, 4, 8), default=4),
    Knob("kind", "categorical", "A label.", choices=("a", "b", "c"), default="a"),
    Knob("gate", "bool", "A switch.", choices=(False, True), default=False),
]
SAMPLERS = {"pso": ScreenedSwarm, "pso-classic": ClassicSwarm}
Times = dict[str, list[float]]


def loss_of(candidate: Candidate) -> float:
    """Return a bowl's value, with a little that no model can learn."""
    wave = float(np.sin(50.0 * candidate.position).mean())
    return float(np.sum((candidate.position - 0.3) ** 2)) + 0.02 * wave


class Formula:
    """An evaluator whose trainings take no time."""

    def __init__(self, space: Space, batch: int, chunk: int) -> None:
        self.space, self.batch, self.chunk = space, batch, chunk
        self.trainings = Trainings()

    def plan(self, proposal: Proposal, history: History) -> Generation:
        budget = Budget(batch=self.batch)
        return plan_generation(
            self.space, budget, 0, proposal, history, lambda _: {}, self._chunks, self.trainings
        )

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        trials = [candidate.trial for candidate in trained]
        cuts = range(0, len(trials), self.chunk)
        return tuple(tuple(trials[cut : cut + self.chunk]) for cut in cuts)

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        for candidate in generation.candidates:
            loss = loss_of(candidate)
            curve = {step: loss + 1.0 / step for step in range(30, 301, 30)}
            names = ("loss", "accuracy", "f1", "parameters", "flops", "memory_bytes")
            metrics: Mapping[str, float] = dict.fromkeys(names, loss)
            trial = candidate.trial
            yield Outcome(trial, State.COMPLETE, (loss,), curve, metrics, 1.0, 1.0)


class Timed:
    """Something of the search's whose calls are timed, each under its name."""

    def __init__(self, inner: Sampler | Store | Formula, times: Times) -> None:
        self._inner, self._times = inner, times

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in STEPS:
            return method

        def timed(*arguments: Any) -> Any:
            start, cpu = time.perf_counter(), time.process_time()
            answer = method(*arguments)
            self._times[name].append(time.perf_counter() - start)
            self._times[f"{name} CPU"].append(time.process_time() - cpu)
            return answer

        return timed


def measure(name: str, batch: int, generations: int, chunk: int, url: str | None) -> Times:
    """Return the seconds of each step, one for each generation; of `chunk`, for each chunk."""
    space, times = space_of(KNOBS), defaultdict(list)
    sampler = SAMPLERS[name](0, batch, batch, generations)
    evaluator = Formula(space, batch, chunk)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(Path(place), f"{name}-{batch}", {}, {})
        with OptunaStore.create(url, folder, space, LOSS, {}) as store:
            search = Search(space, generations)
            parts = [Timed(part, times) for part in (sampler, evaluator, store)]
            run_search(search, *parts)
    found = {}
    for clock in ("", " CPU"):
        records = np.array(times["record" + clock]).reshape(generations, -1)  # a column a chunk
        found |= {step + clock: times[step + clock][-generations:] for step in STEPS}
        found["record" + clock] = records.sum(axis=1).tolist()
        found["chunk" + clock] = records.mean(axis=1).tolist()
    return found


def summary(times: Times) -> dict[str, dict[str, float]]:
    """Return the median, the least and the greatest of each step, and of what devices wait for."""
    late = {step: taken[NOTHING_MODELLED:] for step, taken in times.items()}
    for total, steps in (("all", STEPS), ("waited for", WAITED_FOR)):
        for clock in ("", " CPU"):
            parts = (late[step + clock] for step in steps)
            late[total + clock] = [sum(taken) for taken in zip(*parts, strict=True)]
    return {
        step: {
            "median": round(statistics.median(taken), 4),
            "least": round(min(taken), 4),
            "greatest": round(max(taken), 4),
        }
        for step, taken in late.items()
    }


def main() -> None:
    """Print a line for each sampler and size, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--batch", nargs="+", type=int, default=[64, 512, 4096])
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--url", help="an Optuna storage in place of a journal")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.generations <= NOTHING_MODELLED:
        parser.error(f"--generations {options.generations}: give {NOTHING_MODELLED + 1} or more")
    found: dict[str, Any] = {}
    if not options.json:
        print(f"{platform.processor() or platform.machine()}, optuna {optuna.__version__}")
        columns = (*STEPS, "all", "waited for", "all CPU", "waited for CPU")
        print(" ".join([f"{'seconds a generation':24}", *(f"{c:>14}" for c in columns)]))
    for name in options.sampler:
        for batch in options.batch:
            times = measure(name, batch, options.generations, options.chunk, options.url)
            figures = summary(times)
            found[f"{name}, {batch}"] = figures
            if not options.json:
                row = [f"{figures[column]['median']:14.4f}" for column in columns]
                print(" ".join([f"{f'{name}, {batch}':24}", *row]), flush=True)
    if options.json:
        print(json.dumps({"schema": 1, "seconds": found}))


if __name__ == "__main__":
    main()
