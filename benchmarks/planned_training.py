"""What the planner chooses against what else could be done, on a grid of 12 sizes.

    python benchmarks/planned_training.py [--repeats 3]

For each size the time of a step of all trainings: as the planner cuts them, with a fresh
calibration; as one batch; one by one as plain modules; and one by one in one process on each
idle core. In turns, in the same run. A figure is the best of the others' time / the planner's: 1
or more where the planner's choice is the quickest.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
from batched_training import WORKS, Work, make_members, make_task

from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.device import idle_threads, wait_for
from pso_attn.evaluate.planner import Planner
from pso_attn.evaluate.tiles import Cut, TiledTraining

GRID = {
    **WORKS,
    "nano-4": Work(16, 8, 16, 2, 4),
    "mini-16": Work(32, 32, 32, 1, 16),
    "wide-8": Work(64, 16, 64, 2, 8),
    "wide-3": Work(32, 16, 128, 2, 3),
    "long-4": Work(16, 64, 64, 2, 4),
    "lm-16": Work(16, 32, 32, 2, 16, is_language_model=True),
    "lm-long-4": Work(8, 128, 64, 2, 4, is_language_model=True),
    "lm-wide-4": Work(8, 64, 128, 2, 4, is_language_model=True),
}
STEPS, WARM_UP = 3, 1  # timed at least, untimed before
SEARCH_STEPS, GENERATIONS = 300, 10  # of the search that is planned
SECONDS = 0.06  # that the planned way trains at least
CPU = torch.device("cpu")


def compare(work: Work, cores: int, repeats: int, cache: Path) -> tuple[str, dict[str, float]]:
    """Return what the planner says, and the seconds of a step of each way, in the median."""
    task = make_task(work)
    members = make_members(work, task)
    planner = Planner(task, CPU, cache)
    forecast = planner.forecast(members, SEARCH_STEPS, cores, GENERATIONS)
    steps = max(STEPS, round(SECONDS / forecast.step_seconds))
    total = WARM_UP + repeats * steps
    planned = TiledTraining(task, members, total, CPU, forecast.cut, helpers=planner.helpers)
    batch = TiledTraining(task, members, total, CPU, Cut())
    alone = [AloneTraining(task, member, total, CPU) for member in members]

    def one_by_one(until: int) -> None:
        for training in alone:
            training.advance(until)

    ways: dict[str, Callable[[int], None]] = {
        "planned": planned.advance,
        "one batch": batch.advance,
        "one by one": one_by_one,
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    with Processes(work, cores, total) as processes:
        if cores > 1:
            ways["processes"] = processes.advance
            found["processes"] = []
        for way in ways.values():
            way(WARM_UP)
        for repeat in range(repeats):
            until = WARM_UP + (repeat + 1) * steps
            first = repeat % len(ways)  # each way takes each place
            for name in [*ways, *ways][first : first + len(ways)]:
                start = time.perf_counter()
                ways[name](until)
                found[name].append((time.perf_counter() - start) / steps)
    return str(forecast), {name: statistics.median(times) for name, times in found.items()}


class Processes:
    """The trainings one by one in as many processes, each with its share of them."""

    def __init__(self, work: Work, count: int, total: int, device: torch.device = CPU) -> None:
        """count: of processes; none are started for one. device: the one that they share."""
        context = multiprocessing.get_context("spawn")
        self._barrier = context.Barrier(count + 1)
        self._until = context.Value("i", 0)
        shares = range(count if count > 1 else 0)
        self._all = [
            context.Process(
                target=_serve,
                args=(work, share, count, total, self._barrier, self._until, str(device)),
            )
            for share in shares
        ]

    def __enter__(self) -> "Processes":
        """Start them."""
        for process in self._all:
            process.start()
        return self

    def advance(self, until: int) -> None:
        """Train all up to step `until`."""
        self._until.value = until
        self._barrier.wait()  # they begin
        self._barrier.wait()  # they have ended

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for them; after an error none of them waits for more."""
        if kind is not None:
            self._barrier.abort()
        for process in self._all:
            process.join()


def _serve(
    work: Work,
    share: int,
    count: int,
    total: int,
    barrier: Barrier,
    until: "_Int",
    device_name: str,
) -> None:
    torch.set_num_threads(1)
    task, device, done = make_task(work), torch.device(device_name), 0
    try:
        members = make_members(work, task)[share::count]
        trainings = [AloneTraining(task, member, total, device) for member in members]
        while done < total:
            barrier.wait()
            done = until.value
            for training in trainings:
                training.advance(done)
            wait_for(device)
            barrier.wait()
    except BaseException:
        barrier.abort()  # nobody waits for a process that has ended
        raise


class _Int:
    """A shared integer, as multiprocessing types it."""

    value: int


def worst(repeats: int, say: Callable[[str], None]) -> float:
    """Return the least figure of the grid; say: hears a line for each size."""
    least = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "calibration.json"
        for name, work in GRID.items():
            words, seconds = compare(work, idle_threads(CPU), repeats, cache)
            planned = seconds.pop("planned")
            figure = min(seconds.values()) / planned
            least = min(least, figure)
            others = ", ".join(f"{way} {1e3 * value:.0f}" for way, value in seconds.items())
            say(f"{name:10} {figure:5.2f}  planned {1e3 * planned:.0f} ms, {others}; {words}")
    return least


def main() -> None:
    """Print a line for each size, and the least figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"worst: {worst(options.repeats, lambda line: print(line, flush=True)):.2f}")


if __name__ == "__main__":
    main()
