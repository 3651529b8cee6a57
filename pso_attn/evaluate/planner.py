"""How a chunk is cut: predicted from a short calibration, which each machine keeps.

The calibration trains the chunk in several cuts, and some of its trainings alone as plain modules,
for a few steps. Beyond the first of them it takes a twentieth of what such chunks will take.
Helpers are tried where threads lose so much to each other that starting helpers pays. Others may
use the cores meanwhile: the first processes to need a calibration each take it, and the quickest
counts.
"""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path

import torch

from pso_attn import __version__
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.device import idle_threads, wait_for
from pso_attn.evaluate.graphs import WARM_UP
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.remote_tiles import HelperLost, Helpers
from pso_attn.evaluate.tiles import Cut, TiledTraining
from pso_attn.tasks.task import Task

TIMINGS = 3  # of a training, after a step that is not timed; the quickest counts
TIMED_S, MOST_STEPS = 0.01, 5  # of a timing on several threads, each of which is woken for it
CALIBRATED = WARM_UP + 1 + TIMINGS * MOST_STEPS  # steps that a training is begun for
LEAST, MOST, ALONE = 3, 8, "alone"  # how many trainings are timed alone; their key in the cache
ENOUGH, LOOKS = 3, "looks"  # processes that take a calibration; their number's key in the cache
SHARE = 0.05  # of the chunks' whole time that a calibration may take, but for what decides most
START_S = 2.0  # that helpers take to start, nearly all of it to load PyTorch
WORTHWHILE_STEPS = 50  # shorter trainings are cut by cores alone
CACHE = "pso-attn/calibration.json"

Known = dict[str, dict[str, dict[str, float]]]  # seconds by machine, calibration and cut


@dataclass(frozen=True)
class Forecast:
    """What was chosen for a chunk, and why.

    step_seconds: of one step of all trainings as cut, 0 where nothing was measured. alone_seconds:
    the same one after another as plain modules, on as many threads at once.
    """

    trainings: int
    cut: Cut
    step_seconds: float
    alone_seconds: float

    @property
    def gain(self) -> float | None:
        """How many times as fast as one by one this is; None where it was not measured."""
        return self.alone_seconds / self.step_seconds if self.step_seconds else None

    @property
    def words(self) -> str:
        """What was chosen, in words."""
        tiles, threads = self.cut.tiles, self.cut.threads
        size = ceil(self.trainings / tiles)
        words = f"{self.trainings} training{'s' * (self.trainings > 1)} at once"
        if tiles > 1:
            words = f"{self.trainings} trainings in {tiles} batches of {size}"
        kind = "process" if self.cut.apart else "thread"
        return f"{words} on {threads} {kind}{('es' if self.cut.apart else 's') * (threads > 1)}"

    def __str__(self) -> str:
        """Return what was chosen, and what it gains by what the machine's calibration says."""
        if self.gain is None:
            return self.words
        on_as_many = " on as many" if self.cut.threads > 1 else ""
        predicted = f"predicted {self.gain:.1f} times as fast as one by one{on_as_many}"
        return f"{self.words}: {predicted}"


