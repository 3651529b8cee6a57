"""An objective of one's own as an evaluator: a function that may train anything."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.executors.local import LocalExecutor
from pso_attn.evaluate.generations import ChunkEvaluator, Chunks, Listener, Progress
from pso_attn.evaluate.own_trainer import ObjectiveTrainer, OwnObjective
from pso_attn.evaluate.tiles import even_parts
from pso_attn.space import Space
from pso_attn.types import Budget, Candidate, Objective


class ObjectiveEvaluator(ChunkEvaluator):
    """Has a user's function asked for each particle, one by one, or for a generation at once.

    Where a batched function raises, the chunk is halved until what fails is alone.
    """

    def __init__(
        self,
        space: Space,
        function: OwnObjective,
        objectives: tuple[Objective, ...],
        budget: Budget,
        seed: int,
        checkpoints: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        executor: Executor | None = None,
    ) -> None:
        """checkpoints: the folder of the run's models, where trials may keep files.

        executor: where the function is asked, by default in this process.
        """
        trainer = ObjectiveTrainer(function, objectives[0], budget)
        executor = executor or LocalExecutor(trainer, function.device)
        super().__init__(
            space, budget, seed, trainer, executor, Listener(on_progress), checkpoints
        )
        self.function = function

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        """Return each trial as a chunk: a timeout ends after it, and a resume repeats no other.

        Of a batched function, all that it is called with at once, a part for each worker.
        """
        numbers = [candidate.trial for candidate in trained]
        parts = self._executor.workers if self.function.batched else len(numbers)
        return tuple(tuple(part) for part in even_parts(numbers, parts)) if numbers else ()
