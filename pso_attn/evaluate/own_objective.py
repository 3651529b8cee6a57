"""An objective of one's own as an evaluator: a function that may train anything."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.executors.local import LocalExecutor
from pso_attn.evaluate.generations import (
    Chunks,
    Listener,
    Progress,
    evaluate_chunks,
    plan_generation,
)
from pso_attn.evaluate.own_trainer import ObjectiveTrainer, OwnObjective
from pso_attn.evaluate.tiles import even_parts
from pso_attn.evaluate.trainings import Trainings
from pso_attn.space import Space
from pso_attn.types import Budget, Candidate, Event, Generation, History, Objective, Proposal


class ObjectiveEvaluator:
    """Has a user's function asked for each particle, one by one, or for a generation at once."""

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
        self.space, self.function = space, function
        self.budget, self.seed = budget, seed
        self._trainer = ObjectiveTrainer(function, objectives[0], budget)
        self._executor = executor or LocalExecutor(self._trainer, function.device)
        self._listener = Listener(on_progress)
        self._trainings = Trainings()
        self._checkpoints = None if checkpoints is None else checkpoints.absolute()

    def plan(self, proposal: Proposal, history: History) -> Generation:
        """Return the proposal with constraints repaired, settings, seeds and chunks.

        A chunk is one particle, so that a timeout ends after it and a resume repeats no other;
        all that a batched function is called with at once, a part for each worker.
        """
        return plan_generation(
            self.space,
            self.budget,
            self.seed,
            proposal,
            history,
            lambda _: {},
            self._chunks,
            self._trainings,
        )

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate.

        Where a batched function raises, the chunk is halved until what fails is alone.
        """
        return evaluate_chunks(
            generation,
            history,
            self.budget,
            stop,
            self._trainer,
            self._executor,
            self._listener,
            self._checkpoints,
        )

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        numbers = [candidate.trial for candidate in trained]
        parts = self._executor.workers if self.function.batched else len(numbers)
        return tuple(tuple(part) for part in even_parts(numbers, parts)) if numbers else ()
