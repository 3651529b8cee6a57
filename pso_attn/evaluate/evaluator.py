"""How good each particle is: plans a proposal, trains its chunks, and yields outcomes."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.chunk import ChunkResult, train_chunk
from pso_attn.evaluate.device import is_out_of_memory
from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.evaluate.packing import pack
from pso_attn.evaluate.planner import Forecast, Planner
from pso_attn.evaluate.smoothing import check_smoothing
from pso_attn.evaluate.training import read_member
from pso_attn.models import TaskInfo, read_transformer, transformer_cost
from pso_attn.seeding import training_seed
from pso_attn.space import Space
from pso_attn.tasks.task import Task
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Objective,
    Outcome,
    Proposal,
    Replan,
    Settings,
    State,
)

BestSink = Callable[[Outcome, Settings, Mapping[str, torch.Tensor]], None]


@dataclass(frozen=True)
class Progress:
    """How far a generation's training is; particles: those still training in this chunk."""

    generation: int
    chunk: int
    chunks: int
    step: int
    steps: int
    particles: int


def cost(settings: Settings, info: TaskInfo) -> dict[str, int]:
    """Return `parameters`, `flops` and `memory_bytes` of a stand-alone training.

    Raises ConfigurationError where the settings cannot work on the task.
    """
    recipe = read_recipe(settings)
    check_smoothing(recipe.label_smoothing, info)
    return transformer_cost(read_transformer(settings, info), info, recipe.batch_size)


