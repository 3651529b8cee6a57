"""What more workers gain, what Ray costs beside plain processes, and whether the driver grows.

    OMP_NUM_THREADS=1 python benchmarks/executors.py [--repeats 5] [--particles 8] [--json]
    OMP_NUM_THREADS=1 python benchmarks/executors.py --memory [--generations 1000] [--json]

Each way trains the same generation of `digits` in the same two chunks, in turns; starting workers
is not counted. speed-up: one worker's seconds / two workers'. overhead: Ray's seconds with two
workers / those of two processes, less 1. Beside them stands what the cores give at that moment, by
two processes that multiply matrices: on a machine that others use it is not 2.

The driver's memory is looked at while a search of an objective that costs nothing goes on, once in
the driver and once in two processes: what the history takes grows in both.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from pso_attn.config import configured
from pso_attn.driving import begin_run, prepare
from pso_attn.evaluate import TRAINING_KNOBS, SwarmEvaluator, SwarmTrainer
from pso_attn.evaluate.executors import Executor, LocalExecutor, ProcessExecutor, make_executor
from pso_attn.models import MODEL_KNOBS
from pso_attn.space import read_space
from pso_attn.tasks import make_task
from pso_attn.types import Budget, Generation, History, Objective, Outcome, Proposal

CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
WORKERS, SWARM, MULTIPLIED = 2, 4, 4000
SHAPE = {"d_model": 64, "layers": 2, "batch_size": 32}  # large enough to be compute-bound
LEAST_CHUNK_S = 5.0


def ways_compared(repeats: int, particles: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the seconds of a generation by way, and the two figures with their spread."""
    task = make_task("digits")
    space = read_space({"heads": [1, 2, 4], "lr": {}}, SHAPE, {**MODEL_KNOBS, **TRAINING_KNOBS})
    positions = np.random.default_rng(0).random((particles, space.dimension))
    proposal = Proposal(positions, tuple(range(particles)))

    def planned(steps: int, executor: Executor | None = None) -> tuple[SwarmEvaluator, Generation]:
        budget = Budget(particles, particles, 1, steps, rungs=(1.0,))
        two = LocalExecutor(SwarmTrainer(task, LOSS, budget, CPU), CPU, WORKERS)
        made = SwarmEvaluator(space, task, (LOSS,), budget, 0, CPU, executor=executor or two)
        plan = SwarmEvaluator(space, task, (LOSS,), budget, 0, CPU, executor=two)
        return made, plan.plan(proposal, History((LOSS,)))

    def seconds(evaluator: SwarmEvaluator, generation: Generation) -> float:
        start = time.perf_counter()
        events = list(evaluator.evaluate(generation, History((LOSS,)), lambda: False))
        assert all(isinstance(event, Outcome) and event.values for event in events)
        return time.perf_counter() - start

    steps = 50
    seconds(*planned(2))  # what only the first training does
    chunk_s = seconds(*planned(steps)) / WORKERS
    steps = int(steps * 1.6 * LEAST_CHUNK_S / chunk_s)  # a first look may find the cores busy
    budget = Budget(particles, particles, 1, steps, rungs=(1.0,))
    trainer = SwarmTrainer(task, LOSS, budget, CPU)
    found: dict[str, list[float]] = {"1 process": [], "2 processes": [], "Ray, 2 workers": []}
    with ExitStack() as stack:
        executors = [
            stack.enter_context(closing(made))
            for made in (
                ProcessExecutor(trainer, CPU, 1),
                ProcessExecutor(trainer, CPU, WORKERS),
                make_executor("ray", trainer, CPU, WORKERS),
            )
        ]
        ways = dict(zip(found, (planned(steps, one) for one in executors), strict=True))
        cores = stack.enter_context(ProcessPoolExecutor(WORKERS, get_context("spawn")))
        list(cores.map(multiply, [1] * WORKERS * 2))
        room: list[float] = []
        for repeat in range(repeats + 1):
            room.append(cores_gain(cores))
            for name in list(ways)[:: 1 if repeat % 2 else -1]:
                took = seconds(*ways[name])
                if repeat:  # the first one starts the workers
                    found[name].append(took)
            if repeat:
                said = ", ".join(f"{name} {times[-1]:.1f} s" for name, times in found.items())
                say(f"{repeat}/{repeats}: {said}; cores gave {room[-1]:.2f}")
    one, two, there = found.values()
    return {
        "steps": steps,
        "particles": particles,
        "shape": SHAPE,
        "seconds": found,
        "chunk_seconds": statistics.median(one) / WORKERS,
        "cores_gain": _spread(room[1:]),
        "speed_up": _spread([a / b for a, b in zip(one, two, strict=True)]),
        "ray_overhead": _spread([b / a - 1 for a, b in zip(two, there, strict=True)]),
    }


