"""What goes to whoever trains a chunk, and what comes back; all of it can be pickled."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Protocol, Self

import torch

from pso_attn.evaluate.device import check_usable
from pso_attn.evaluate.rungs import Earlier
from pso_attn.types import Array, Candidate, Objective, Outcome, Settings, State

Record = tuple[float, int]  # a loss and its trial: of equal losses the earlier trial's is better
NO_RECORD: Record = (inf, 0)
STEPS_EVERY_S = 0.1  # from a worker: each is a message


@dataclass(frozen=True, eq=False)
class Job:
    """One chunk to train.

    earlier: step of a rung -> what earlier generations lost there. record: the best
    so far. folder: where trials of one's own may keep files, or None. work: how long it takes
    beside others, by `Trainer.work`.
    """

    generation: int
    candidates: tuple[Candidate, ...]
    earlier: Mapping[int, Earlier]
    record: Record = NO_RECORD
    folder: Path | None = None
    work: float = 1.0


@dataclass(frozen=True)
class Step:
    """How far a chunk is; particles: those still training in it.

    best: the objective of the best of them, where they were scored at this step.
    """

    step: int
    particles: int
    best: float | None = None


Said = Step | str  # how far a chunk is, or in words how it trains
Hear = Callable[[Said], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """A chunk's outcomes; weights: of the one that beats the job's record, if one does.

    moved: (n, D), where training left the particles, None where they stay.
    """

    outcomes: Sequence[Outcome]
    best: int | None = None
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    moved: Array | None = None


@dataclass(frozen=True)
class TooMuch:
    """A chunk that has to be tried again in halves."""


@dataclass(frozen=True)
class Lost:
    """A chunk that took its worker with it each time that it was tried.

    why: in words. by_memory: whether a lack of memory may have been the reason.
    """

    why: str
    by_memory: bool = False

    def told(self, room: str) -> str:
        """Return why, with what a candidate takes, by `Trainer.room`, where that may be it."""
        return f"{self.why}; {room} are needed" if self.by_memory and room else self.why


Answer = Trained | TooMuch | Lost


class Trainer(Protocol):
    """Trains chunks wherever it is: it can be pickled, and knows nothing of the run."""

    @property
    def is_repeatable(self) -> bool:
        """Whether two workers may train the same chunk at once: it leaves nothing behind."""
        ...

    def train(self, job: Job, hear: Hear) -> Trained:
        """Return what became of a chunk; raises what ends it."""
        ...

    def asks_for_less(self, error: Exception) -> bool:
        """Tell whether an error of `train` asks for a smaller chunk; no other is caught."""
        ...

    def failed(self, candidate: Candidate, error: Exception) -> Outcome:
        """Return the outcome of a candidate that by itself ended so."""
        ...

    def costs(self, settings: Settings) -> Mapping[str, float]:
        """Return the metrics that are known without a training."""
        ...

    def room(self, candidate: Candidate) -> str:
        """Return what all of a candidate's trainings take of memory, as "about 3 MiB", or ""."""
        ...

    def work(self, candidate: Candidate) -> float:
        """Return about how long a candidate takes beside others, in any unit."""
        ...

    def on(self, device: torch.device) -> Self:
        """Return the same trainer on another device."""
        ...


def attempt(trainer: Trainer, job: Job, hear: Hear) -> Trained | TooMuch:
    """Return what a trainer makes of a chunk, where its failures are described too.

    Weights come in the host's memory: who hears of them may have no such device.
    Raises DeviceError where an error has cost this process its GPU, whoever made it.
    """
    began_s = time.perf_counter()
    try:
        trained = trainer.train(job, hear)
        weights = {name: tensor.cpu() for name, tensor in trained.weights.items()}
        return replace(trained, weights=weights)
    except Exception as error:
        check_usable(error)
        if not trainer.asks_for_less(error):
            raise
        if len(job.candidates) > 1:  # a fresh attempt on two halves; nothing was recorded yet
            return TooMuch()
        alone = trainer.failed(job.candidates[0], error)
        return Trained([replace(alone, seconds=time.perf_counter() - began_s)])


def seldom(hear: Hear) -> Hear:
    """Return what passes on words and scores, and other steps ten times a second at most."""
    last_s = -inf

    def pass_on(said: Said) -> None:
        nonlocal last_s
        if isinstance(said, Step) and said.best is None:
            if time.monotonic() - last_s < STEPS_EVERY_S:
                return
            last_s = time.monotonic()
        hear(said)

    return pass_on


def record_index(outcomes: Sequence[Outcome], objective: Objective, record: Record) -> int | None:
    """Return which of a chunk's outcomes is the best of all so far, None where none is."""
    winner = None
    for index, outcome in enumerate(outcomes):
        if record_of(outcome, objective) < record:
            record, winner = record_of(outcome, objective), index
    return winner


def record_of(outcome: Outcome, objective: Objective) -> Record:
    """Return the loss of a completed training, infinity for any other, and its trial."""
    if outcome.state is not State.COMPLETE or outcome.values is None:
        return inf, outcome.trial
    return objective.loss(outcome.values[0]), outcome.trial


def failed(
    candidate: Candidate, error: str, metrics: Mapping[str, float] | None = None
) -> Outcome:
    """Return the outcome of a candidate that gave nothing."""
    return Outcome(
        trial=candidate.trial,
        state=State.FAIL,
        values=None,
        curve={},
        metrics=metrics or {},
        seconds=0.0,
        fidelity=0.0,
        error=error,
    )
