"""Modules of a user's own as an evaluator: our trainer, their model."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.executors.local import LocalExecutor
from pso_attn.evaluate.generations import (
    BestSink,
    Chunks,
    Listener,
    Progress,
    evaluate_chunks,
    plan_generation,
)
from pso_attn.evaluate.module_trainer import ModuleTrainer
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.evaluate.packing import shared_out
from pso_attn.evaluate.trainings import Trainings
from pso_attn.space import Space
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Objective,
    Proposal,
    Settings,
)


class ModuleEvaluator:
    """Has the modules trained that a user's factory makes of each particle's settings."""

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
        on_forecast: Callable[[str], None] | None = None,
        executor: Executor | None = None,
    ) -> None:
        """on_progress, on_best, on_forecast, executor: as `SwarmEvaluator` has them."""
        self.space, self.factory, self.budget, self.seed = space, factory, budget, seed
        self._trainer = ModuleTrainer(factory, objectives[0], budget, device)
        self._executor = executor or LocalExecutor(self._trainer, device)
        self._listener = Listener(on_progress, on_best, on_forecast)
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
        )

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate, and a new plan where one is needed.

        A chunk in which a module raises is halved until that one is alone, as one too large is.
        """
        return evaluate_chunks(
            generation, history, self.budget, stop, self._trainer, self._executor, self._listener
        )

    def _impossible(self, settings: Settings) -> Mapping[str, float]:
        """Return a violation that says why there is no module of these settings, or none."""
        try:
            self.factory.cost(settings)
        except ConfigurationError as error:
            return {str(error): 1.0}
        return {}

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        """Return the trials that are trained together: as many as memory holds, by estimate.

        As many chunks as there are workers, if there are as many trials; larger ones for quicker
        workers.
        """
        limit, room, chunks = self._executor.limit_bytes, 0, list[list[int]]()
        for index, candidate in enumerate(trained):
            needed = self.factory.cost(candidate.settings)["memory_bytes"] * len(candidate.seeds)
            if needed > room:
                chunks.append([])
                room = limit
            room -= needed
            chunks[-1].append(index)
        weights = [self._trainer.work(candidate) for candidate in trained]
        shared = shared_out(chunks, weights, self._executor.speeds)
        return tuple(tuple(trained[index].trial for index in chunk) for chunk in shared)