def cores_gain(cores: ProcessPoolExecutor) -> float:
    """Return how much more two processes that multiply matrices do at once than one: 2 at most."""
    took = []
    for count in (1, WORKERS):
        start = time.perf_counter()
        list(cores.map(multiply, [MULTIPLIED] * count))
        took.append(time.perf_counter() - start)
    return WORKERS * took[0] / took[1]


def multiply(times: int) -> None:
    """Multiply matrices on one thread."""
    torch.set_num_threads(1)
    matrix = torch.ones(256, 256) / 256
    for _ in range(times):
        matrix = matrix @ matrix


def free(settings: Any, trial: Any) -> float:
    """Return the distance to .3: an objective that costs nothing."""
    return float((settings["x"] - 0.3) ** 2)


def memory_watched(generations: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the driver's resident MiB at ten points of a search, in the driver and in workers.

    Each search has a driver of its own: what one has freed would hide what another takes.
    """
    found: dict[str, list[float]] = {}
    for executor in ("local", "processes"):
        with ProcessPoolExecutor(1, get_context("spawn")) as drivers:
            found[executor] = drivers.submit(watched, executor, generations).result()
        say(f"{executor}: {', '.join(f'{row:.0f}' for row in found[executor])} MiB")
    trials = 0.9 * generations * SWARM
    kept = {name: 1024 * (rows[-1] - rows[0]) / trials for name, rows in found.items()}
    return {"generations": generations, "mebibytes": found, "kibibytes_per_trial": kept}


def watched(executor: str, generations: int) -> list[float]:
    """Return the resident MiB of this process after each tenth of a search."""
    document = {
        "objective": "executors:free",
        "search": {"x": {"low": 0.0, "high": 1.0}},
        "budget": {"particles": SWARM, "generations": generations, "steps": 4},
    }
    flags = {"sampler": "random", "executor": executor}
    flags |= {"workers": WORKERS} if executor == "processes" else {}
    configuration = configured(document, "executors", Path(__file__).parent, (), flags)
    rows: list[float] = []

    def look(event: Any, history: History) -> None:
        if len(history) == (len(rows) + 1) * generations // 10 - 1:
            rows.append(psutil.Process().memory_info().rss / 2**20)

    with tempfile.TemporaryDirectory() as folder:
        parts = prepare(configuration, function=free)
        with begin_run(parts, "memory", Path(folder)) as driven:
            driven.run(float("inf"), observer=look)
    return rows


def _spread(ratios: list[float]) -> dict[str, float]:
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def _machine() -> dict[str, Any]:
    model = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in model.splitlines() if "model name" in line]
    versions = {name: version(name) for name in ("torch", "ray", "numpy")}
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(psutil.Process().cpu_affinity()),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        **versions,
    }


def main() -> None:
    """Print the machine, each round, and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--particles", type=int, default=8)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--generations", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    machine = _machine()
    say(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.memory:
        found = memory_watched(options.generations, say)
        kept = ", ".join(f"{name} {kib:.1f}" for name, kib in found["kibibytes_per_trial"].items())
        say(f"kept of each trial, KiB: {kept}")
    else:
        found = ways_compared(options.repeats, options.particles, say)
        gained, cost = found["speed_up"], found["ray_overhead"]
        say(f"chunks of {found['chunk_seconds']:.1f} s alone")
        say("cores gave {median:.2f} ({least:.2f} to {most:.2f})".format(**found["cores_gain"]))
        say("speed-up of 2 workers: {median:.2f} ({least:.2f} to {most:.2f})".format(**gained))
        say("overhead of Ray: {median:.1%} ({least:.1%} to {most:.1%})".format(**cost))
    if options.json:
        print(json.dumps({"schema": 1, "machine": machine, **found}, indent=1))


if __name__ == "__main__":
    main()