class SwarmEvaluator:
    """Trains the particles of a chunk as one batched job."""

    def __init__(
        self,
        space: Space,
        task: Task,
        objectives: tuple[Objective, ...],
        budget: Budget,
        seed: int,
        device: torch.device,
        on_progress: Callable[[Progress], None] | None = None,
        on_best: BestSink | None = None,
        on_forecast: Callable[[Forecast], None] | None = None,
    ) -> None:
        """Remember what to train on.

        on_best: gets the weights of each new best particle. on_forecast: hears how each chunk is
        cut, and why.
        """
        self.space, self.task, self.objectives = space, task, objectives
        self.budget, self.seed, self.device = budget, seed, device
        self.on_progress, self.on_best, self.on_forecast = on_progress, on_best, on_forecast
        self._planner = Planner(task, device)

    def plan(self, proposal: Proposal, history: History) -> Generation:
        """Return the proposal with constraints repaired, settings, seeds and chunks."""
        number = len(history)
        trainings = Counter[Any]()
        for trial in history.trials:
            identity = tuple(sorted(trial.candidate.params.items()))
            trainings[identity] += len(trial.candidate.seeds)
        candidates = []
        for slot, particle in enumerate(proposal.particles):
            repaired = self.space.repair(proposal.positions[slot], self.seed, number, particle)
            settings = self.space.settings(repaired.params)
            violations = repaired.violations or self._impossible(settings)
            count = 0 if violations else self.budget.seeds
            identity = tuple(sorted(repaired.params.items()))
            earlier = trainings[identity]
            candidate = Candidate(
                trial=number * self.budget.batch + slot,
                particle=particle,
                position=repaired.position,
                params=repaired.params,
                settings=settings,
                seeds=tuple(self._seed(number, particle, earlier, r) for r in range(count)),
                violations=violations,
            )
            trainings[identity] += count
            candidates.append(candidate)
        return Generation(number, tuple(candidates), self._chunks(candidates))

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate, and a new plan where one is needed."""
        by_trial = {candidate.trial: candidate for candidate in generation.candidates}
        for candidate in generation.candidates:
            if candidate.violations and candidate.trial not in generation.outcomes:
                yield _infeasible(candidate)
        chunks, finished = list(generation.chunks), dict(generation.outcomes)
        index = 0
        while index < len(chunks):
            chunk = chunks[index]
            if all(trial in generation.outcomes for trial in chunk):
                index += 1
                continue
            if stop():
                return
            members = [by_trial[trial] for trial in chunk]
            try:
                place = (index, len(chunks))
                outcomes = self._train(generation.number, members, place, history, finished)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(chunk) > 1:  # a fresh attempt on two halves; nothing was recorded yet
                    half = len(chunk) // 2
                    chunks[index : index + 1] = [chunk[:half], chunk[half:]]
                    yield Replan(generation.number, tuple(chunks))
                    continue
                outcomes = [self._too_large(members[0], error)]
            finished |= {outcome.trial: outcome for outcome in outcomes}
            yield from (o for o in outcomes if o.trial not in generation.outcomes)
            index += 1

    def _impossible(self, settings: Settings) -> Mapping[str, float]:
        """Return a violation that says why no model of these settings exists, or none."""
        try:
            read_member(settings, 0, self.task)
        except ConfigurationError as error:
            return {str(error): 1.0}
        return {}

    def _seed(self, generation: int, particle: int, earlier: int, r: int) -> int:
        """Return the seed of a candidate's r-th training, after `earlier` of its settings."""
        if self.budget.common_random_numbers:
            return training_seed(self.seed, earlier + r)
        return training_seed(self.seed, generation, particle, r)

    def _chunks(self, candidates: Sequence[Candidate]) -> tuple[tuple[int, ...], ...]:
        """Return the trials that share a job, by outer shape and in the order of slots."""
        trained = [c for c in candidates if not c.violations]
        members = [[read_member(c.settings, s, self.task) for s in c.seeds] for c in trained]
        packed = pack(members, self.task, self.device)
        return tuple(tuple(trained[index].trial for index in chunk) for chunk in packed)

    def _train(
        self,
        number: int,
        candidates: Sequence[Candidate],
        place: tuple[int, int],
        history: History,
        finished: Mapping[int, Outcome],
    ) -> list[Outcome]:
        """Return the outcomes of one chunk, all of whose trials are trained.

        finished: those of this generation that are known before.
        """
        start = time.perf_counter()
        members = [
            [read_member(candidate.settings, seed, self.task) for seed in candidate.seeds]
            for candidate in candidates
        ]

        def report(step: int, particles: int) -> None:
            if self.on_progress is not None:
                steps = self.budget.steps
                self.on_progress(Progress(number, *place, step, steps, particles))

        forecast = self._planner.forecast([m for row in members for m in row], self.budget.steps)
        if self.on_forecast is not None:
            self.on_forecast(forecast)
        objective = self.objectives[0]
        results = train_chunk(
            self.task, members, self.budget, objective, history, self.device, report, forecast.cut
        )
        seconds = (time.perf_counter() - start) / len(candidates)
        pairs = list(zip(candidates, results, strict=True))
        outcomes = [self._outcome(c, r, seconds) for c, r in pairs]
        self._offer_best(pairs, outcomes, history, finished)
        return outcomes

    def _outcome(self, candidate: Candidate, result: ChunkResult, seconds: float) -> Outcome:
        objective = self.objectives[0].name
        metrics = {**cost(candidate.settings, self.task.info), **result.metrics}
        return Outcome(
            trial=candidate.trial,
            state=result.state,
            values=None if result.state is State.FAIL else (result.metrics[objective],),
            curve=result.curve,
            metrics=metrics,
            seconds=seconds,
            fidelity=result.step / self.budget.steps,
            error=result.error,
        )

    def _offer_best(
        self,
        pairs: Sequence[tuple[Candidate, ChunkResult]],
        outcomes: Sequence[Outcome],
        history: History,
        finished: Mapping[int, Outcome],
    ) -> None:
        """Hand over the weights of the chunk's best particle if it beats all before it."""
        if self.on_best is None:
            return
        before = (*(trial.outcome for trial in history.trials), *finished.values())
        record = min((self._loss(outcome) for outcome in before), default=inf)
        winner = None
        for (candidate, result), outcome in zip(pairs, outcomes, strict=True):
            if self._loss(outcome) < record:
                record = self._loss(outcome)
                winner = (outcome, candidate.settings, result.weights)
        if winner is not None:
            self.on_best(*winner)

    def _loss(self, outcome: Outcome) -> float:
        """Return the objective of a completed training as a loss, infinity for any other."""
        if outcome.state is not State.COMPLETE or outcome.values is None:
            return inf
        return self.objectives[0].loss(outcome.values[0])

    def _too_large(self, candidate: Candidate, error: BaseException) -> Outcome:
        needed = cost(candidate.settings, self.task.info)["memory_bytes"] / 2**20
        return Outcome(
            trial=candidate.trial,
            state=State.FAIL,
            values=None,
            curve={},
            metrics={**cost(candidate.settings, self.task.info)},
            seconds=0.0,
            fidelity=0.0,
            error=f"one particle alone does not fit into memory: about {needed:.0f} MiB are "
            f"needed on {self.device} ({error})",
        )


def _infeasible(candidate: Candidate) -> Outcome:
    expression = next(iter(candidate.violations))
    return Outcome(
        trial=candidate.trial,
        state=State.FAIL,
        values=None,
        curve={},
        metrics={},
        seconds=0.0,
        fidelity=0.0,
        error=f"infeasible: {expression}",
    )
