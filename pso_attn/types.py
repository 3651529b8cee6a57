"""The records that flow through a search, and the protocols of those who handle them.

Proposal ──plan──> Generation of Candidates ──evaluate──> Outcomes ──store──> Trials, History
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scalar = bool | int | float | str
Params = Mapping[str, Scalar]  # flat: {"heads": 4, "temperature.0": 1.0}; active knobs only
Settings = Mapping[str, Any]  # nested: {"heads": 4, "temperature": [1.0, 2.0], "d_model": 32, …}
Direction = Literal["minimize", "maximize"]


class State(StrEnum):
    """How an evaluation ended; the names are Optuna's."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Objective:
    """What is optimised: the name of the loss or of a metric, and which way is better."""

    name: str
    direction: Direction

    def loss(self, value: float) -> float:
        """Return `value` as a loss: lower is better."""
        return -value if self.direction == "maximize" else value


MOST_PARTICLES = 100_000  # of a swarm


@dataclass(frozen=True)
class Budget:
    """How much is spent. Validated where it is read (`pso_attn.config`).

    particles: size of the swarm. batch: how many move and train at once, at most `particles`.
    generations: batches proposed. steps: optimiser steps of one training. rungs: fractions of
    the steps, ascending and ending at 1, at which particles in the worst third leave.
    seeds: trainings per evaluation. common_random_numbers: whether particles share their seeds.
    """

    particles: int = 16
    batch: int = 16
    generations: int = 10
    steps: int = 300
    rungs: tuple[float, ...] = (0.25, 0.5, 1.0)
    seeds: int = 1
    common_random_numbers: bool = True


@dataclass(frozen=True, eq=False)
class Proposal:
    """Where a sampler wants to look next.

    positions: (B, D) in the unit cube. particles: the member of the swarm that takes each slot.
    """

    positions: Array
    particles: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One slot of a generation, as planned: what to train, and with which seeds.

    position: (D,), after constraint repair and before rounding; decoding it gives `params`.
    violations: expression -> amount (> 0); not empty means infeasible, and it is not trained.
    """

    trial: int
    particle: int
    position: Array
    params: Params
    settings: Settings
    seeds: tuple[int, ...]
    violations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one evaluation gave.

    values: one per objective, each as itself (not negated); None unless COMPLETE or PRUNED.
    curve: training step -> first objective's value on the validation split, mean over seeds.
    metrics: parameters, flops, memory_bytes, and the task's validation metrics, mean over seeds.
    fidelity: fraction of the steps completed. seconds: the chunk's wall time / its particles.
    """

    trial: int
    state: State
    values: tuple[float, ...] | None
    curve: Mapping[int, float]
    metrics: Mapping[str, float]
    seconds: float
    fidelity: float
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Generation:
    """One batch, proposed and trained together.

    chunks: trial numbers that share one batched job, in the order in which they are trained;
    infeasible candidates are in none. outcomes: what is finished already, by trial number.
    """

    number: int
    candidates: tuple[Candidate, ...]
    chunks: tuple[tuple[int, ...], ...]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Replan:
    """A generation's chunks after one of them did not fit into memory."""

    generation: int
    chunks: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Moved:
    """Where training left the particles of a chunk, (n, D); it precedes their outcomes.

    Particles of which there is none stay where they were proposed.
    """

    generation: int
    trials: tuple[int, ...]
    positions: Array


Event = Outcome | Replan | Moved


@dataclass(frozen=True, eq=False)
class Trial:
    """A finished evaluation: what was planned and what came of it.

    moved: (D,), where training left the particle, None where it stays.
    """

    generation: int
    candidate: Candidate
    outcome: Outcome
    moved: Array | None = None

    @property
    def position(self) -> Array:
        """(D,), where the particle is: what its loss belongs to."""
        position = self.candidate.position if self.moved is None else self.moved
        return np.asarray(position, dtype=np.float64)  # what lies in a file is single precision

    @property
    def number(self) -> int:
        """Trial number: generation * batch + slot."""
        return self.candidate.trial

    @property
    def is_full(self) -> bool:
        """True for a completed evaluation at full fidelity."""
        return self.outcome.state is State.COMPLETE


@dataclass(frozen=True, eq=False)
class History:
    """The finished generations of a run, in order. `len` counts generations.

    Extending a history keeps the earlier generations' tuples, so that a sampler may recognise
    by identity what it has folded already.
    """

    objectives: tuple[Objective, ...]
    generations: tuple[tuple[Trial, ...], ...] = ()

    def __len__(self) -> int:
        """Return the number of finished generations."""
        return len(self.generations)

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, ordered by number."""
        return tuple(trial for generation in self.generations for trial in generation)

    @cached_property
    def ranked(self) -> tuple[Trial, ...]:
        """The completed trials of a finite loss, the lowest first, ties to the earlier."""
        finite = [t for t in self.trials if t.is_full and self.loss(t) < float("inf")]
        return tuple(sorted(finite, key=lambda trial: (self.loss(trial), trial.number)))

    def loss(self, trial: Trial) -> float:
        """Return the trial's first objective as a loss; infinity unless it has a finite value."""
        values = trial.outcome.values
        loss = self.objectives[0].loss(values[0]) if values else float("inf")
        return loss if np.isfinite(loss) else float("inf")

    def truncated(self, generations: int) -> "History":
        """Return the history as it was after that many generations."""
        return History(self.objectives, self.generations[:generations])


class Sampler(Protocol):
    """Where to look next. `propose` is pure: same seed and same history, same proposal."""

    def propose(self, space: Any, history: History) -> Proposal:
        """Return the next generation's positions; `space` is a `pso_attn.space.Space`."""
        ...


class Evaluator(Protocol):
    """How good it is."""

    def plan(self, proposal: Proposal, history: History) -> Generation:
        """Return the proposal with constraints repaired, settings, seeds and chunks."""
        ...

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate, and a new plan where one is needed.

        A chunk whose training moves its particles yields a `Moved` before their outcomes.
        `stop` is asked before each chunk; once it says yes the rest is left for a resume.
        """
        ...


class Store(Protocol):
    """What happened."""

    def history(self) -> History:
        """Return every finished generation."""
        ...

    def open(self, number: int) -> Generation | None:
        """Return a generation that was begun and not finished, or None."""
        ...

    def begin(self, generation: Generation) -> None:
        """Write the plan and the running trials of a generation; what is there already stays."""
        ...

    def record(self, *events: Event) -> None:
        """Write outcomes and new plans, in their order, in one durable write."""
        ...
