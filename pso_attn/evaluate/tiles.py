"""The trainings of one chunk, cut into tiles that advance on threads or in processes of their own.

A tile is a batched job. A whole chunk in one tile spends least on each operation; smaller tiles
stay in the cores' caches, and several cores train several at once: by threads at no cost, or each
by a process, where threads would wait for one another's Python. No float depends on the cut: tiles
share the chunk's layout, and no operation mixes particles.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Event
from typing import TypeVar

import torch
from torch import Tensor

from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.remote_tiles import HelperLost, Helpers, RemoteTile
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import Layout, parameters_of
from pso_attn.tasks.task import Task

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cut:
    """How a chunk is cut: into so many tiles, of equal size, on so many threads.

    apart: each thread but this process's own has a helper, in which its one tile trains.
    """

    tiles: int = 1
    threads: int = 1
    apart: bool = False

    def __str__(self) -> str:
        """Return a short name."""
        return f"{self.tiles} on {self.threads}{' apart' * self.apart}"


class TiledTraining:
    """N trainings in tiles; positions count through the tiles, in their order."""

    def __init__(
        self,
        task: Task,
        members: Sequence[Member],
        steps: int,
        device: torch.device,
        cut: Cut,
        dtype: torch.dtype = torch.float32,
        helpers: Helpers | None = None,
    ) -> None:
        """Start the members, who share a bucket, from their seeds; `steps` is the full budget.

        helpers: of the task, for a cut that asks for them.
        """
        # neighbours in this order share kernels, so a run of them has few, and cost alike; what
        # trains apart cannot be handed over, so there each tile gets some of every kind
        order = sorted(range(len(members)), key=lambda row: members[row].model.group)
        layout = Layout.of([tuple(parameters_of(member.model, task.info)) for member in members])
        self._tiles: list[tuple[list[int], SwarmTraining | RemoteTile]] = []
        parts = dealt(order, cut.tiles) if cut.apart else even_parts(order, cut.tiles)
        for place, rows in enumerate(parts):
            placed = [members[row] for row in rows]
            tile: SwarmTraining | RemoteTile
            if cut.apart and place:
                assert helpers is not None
                tile = helpers.tile(place, placed, steps, dtype, layout)
            else:
                tile = SwarmTraining(task, placed, steps, device, dtype, layout)
            self._tiles.append((rows, tile))
        self._threads = cut.threads

    @property
    def rows(self) -> list[int]:
        """Which of the members stands at each position."""
        return [rows[row] for rows, tile in self._tiles for row in tile.rows]

    def advance(self, until: int, on_step: Callable[[int], None] | None = None) -> None:
        """Train all up to step `until`; on_step hears, on this thread, of their mean step."""
        done = [tile.step for _, tile in self._tiles]
        stop = Event()

        def advance(index: int, is_here: bool) -> None:
            def step(count: int) -> None:
                if stop.is_set():
                    raise _Stopped
                done[index] = count
                if is_here and on_step is not None:
                    on_step(sum(done) // len(done))

            self._tiles[index][1].advance(until, step)

        self._each(advance, stop)

    def score(self, split: str = "validation") -> list[dict[str, float]]:
        """Return the task's metrics on a split for each position."""
        scores = self._each(lambda index, _: self._tiles[index][1].score(split), Event())
        return [score for tile in scores for score in tile]

    def first_bad_steps(self) -> list[int | None]:
        """Return for each position the first step, from 1, whose training loss was not finite."""
        return [step for _, tile in self._tiles for step in tile.first_bad_steps()]

    def true_parameters(self, position: int) -> dict[str, Tensor]:
        """Return copies of the stand-alone model's parameters of one particle."""
        for _, tile in self._tiles:
            if position < len(tile.rows):
                return tile.true_parameters(position)
            position -= len(tile.rows)
        raise IndexError(position)

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with these positions alone, in ascending order; schedules stay as they were."""
        first, tiles = 0, []
        for rows, tile in self._tiles:
            size = len(tile.rows)
            staying = [p - first for p in positions if first <= p < first + size]
            first += size
            if staying:
                if len(staying) < size:
                    tile.keep(staying)
                tiles.append((rows, tile))
        self._tiles = tiles

    @one_thread()
    def _each(self, work: Callable[[int, bool], Result], stop: Event) -> list[Result]:
        """Return what `work` gives for each tile, on all threads; it hears whether on this one."""
        waiting = deque(range(len(self._tiles)))
        results: dict[int, Result] = {}

        def serve(is_here: bool) -> None:
            while waiting:
                try:  # helpers' tiles are the last: this thread trains the first
                    index = waiting.popleft() if is_here else waiting.pop()
                except IndexError:  # another thread was quicker
                    return
                results[index] = work(index, is_here)

        failures: list[BaseException] = []

        def serve_or_stop(is_here: bool) -> None:
            try:
                serve(is_here)
            except _Stopped:
                pass
            except BaseException as error:  # raised again below, when all threads have stopped
                failures.append(error)
                waiting.clear()
                stop.set()

        others = min(self._threads, len(self._tiles)) - 1
        try:
            with ThreadPoolExecutor(max(others, 1), "tile") as pool:
                for _ in range(others):
                    pool.submit(serve_or_stop, False)
                serve_or_stop(True)
        finally:  # an interrupt may arrive while this waits for the others
            waiting.clear()
            stop.set()
        try:
            if failures:
                raise failures[0]
        finally:  # else the error's frames and this list hold each other, and all tensors
            failures.clear()
        return [results[index] for index in range(len(self._tiles))]


class _Stopped(Exception):
    """Ends a tile because another has failed or the program was interrupted."""


def with_helpers(cut: Cut, train: Callable[[Cut], Result]) -> Result:
    """Return what training by a cut gives; by threads, which is the same, where a helper ends."""
    with suppress(HelperLost):
        return train(cut)
    return train(replace(cut, apart=False))  # once the error lets go of what it ended


def dealt(rows: Sequence[int], count: int) -> list[list[int]]:
    """Return the rows dealt like cards to so many tiles; none is empty."""
    count = min(count, len(rows))
    return [list(rows[part::count]) for part in range(count)]


def even_parts(rows: Sequence[int], count: int) -> list[list[int]]:
    """Return the rows in so many runs, whose lengths differ by one at most; none is empty."""
    count = min(count, len(rows))
    borders = [len(rows) * part // count for part in range(count + 1)]
    return [list(rows[a:b]) for a, b in pairwise(borders)]
