"""Modules of a user's own as an evaluator: our trainer, their model."""

from collections.abc import Callable, Mapping, Sequence

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.executors.local import LocalExecutor
from pso_attn.evaluate.generations import BestSink, ChunkEvaluator, Chunks, Listener, Progress
from pso_attn.evaluate.module_trainer import ModuleTrainer
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.evaluate.packing import by_memory, shared_out
from pso_attn.space import Space
from pso_attn.types import Budget, Candidate, Objective, Settings


class ModuleEvaluator(ChunkEvaluator):
    """Has the modules trained that a user's factory makes of each particle's settings.

    A chunk in which a module raises is halved until that one is alone, as one too large is.
    """

    _trainer: ModuleTrainer

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
        trainer = ModuleTrainer(factory, objectives[0], budget, device)
        executor = executor or LocalExecutor(trainer, device)
        listener = Listener(on_progress, on_best, on_forecast)
        super().__init__(space, budget, seed, trainer, executor, listener)
        self.factory = factory

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
        needed_bytes = [self._trainer.needed_bytes(candidate) for candidate in trained]
        chunks = by_memory(needed_bytes, self._executor.limit_bytes)
        weights = [self._trainer.work(candidate) for candidate in trained]
        shared = shared_out(chunks, weights, self._executor.speeds)
        return tuple(tuple(trained[index].trial for index in chunk) for chunk in shared)
