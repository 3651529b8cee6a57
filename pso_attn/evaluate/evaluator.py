"""How good each particle is: plans a proposal, has its chunks trained, and yields outcomes."""

from collections.abc import Callable, Mapping, Sequence

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.executors.local import LocalExecutor
from pso_attn.evaluate.generations import BestSink, ChunkEvaluator, Chunks, Listener, Progress
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.packing import pack, shared_out
from pso_attn.evaluate.swarm_trainer import SwarmTrainer
from pso_attn.space import Space
from pso_attn.tasks.task import Task
from pso_attn.types import Budget, Candidate, Objective, Settings


class SwarmEvaluator(ChunkEvaluator):
    """Has the particles of a chunk trained as one batched job."""

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
        on_forecast: Callable[[str], None] | None = None,
        executor: Executor | None = None,
        trainer: SwarmTrainer | None = None,
    ) -> None:
        """Remember what to train on; on_progress, on_best, on_forecast: as `Listener` has them.

        executor: where chunks train, by default in this process. trainer: who trains them.
        """
        trainer = trainer or SwarmTrainer(task, objectives[0], budget, device)
        executor = executor or LocalExecutor(trainer, device)
        listener = Listener(on_progress, on_best, on_forecast)
        super().__init__(space, budget, seed, trainer, executor, listener)
        self.task, self.device = task, device

    def _impossible(self, settings: Settings) -> Mapping[str, float]:
        """Return a violation that says why no model of these settings exists, or none."""
        try:
            read_member(settings, 0, self.task)
        except ConfigurationError as error:
            return {str(error): 1.0}
        return {}

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        """Return the trials that share a job, by outer shape and in the order of slots.

        As many as there are workers, if there are as many trials; larger ones for quicker workers.
        """
        members = [[read_member(c.settings, s, self.task) for s in c.seeds] for c in trained]
        limit_bytes = self._executor.limit_bytes
        packed = pack(members, self.task, self.budget.steps, self.device, limit_bytes)
        weights = [self._trainer.work(candidate) for candidate in trained]
        shared = shared_out(packed, weights, self._executor.speeds)
        return tuple(tuple(trained[index].trial for index in chunk) for chunk in shared)
