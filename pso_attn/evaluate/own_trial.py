"""What an objective of one's own is handed for each training, and the rungs that it is judged at.

The rung rule is the one of `rungs.py`. A chunk of one particle compares it with what earlier
generations stored alone; in a chunk of several, which an objective that takes lists trains, a rung
is decided once all that still train have reported there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from pso_attn.evaluate.own_code import OwnCodeError, read_number
from pso_attn.evaluate.rungs import Earlier, leavers, rung_steps
from pso_attn.types import Budget, Objective


@dataclass(eq=False)
class Run:
    """One training of a chunk's candidate. curve: step -> value, as reported.

    reached: the last step reported. is_told: whether it heard that it should leave.
    """

    candidate: int
    curve: dict[int, float] = field(default_factory=dict)
    reached: int = -1
    is_told: bool = False


class Ladder:
    """The rungs of one chunk: what its trainings report, and which of its candidates leave."""

    def __init__(
        self,
        budget: Budget,
        objective: Objective,
        earlier: Mapping[int, Earlier] | None,
    ) -> None:
        """earlier: step of a rung -> what earlier generations lost there; None: nobody leaves."""
        self.steps, self._objective = budget.steps, objective
        self._rungs = () if earlier is None else rung_steps(budget)
        self._earlier = earlier or {}
        self.runs: list[Run] = []
        self._left: set[int] = set()

    def enter(self, candidate: int) -> Run:
        """Return a new training of a candidate of the chunk."""
        self.runs.append(Run(candidate))
        return self.runs[-1]

    def report(self, run: Run, step: int, value: float) -> None:
        """Take note of a value; the first at a rung or beyond, below the next, is the rung's."""
        passed = [r for r in (*self._rungs, self.steps) if run.reached < r <= step]
        run.curve[passed[-1] if passed else step] = value
        run.reached = step
        for rung in passed:
            if rung < self.steps:
                self._decide(rung)

    def leaves(self, run: Run) -> bool:
        """Tell whether a training's candidate leaves."""
        return run.candidate in self._left

    def _decide(self, rung: int) -> None:
        """Let the worst leave, once nobody who still trains is on the way to the rung."""
        going = [run for run in self.runs if run.candidate not in self._left]
        if any(run.reached < rung for run in going):
            return
        there: dict[int, list[float]] = {}
        for run in going:
            if rung in run.curve:
                there.setdefault(run.candidate, []).append(run.curve[rung])
        losses = [self._objective.loss(sum(v) / len(v)) for v in there.values()]
        verdicts = leavers(losses, self._earlier.get(rung, Earlier()))
        self._left |= {c for c, leaves in zip(there, verdicts, strict=True) if leaves}


class OwnTrial:
    """One training, as its objective sees it.

    seed: of everything random in it. device: where to train. split: "validation" in a search,
    "test" where it is confirmed: what to score on. steps: the full budget, on whose scale `report`
    counts. fidelity: those steps as a share of the search's.
    """

    def __init__(
        self,
        ladder: Ladder,
        candidate: int,
        seed: int,
        device: torch.device,
        folder: Path,
        split: str = "validation",
        fidelity: float = 1.0,
    ) -> None:
        """folder: where it may keep files."""
        self.seed, self.device, self.split, self.fidelity = seed, device, split, fidelity
        self.steps = ladder.steps
        self.run = ladder.enter(candidate)
        self._ladder, self._folder = ladder, folder

    @property
    def checkpoint_dir(self) -> Path:
        """A folder of its own, there from the first time that it is asked for.

        What an interrupted attempt at the same training left in it is still there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def report(self, step: int, value: Any) -> None:
        """Say how good it is after so many steps: the objective, on the validation split.

        Steps ascend, and end at `steps`. Raises OwnCodeError, which fails the particle, for other
        steps and for a value that is not a finite number.
        """
        number, count = read_number(value), read_number(step)
        if count is None or not count.is_integer() or not self.run.reached < count:
            after = f" after step {self.run.reached}" if self.run.reached >= 0 else ""
            raise OwnCodeError(
                f"reported step {step}{after}; expected ascending whole numbers from 0"
            )
        if count > self.steps:
            raise OwnCodeError(
                f"reported step {step}, beyond the {self.steps} of the budget; set budget.steps "
                "to the steps of a whole training"
            )
        if number is None or not isfinite(number):
            said = type(value).__name__ if number is None else number
            raise OwnCodeError(f"reported {said} at step {step}, not a finite number")
        self._ladder.report(self.run, int(count), number)

    def should_prune(self) -> bool:
        """Tell whether to stop here: what is returned after a yes is not looked at."""
        if self._ladder.leaves(self.run):
            self.run.is_told = True
        return self.run.is_told


def curve_of(runs: Sequence[Run]) -> dict[int, float]:
    """Return the mean curve of one candidate's trainings, at the steps that all of them reported.

    Where one was told to leave, at those of its own, over the trainings that were there.
    """
    told = next((run for run in runs if run.is_told), None)
    if told is not None and not told.curve:  # it left before it reported: an earlier one's curve
        told = max(runs, key=lambda run: len(run.curve))
    common = set.intersection(*(set(run.curve) for run in runs))
    steps = sorted(common if told is None else told.curve)
    means = {}
    for step in steps:
        values = [run.curve[step] for run in runs if step in run.curve]
        means[step] = sum(values) / len(values)
    return means
