"""What all evaluators share: from a proposal to a plan, and from a plan's chunks to events."""

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch

from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.jobs import (
    NO_RECORD,
    Job,
    Lost,
    Said,
    Step,
    TooMuch,
    Trained,
    Trainer,
    failed,
    record_of,
)
from pso_attn.evaluate.rungs import Earlier, losses_at, rung_steps
from pso_attn.evaluate.trainings import Identity, Trainings, identity
from pso_attn.seeding import training_seed
from pso_attn.space import Space
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Moved,
    Outcome,
    Proposal,
    Replan,
    Settings,
)

Chunks = tuple[tuple[int, ...], ...]
BestSink = Callable[[Outcome, Settings, Mapping[str, torch.Tensor]], None]


@dataclass(frozen=True)
class Progress:
    """How far one chunk's training is; particles: those still training in this chunk.

    best: the objective of the best of them, where they were scored at this step.
    """

    generation: int
    chunk: int
    chunks: int
    step: int
    steps: int
    particles: int
    best: float | None = None


@dataclass(frozen=True)
class Listener:
    """Who hears of a training.

    on_best: gets the weights of each new best particle. on_forecast: hears in words how each chunk
    is cut, and why.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_best: BestSink | None = None
    on_forecast: Callable[[str], None] | None = None


class ChunkEvaluator(ABC):
    """Has what it plans trained by a trainer, chunk by chunk.

    seeds_by_generation: as `plan_generation` has it.
    """

    seeds_by_generation = False

    def __init__(
        self,
        space: Space,
        budget: Budget,
        seed: int,
        trainer: Trainer,
        executor: Executor,
        listener: Listener,
        folder: Path | None = None,
    ) -> None:
        """executor: where chunks train. folder: where trials may keep files."""
        self.space, self.budget, self.seed = space, budget, seed
        self._trainer, self._executor, self._listener = trainer, executor, listener
        self._folder = None if folder is None else folder.absolute()
        self._trainings = Trainings()

    def plan(self, proposal: Proposal, history: History) -> Generation:
        """Return the proposal with constraints repaired, settings, seeds and chunks."""
        return plan_generation(
            self.space,
            self.budget,
            self.seed,
            proposal,
            history,
            self._impossible,
            self._chunks,
            self._trainings,
            self.seeds_by_generation,
        )

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate, and a new plan where one is needed."""
        return evaluate_chunks(
            generation,
            history,
            self.budget,
            stop,
            self._trainer,
            self._executor,
            self._listener,
            self._folder,
        )

    def _impossible(self, settings: Settings) -> Mapping[str, float]:
        """Return what settings that meet all constraints violate nevertheless."""
        return {}

    @abstractmethod
    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        """Return the trials that share a job, of those that are trained."""


def plan_generation(
    space: Space,
    budget: Budget,
    seed: int,
    proposal: Proposal,
    history: History,
    impossible: Callable[[Settings], Mapping[str, float]],
    chunks: Callable[[Sequence[Candidate]], Chunks],
    trainings: Trainings,
    seeds_by_generation: bool = False,
) -> Generation:
    """Return the proposal with constraints repaired, settings, seeds and chunks.

    impossible: what settings that meet all constraints violate nevertheless. chunks: the trials,
    of those that are trained, that share a job. trainings: the evaluator's, of whatever history
    it saw before. seeds_by_generation: whether the particles of a generation have the same seeds,
    new in each, rather than the k-th training of settings seed k.
    """
    number, before, now = len(history), trainings.of(history), Counter[Identity]()
    seeded = cache(partial(training_seed, seed))  # most are the first of their settings
    candidates = []
    for slot, particle in enumerate(proposal.particles):
        repaired = space.repair(proposal.positions[slot], seed, number, particle)
        settings = space.settings(repaired.params)
        violations = repaired.violations or impossible(settings)
        count = 0 if violations else budget.seeds
        same = identity(repaired.params)
        earlier = before[same] + now[same]
        keys: list[tuple[int, ...]] = [(earlier + r,) for r in range(count)]
        if seeds_by_generation:
            keys = [(number, r) for r in range(count)]
        elif not budget.common_random_numbers:
            keys = [(number, particle, r) for r in range(count)]
        candidate = Candidate(
            trial=number * budget.batch + slot,
            particle=particle,
            position=repaired.position,
            params=repaired.params,
            settings=settings,
            seeds=tuple(seeded(*key) for key in keys),
            violations=violations,
        )
        now[same] += count
        candidates.append(candidate)
    trained = [candidate for candidate in candidates if not candidate.violations]
    return Generation(number, tuple(candidates), chunks(trained))


