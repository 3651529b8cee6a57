"""Modules of a user's own as an evaluator: our trainer, their model."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.chunk import run_chunk
from pso_attn.evaluate.device import is_out_of_memory, memory_budget_bytes
from pso_attn.evaluate.evaluator import BestSink, Progress
from pso_attn.evaluate.generations import (
    Chunks,
    evaluate_chunks,
    failed,
    plan_generation,
    record_index,
)
from pso_attn.evaluate.module_training import ModuleMember, ModuleTraining
from pso_attn.evaluate.own_code import is_of_own_code, why
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.space import Space
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Objective,
    Outcome,
    Proposal,
    Settings,
)


class ModuleEvaluator:
    """Trains the modules that a user's factory makes of each particle's settings."""

    def __init__(
        self,
        space: Space,
        factory: OwnFactory,
        objectives: tuple[Objective, ...],
        budget: Budget,
        seed: int,
        device: torch.device,
        on_progress: Callable[[Progress], None] | None = None,
        on_best: BestSink | None = None,
        on_forecast: Callable[[Any], None] | None = None,
    ) -> None:
        """on_best, on_forecast: as `SwarmEvaluator` has them."""
        self.space, self.factory, self.objectives = space, factory, objectives
        self.budget, self.seed, self.device = budget, seed, device
        self.on_progress, self.on_best, self.on_forecast = on_progress, on_best, on_forecast

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
        )

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate, and a new plan where one is needed.

        A chunk in which a module raises is halved until that one is alone, as one too large is.
        """
        train = partial(self._train, generation.number, history)
        return evaluate_chunks(generation, stop, train, is_of_own_code, self._failed)

    def _impossible(self, settings: Settings) -> Mapping[str, float]:
        """Return a violation that says why there is no module of these settings, or none."""
        try:
            self.factory.cost(settings)
        except ConfigurationError as error:
            return {str(error): 1.0}
        return {}

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        """Return the trials that are trained together: as many as memory holds, by estimate."""
        limit, room, chunks = memory_budget_bytes(self.device), 0, list[list[int]]()
        for candidate in trained:
            needed = self.factory.cost(candidate.settings)["memory_bytes"] * len(candidate.seeds)
            if needed > room:
                chunks.append([])
                room = limit
            room -= needed
            chunks[-1].append(candidate.trial)
        return tuple(tuple(chunk) for chunk in chunks)

    def _train(
        self,
        number: int,
        history: History,
        candidates: Sequence[Candidate],
        place: tuple[int, int],
        finished: Mapping[int, Outcome],
    ) -> list[Outcome]:
        """Return the outcomes of one chunk; raises what a module raises."""
        start = time.perf_counter()
        members = [ModuleMember.of(c.settings, seed) for c in candidates for seed in c.seeds]
        training = ModuleTraining(self.factory, members, self.budget.steps, self.device)
        if self.on_forecast is not None:
            self.on_forecast(training)

        def report(step: int, particles: int) -> None:
            if self.on_progress is not None:
                steps = self.budget.steps
                self.on_progress(Progress(number, *place, step, steps, particles))

        objective, sizes = self.objectives[0], [len(c.seeds) for c in candidates]
        results = run_chunk(training, sizes, self.budget, objective, history, report)
        seconds = (time.perf_counter() - start) / len(candidates)
        outcomes = [
            result.outcome(c, self.factory.cost(c.settings), objective, self.budget, seconds)
            for c, result in zip(candidates, results, strict=True)
        ]
        best = record_index(outcomes, history, finished)
        if best is not None and self.on_best is not None:
            self.on_best(outcomes[best], candidates[best].settings, results[best].weights)
        return outcomes

    def _failed(self, candidate: Candidate, error: Exception) -> Outcome:
        costs = self.factory.cost(candidate.settings)
        if is_out_of_memory(error):
            needed = costs["memory_bytes"] / 2**20
            said = f"one particle alone does not fit into memory: about {needed:.0f} MiB"
            return failed(candidate, f"{said} are needed on {self.device} ({error})", costs)
        if isinstance(error, ConfigurationError):
            return failed(candidate, str(error), costs)
        return failed(candidate, why(f"{self.factory.name}'s module", error), costs)
