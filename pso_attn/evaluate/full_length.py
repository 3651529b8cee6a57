"""Trainings outside a search, where its chunks train: at full length, scored on any split."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.jobs import Hear, Job, Lost, Said, Step, TooMuch, Trained, failed
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.module_runs import train_modules
from pso_attn.evaluate.module_trainer import ModuleTrainer
from pso_attn.evaluate.own_scoring import score_objective
from pso_attn.evaluate.own_trainer import ObjectiveTrainer
from pso_attn.evaluate.packing import by_memory, pack, shared_out
from pso_attn.evaluate.swarm_runs import Scored, train_swarm
from pso_attn.evaluate.swarm_trainer import SwarmTrainer
from pso_attn.types import Candidate, Outcome, Settings, State

Report = Callable[[int, int], None]
SearchTrainer = SwarmTrainer | ModuleTrainer | ObjectiveTrainer


class FullLengthTrainer:
    """Trains as a search's trainer does, where nobody leaves, and scores on a split.

    An outcome's metrics are those of the split; it has no value and no curve.
    """

    def __init__(self, searched: SearchTrainer, split: str) -> None:
        """searched: who trains in the search."""
        self.searched, self.split = searched, split

    @property
    def is_repeatable(self) -> bool:
        """Whether two workers may train the same chunk at once."""
        return self.searched.is_repeatable

    def on(self, device: torch.device) -> "FullLengthTrainer":
        """Return the same trainer on another device."""
        return FullLengthTrainer(self.searched.on(device), self.split)

    def length(self, job: Job) -> int:
        """Return how many steps a chunk has, or trainings where an objective hides its steps."""
        is_own = isinstance(self.searched, ObjectiveTrainer)
        return len(job.candidates) if is_own else self.searched.budget.steps

    def train(self, job: Job, hear: Hear) -> Trained:
        """Return each candidate's training with its one seed, scored; MemoryError may end it."""

        def report(done: int, total: int) -> None:
            hear(Step(self.length(job) * done // total, len(job.candidates)))

        settings = [candidate.settings for candidate in job.candidates]
        seeds = [candidate.seeds[0] for candidate in job.candidates]
        found = zip(job.candidates, self._scored(settings, seeds, report), strict=True)
        return Trained([_outcome(candidate, scored) for candidate, scored in found])

    def asks_for_less(self, error: Exception) -> bool:
        """Tell whether an error asks for a smaller chunk."""
        return self.searched.asks_for_less(error)

    def failed(self, candidate: Candidate, error: Exception) -> Outcome:
        """Return the outcome of a candidate that by itself ended so."""
        return self.searched.failed(candidate, error)

    def costs(self, settings: Settings) -> Mapping[str, float]:
        """Return the metrics that are known without a training."""
        return self.searched.costs(settings)

    def room(self, candidate: Candidate) -> str:
        """Return what a candidate takes of memory."""
        return self.searched.room(candidate)

    def work(self, candidate: Candidate) -> float:
        """Return about how long a candidate takes beside others, in any unit."""
        return self.searched.work(candidate)

    def _scored(
        self, settings: Sequence[Settings], seeds: Sequence[int], report: Report
    ) -> list[Scored]:
        known, split = self.searched, self.split
        steps = known.budget.steps
        if isinstance(known, ObjectiveTrainer):
            own, objective = known.function, known.objective
            return score_objective(own, settings, seeds, known.budget, objective, split, report)
        if isinstance(known, ModuleTrainer):
            own_factory = known.factory
            return train_modules(own_factory, settings, seeds, steps, known.device, split, report)
        return train_swarm(known.task, settings, seeds, steps, known.device, split, report)


def score_apart(
    trainer: FullLengthTrainer,
    executor: Executor,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    report: Report | None = None,
) -> list[Scored]:
    """Return the result of each (settings, seed) pair, trained in as many chunks as workers.

    There are more where those would take more memory than the executor has for each.
    settings, seeds: of equal length. report: called with (steps or trainings done, in all).
    """
    pairs = enumerate(zip(settings, seeds, strict=True))
    candidates = [Candidate(k, k, np.empty(0), {}, one, (seed,)) for k, (one, seed) in pairs]
    weights = [trainer.work(candidate) for candidate in candidates]
    searched, together = trainer.searched, [list(range(len(candidates)))]
    if isinstance(searched, ObjectiveTrainer) and not searched.function.batched:
        together = [[k] for k in together[0]]
    if isinstance(searched, ModuleTrainer):
        needed_bytes = [searched.needed_bytes(candidate) for candidate in candidates]
        together = by_memory(needed_bytes, executor.limit_bytes)
    chunks = shared_out(together, weights, executor.speeds)
    parts = [[candidates[k] for k in chunk] for chunk in chunks]
    if isinstance(searched, SwarmTrainer) and len(parts) > 1:  # one alone packs as it trains
        limit_bytes, split = executor.limit_bytes, trainer.split
        parts = [few for part in parts for few in _fitting(searched, part, limit_bytes, split)]
    waiting = deque(tuple(part) for part in parts)
    done, found = dict[Job, int](), dict[int, Scored]()

    def take() -> Job | None:
        if not waiting:
            return None
        chunk = waiting.popleft()
        job = Job(0, chunk, {}, work=sum(weights[c.trial] for c in chunk))
        done[job] = 0
        return job

    def is_at(job: Job, step: int) -> None:
        moved, done[job] = step != done[job], step
        if report is not None and moved:
            left = sum(trainer.length(Job(0, chunk, {})) for chunk in waiting)
            report(sum(done.values()), left + sum(trainer.length(job) for job in done))

    def hear(job: Job, said: Said) -> None:
        if isinstance(said, Step):
            is_at(job, said.step)

    for job, answer in executor.run(take, hear):
        if isinstance(answer, TooMuch):
            half = len(job.candidates) // 2
            waiting.extendleft((job.candidates[half:], job.candidates[:half]))
            del done[job]
            continue
        is_at(job, trainer.length(job))
        if isinstance(answer, Lost):
            told = ((c, answer.told(trainer.room(c))) for c in job.candidates)
            found |= {c.trial: Scored(None, why, 0.0) for c, why in told}
        else:
            found |= {outcome.trial: _read(outcome) for outcome in answer.outcomes}
    return [found[candidate.trial] for candidate in candidates]


def _fitting(
    searched: SwarmTrainer, candidates: Sequence[Candidate], limit_bytes: int, split: str
) -> list[list[Candidate]]:
    """Return candidates in parts of which each has one chunk, within the limit, of a bucket.

    `train_swarm` trains the chunks of a part one after another.
    """
    task, steps = searched.task, searched.budget.steps
    members = [[read_member(one.settings, one.seeds[0], task)] for one in candidates]
    parts, chunks = list[list[Candidate]](), Counter[tuple[int | str, ...]]()
    for chunk in pack(members, task, steps, searched.device, limit_bytes, split):
        bucket = members[chunk[0]][0].bucket
        if chunks[bucket] == len(parts):
            parts.append([])
        parts[chunks[bucket]] += [candidates[k] for k in chunk]
        chunks[bucket] += 1
    return parts


def _outcome(candidate: Candidate, scored: Scored) -> Outcome:
    if scored.error is not None:
        return failed(candidate, scored.error)
    metrics = scored.metrics or {}
    return Outcome(candidate.trial, State.COMPLETE, None, {}, metrics, scored.seconds, 1.0)


def _read(outcome: Outcome) -> Scored:
    metrics = None if outcome.error else outcome.metrics
    return Scored(metrics, outcome.error, outcome.seconds)