def evaluate_chunks(
    generation: Generation,
    history: History,
    budget: Budget,
    stop: Callable[[], bool],
    trainer: Trainer,
    executor: Executor,
    listener: Listener,
    folder: Path | None = None,
) -> Iterator[Event]:
    """Yield an outcome for each unfinished candidate, and a new plan where one is needed.

    Outcomes come as chunks finish, and no chunk looks at another of its generation, so that the
    order changes nothing. stop: asked before each chunk. folder: where trials may keep files.
    """
    by_trial = {candidate.trial: candidate for candidate in generation.candidates}
    for candidate in generation.candidates:
        if candidate.violations and candidate.trial not in generation.outcomes:
            expression = next(iter(candidate.violations))
            yield failed(candidate, f"infeasible: {expression}")
    objective, known = history.objectives[0], generation.outcomes
    plan = list(generation.chunks)
    waiting = deque(chunk for chunk in plan if any(trial not in known for trial in chunk))
    past = {rung: losses_at(history, rung) for rung in rung_steps(budget)}
    before = (*(trial.outcome for trial in history.trials), *known.values())
    record = min((record_of(outcome, objective) for outcome in before), default=NO_RECORD)
    places: dict[Job, int] = {}  # of those that train now
    began_s: dict[Job, float] = {}

    def take() -> Job | None:
        if not waiting or stop():
            return None
        chunk = waiting.popleft()
        candidates = tuple(by_trial[trial] for trial in chunk)
        work = sum(trainer.work(candidate) for candidate in candidates)
        earlier = {rung: Earlier.of(losses, len(chunk)) for rung, losses in past.items()}
        job = Job(generation.number, candidates, earlier, record, folder, work)
        places[job], began_s[job] = plan.index(chunk), time.monotonic()
        return job

    def hear(job: Job, said: Said) -> None:
        if isinstance(said, str):
            if listener.on_forecast is not None:
                listener.on_forecast(said)
        elif listener.on_progress is not None:
            where = (generation.number, places[job], len(plan), said.step, budget.steps)
            listener.on_progress(Progress(*where, said.particles, said.best))

    for job, answer in executor.run(take, hear):
        chunk = tuple(candidate.trial for candidate in job.candidates)
        hear(job, Step(0, 0))
        took_s = time.monotonic() - began_s.pop(job)
        del places[job]
        if isinstance(answer, TooMuch):
            half, place = len(chunk) // 2, plan.index(chunk)
            plan[place : place + 1] = [chunk[:half], chunk[half:]]
            waiting.extendleft((chunk[half:], chunk[:half]))
            yield Replan(generation.number, tuple(plan))
            continue
        if isinstance(answer, Lost):
            each = [
                (c, answer.told(trainer.room(c)), trainer.costs(c.settings))
                for c in job.candidates
            ]
            seconds = took_s / len(chunk)  # all its tries together
            answer = Trained([replace(failed(*one), seconds=seconds) for one in each])
        if answer.best is not None:
            outcome = answer.outcomes[answer.best]
            if record_of(outcome, objective) < record:
                record = record_of(outcome, objective)
                if listener.on_best is not None:
                    settings = by_trial[outcome.trial].settings
                    listener.on_best(outcome, settings, answer.weights)
        if answer.moved is not None:
            yield Moved(generation.number, chunk, answer.moved)
        yield from (outcome for outcome in answer.outcomes if outcome.trial not in known)