class Planner:
    """Chooses cuts for the chunks of one task on one device.

    helpers: who trains what is cut apart; they end with the planner.
    """

    def __init__(self, task: Task, device: torch.device, cache: Path | None = None) -> None:
        """cache: the file that the machine's calibrations are kept in; by default the user's."""
        self._task, self._device = task, device
        self._cache = cache or _cache_file()
        self._known = _read(self._cache)
        self._taken: set[str] = set()
        self.helpers = Helpers(task)

    def forecast(
        self, members: Sequence[Member], steps: int, threads: int | None = None, times: int = 1
    ) -> Forecast:
        """Return the quickest cut for members who share a bucket and train for so many steps.

        threads: by default as many as there are idle cores now. times: how often chunks like this
        are to be trained, this one included.
        """
        count = len(members)
        if count == 1 or self._device.type == "cuda":  # there is nothing to choose
            return Forecast(count, Cut(), 0.0, 0.0)
        threads = min(count, threads or idle_threads(self._device))
        if steps < WORTHWHILE_STEPS:
            return Forecast(count, Cut(threads, threads), 0.0, 0.0)
        key = _signature(members, self._task, threads)
        cuts, known = _cuts(count, threads), self._of(key)
        leaves_time = SHARE * steps * times > (1 + TIMINGS) * len(cuts)  # to try every one
        needed = {ALONE, *map(str, cuts if leaves_time else cuts[:1])}
        is_enough = known.get(LOOKS, 0) >= ENOUGH and needed <= known.keys()
        takes = key not in self._taken and not is_enough
        if takes:
            known = self._note(key, self._measured(members, steps * times, threads), looks=1)
            self._taken.add(key)
        apart = Cut(threads, threads, apart=True)
        if self._is_worth_helpers(known, cuts, apart, steps * times):
            with suppress(HelperLost):
                if takes or str(apart) not in known:
                    known = self._note(key, {str(apart): self._step_seconds(members, apart)})
                cuts.append(apart)
        quickest = min(cuts, key=lambda cut: known.get(str(cut), inf))
        alone = known[ALONE] * ceil(count / threads)
        return Forecast(count, quickest, known[str(quickest)], alone)

    def quickest(self, ways: Mapping[str, Sequence[Member]]) -> str:
        """Return the name of those members whose step, as one batch, takes the least time.

        The ways differ in nothing but who computes: the answer is kept as calibrations are.
        """
        key = "; ".join(_signature(members, self._task, 1) for members in ways.values())
        known = self._of(key)
        if not known:
            times = {way: self._step_seconds(members, Cut()) for way, members in ways.items()}
            known = self._note(key, times)
        return min(ways, key=lambda way: known.get(way, inf))

    def _of(self, key: str) -> dict[str, float]:
        """Return what this process knows of a calibration; it may be added to."""
        return self._known.setdefault(_machine(self._device), {}).setdefault(key, {})

    def _note(self, key: str, measured: Mapping[str, float], looks: int = 0) -> dict[str, float]:
        """Keep what was measured, and what other processes have kept since; return all of a key.

        Of each cut the least that it ever took: whatever else ran only made it slower.
        """
        self._known = _merged(self._known, _read(self._cache))
        known = self._of(key)
        for name, seconds in measured.items():
            known[name] = min(seconds, known.get(name, inf))
        if looks:
            known[LOOKS] = known.get(LOOKS, 0) + looks
        _write(self._cache, self._known)
        return known

    def _measured(self, members: Sequence[Member], steps: int, threads: int) -> dict[str, float]:
        """Return the seconds of a step of all, by cut, and of one training alone.

        All in one go: how busy the machine is changes, and should change all of them alike.
        """
        known: dict[str, float] = {}
        began = time.perf_counter()

        def left_s() -> float:
            whole_s = steps * min(known.values(), default=inf)
            return SHARE * whole_s - (time.perf_counter() - began)

        for number, cut in enumerate(_cuts(len(members), threads)):
            if left_s() < 0 and number >= min(threads, 2):  # as tiles, and as one batch
                break
            known[str(cut)] = self._step_seconds(members, cut)
        return {**known, ALONE: self._alone_seconds(members, left_s())}

    def _is_worth_helpers(
        self, known: Mapping[str, float], cuts: Sequence[Cut], apart: Cut, steps: int
    ) -> bool:
        """Tell whether helpers gain more than it takes to start them; steps: of all trainings."""
        whole = known.get(str(Cut()), inf)  # of which each core could take its share
        spared = min(known.get(str(cut), inf) for cut in cuts)
        spared -= known.get(str(apart), whole / apart.threads)
        is_worth = spared * steps > (0 if self.helpers.are_running else START_S)
        return apart.threads > 1 and is_worth and self.helpers.start(apart.threads - 1)

    def _step_seconds(self, members: Sequence[Member], cut: Cut) -> float:
        task, device = self._task, self._device
        training = TiledTraining(task, members, CALIBRATED, device, cut, helpers=self.helpers)
        return _quickest_step(training, device, TIMED_S if cut.threads > 1 else 0.0)

    def _alone_seconds(self, members: Sequence[Member], within_s: float) -> float:
        """Return the mean of as many as can be timed in so long.

        Plain modules draw from torch's generator, which is left as it was.
        """

        def each(timed: Sequence[Member]) -> list[float]:
            task, device = self._task, self._device
            trainings = (AloneTraining(task, member, CALIBRATED, device) for member in timed)
            with torch.random.fork_rng([]):
                return [_quickest_step(training, device, 0.0) for training in trainings]

        began = time.perf_counter()
        times = each(sample(members, LEAST))
        each_s = (time.perf_counter() - began) / len(times)
        times += each(sample(members, min(MOST, int(within_s / each_s)) - LEAST))
        return sum(times) / len(times)


