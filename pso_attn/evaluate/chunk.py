"""One chunk from start to finish: advance, score, let the worst leave, compact, go on."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Protocol

import torch

from pso_attn.evaluate.jobs import Job, Trained, record_index
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.remote_tiles import Helpers
from pso_attn.evaluate.rungs import Earlier, leavers, rung_steps, scored_steps
from pso_attn.evaluate.tiles import Cut, TiledTraining, with_helpers
from pso_attn.evaluate.training import divergence
from pso_attn.tasks.task import Task
from pso_attn.types import Budget, Objective, Outcome, Settings, State

ONE_TILE = Cut()
Report = Callable[..., None]


class Training(Protocol):
    """Trainings that advance together; positions are those of `rows`, the members still in it."""

    @property
    def rows(self) -> list[int]:
        """Which of the members stands at each position."""
        ...

    def advance(self, until: int, on_step: Callable[[int], None] | None = None) -> None:
        """Train all up to step `until`; on_step hears of their mean step."""
        ...

    def score(self, split: str = "validation") -> list[dict[str, float]]:
        """Return the task's metrics on a split for each position."""
        ...

    def first_bad_steps(self) -> list[int | None]:
        """Return for each position the first step, from 1, whose training loss was not finite."""
        ...

    def true_parameters(self, position: int) -> dict[str, torch.Tensor]:
        """Return copies of the parameters of one stand-alone model."""
        ...

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with these positions alone, in ascending order; schedules stay as they were."""
        ...


class LongTraining(Training, Protocol):
    """One training by itself that may be put where it was left."""

    steps: int
    step: int

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """All that is carried from step to step; with `step`, what to go on from."""
        ...

    def restore(self, state: Mapping[str, torch.Tensor], step: int) -> None:
        """Go on as after `step` steps that left `state`."""
        ...


@dataclass(eq=False)
class ChunkResult:
    """What became of one candidate; grows while it trains.

    metrics: means over its seeds when last scored. weights: of its first seed's stand-alone
    model, once complete. step: the last at which it was scored.
    """

    state: State = State.COMPLETE
    curve: dict[int, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0
    error: str | None = None


def train_chunk(
    task: Task,
    candidates: Sequence[Sequence[Member]],
    budget: Budget,
    objective: Objective,
    earlier: Mapping[int, Earlier],
    device: torch.device,
    report: Report,
    cut: Cut = ONE_TILE,
    helpers: Helpers | None = None,
) -> list[ChunkResult]:
    """Return each candidate's result; candidates: their trainings, one per seed.

    earlier: step of a rung -> what earlier generations lost there. report: called with (step,
    candidates still training) less than two hundred times, and where they were scored with the
    best's objective as well. cut: changes no result. helpers: for a cut that asks for them.
    """
    everyone = [member for members in candidates for member in members]
    sizes = [len(members) for members in candidates]

    def train(cut: Cut) -> list[ChunkResult]:
        training = TiledTraining(task, everyone, budget.steps, device, cut, helpers=helpers)
        return run_chunk(training, sizes, budget, objective, earlier, report)

    return with_helpers(cut, train)


def run_chunk(
    training: Training,
    sizes: Sequence[int],
    budget: Budget,
    objective: Objective,
    earlier: Mapping[int, Earlier],
    report: Report,
) -> list[ChunkResult]:
    """Return each candidate's result; sizes: how many of the training's members are its seeds."""
    owner = [row for row, size in enumerate(sizes) for _ in range(size)]
    results = [ChunkResult() for _ in sizes]
    rungs, often = set(rung_steps(budget)), max(1, budget.steps // 100)
    for until in scored_steps(budget):
        going = {owner[row] for row in training.rows}
        training.advance(until, partial(_tick, report, often, len(going)))
        _score(training, owner, results, objective, until)
        alive = [row for row in sorted(going) if results[row].state is State.COMPLETE]
        if until in rungs and alive:
            _prune(results, alive, objective, earlier.get(until, Earlier()), until)
        staying = {row for row in alive if results[row].state is State.COMPLETE}
        if not staying:
            break
        scores = [results[row].metrics[objective.name] for row in staying]
        report(until, len(staying), min(scores, key=objective.loss))
        if staying != going and until < budget.steps:
            training.keep([i for i, row in enumerate(training.rows) if owner[row] in staying])
    _take_weights(training, owner, results)
    return results


def trained(
    job: Job,
    results: Sequence[ChunkResult],
    costs: Callable[[Settings], Mapping[str, float]],
    objective: Objective,
    budget: Budget,
    start_s: float,
) -> Trained:
    """Return what became of a chunk that was begun at `start_s` of `time.perf_counter`.

    costs: metrics known without a training.
    """
    seconds = (time.perf_counter() - start_s) / len(results)
    outcomes = [
        Outcome(
            trial=candidate.trial,
            state=result.state,
            values=None if result.state is State.FAIL else (result.metrics[objective.name],),
            curve=result.curve,
            metrics={**costs(candidate.settings), **result.metrics},
            seconds=seconds,
            fidelity=result.step / budget.steps,
            error=result.error,
        )
        for candidate, result in zip(job.candidates, results, strict=True)
    ]
    best = record_index(outcomes, objective, job.record)
    return Trained(outcomes, best, {} if best is None else results[best].weights)


def _tick(report: Report, often: int, particles: int, step: int) -> None:
    if step % often == 0:
        report(step, particles)


def _score(
    training: Training,
    owner: Sequence[int],
    results: Sequence[ChunkResult],
    objective: Objective,
    step: int,
) -> None:
    """Record every candidate's metrics, means over its seeds, or that it diverged."""
    seen: dict[int, list[dict[str, float]]] = {}
    scored = zip(training.rows, training.score(), training.first_bad_steps(), strict=True)
    for row, metrics, failed in sorted(scored, key=itemgetter(0)):  # however they were cut
        result = results[owner[row]]
        if result.state is State.FAIL:
            continue
        error = divergence(failed, metrics, step)
        if error is not None:
            result.state, result.error = State.FAIL, error
            continue
        seen.setdefault(owner[row], []).append(metrics)
    for candidate, rows in seen.items():
        result = results[candidate]
        if result.state is State.COMPLETE:
            result.metrics = {name: sum(m[name] for m in rows) / len(rows) for name in rows[0]}
            result.curve[step], result.step = result.metrics[objective.name], step


def _prune(
    results: Sequence[ChunkResult],
    alive: Sequence[int],
    objective: Objective,
    earlier: Earlier,
    step: int,
) -> None:
    losses = [objective.loss(results[row].curve[step]) for row in alive]
    for row, leaves in zip(alive, leavers(losses, earlier), strict=True):
        if leaves:
            results[row].state = State.PRUNED


def _take_weights(
    training: Training, owner: Sequence[int], results: Sequence[ChunkResult]
) -> None:
    for position, row in sorted(enumerate(training.rows), key=lambda pair: -pair[1]):
        result = results[owner[row]]
        if result.state is State.COMPLETE:  # the first seed's row comes last and stays
            result.weights = training.true_parameters(position)