def sample(members: Sequence[Member], most: int = MOST) -> list[Member]:
    """Return some that take as long, in the mean, as all: of every kind its share."""
    ordered = sorted(members, key=lambda member: member.model.group)
    count = max(0, min(most, len(ordered)))
    return [ordered[(2 * part + 1) * len(ordered) // (2 * count)] for part in range(count)]


def _quickest_step(
    training: TiledTraining | AloneTraining, device: torch.device, timed_s: float
) -> float:
    """Return the seconds of a step; timed_s: that one timing takes at least, if steps are few.

    On a GPU steps are timed together and once they are recorded.
    """
    done = WARM_UP + 1 if device.type == "cuda" else 0
    training.advance(done)

    def seconds(steps: int) -> float:
        nonlocal done
        wait_for(device)
        start = time.perf_counter()
        done += steps
        training.advance(done)
        wait_for(device)
        return (time.perf_counter() - start) / steps

    steps = MOST_STEPS
    if device.type == "cpu":
        steps = max(1, min(MOST_STEPS, ceil(timed_s / seconds(1))))
    return min(seconds(steps) for _ in range(TIMINGS))


def _cuts(count: int, threads: int) -> list[Cut]:
    """Return the cuts worth a try: a tile for each thread, all at once, then smaller tiles."""
    cuts, tiles = [Cut(threads, threads)], 2 * threads
    if threads > 1:
        cuts.append(Cut(1, 1))
    while tiles <= count:
        cuts.append(Cut(tiles, threads))
        tiles *= 2
    return cuts


def _signature(members: Sequence[Member], task: Task, threads: int) -> str:
    """Return what trainings have in common that take about as long."""
    info, bucket = task.info, members[0].bucket
    # roundly, to a power of two: a swarm has another number of shapes in each generation
    groups = 1 << (len({member.model.group for member in members}) - 1).bit_length()
    shape = f"T {info.length}, {info.outputs} outputs, {'tokens' if info.tokens else 'vectors'}"
    count = f"{len(members)} of up to {groups} shapes on {threads}"
    return f"{'x'.join(map(str, bucket))}, {shape}, {count}"


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = f"pso-attn {__version__}, torch {torch.__version__}"
    return f"{platform.node()}, {name}, {device}, {versions}"


def _cache_file() -> Path | None:
    """Return the user's cache file: in XDG_CACHE_HOME, or in ~/.cache; None without a home."""
    with suppress(RuntimeError):
        folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(folder) / CACHE
    return None


def _merged(one: Known, other: Known) -> Known:
    """Return what both know: of each cut the least, and as many looks as either has counted."""
    merged: Known = {}
    for known in (one, other):
        for machine, calibrations in known.items():
            for key, times in calibrations.items():
                into = merged.setdefault(machine, {}).setdefault(key, {})
                for name, value in times.items():
                    better = max if name == LOOKS else min
                    into[name] = better(value, into.get(name, value))
    return merged


def _read(file: Path | None) -> Known:
    """Return what the cache knows; nothing where it is missing or damaged."""
    if file is None:
        return {}
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(machine): {
                str(key): {str(size): float(s) for size, s in times.items() if 0 < float(s) < inf}
                for key, times in known.items()
                if len(times) > 1
            }
            for machine, known in read.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return {}


def _write(file: Path | None, known: Known) -> None:
    """Keep what is known; a machine that cannot keep it measures again."""
    if file is None:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
