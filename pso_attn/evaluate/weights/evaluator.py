"""How good weights are: every particle's model answers the same examples, without gradients."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pso_attn.evaluate.evaluator import Progress, SwarmEvaluator, cost
from pso_attn.evaluate.generations import record_index
from pso_attn.evaluate.weights.fitness import Fitness
from pso_attn.types import Candidate, History, Outcome, State


class WeightEvaluator(SwarmEvaluator):
    """Scores the particles of a chunk in one batched forward pass.

    The particles of a generation see the same examples, those of their common seeds.
    """

    seeds_by_generation = True

    def __init__(self, *parts: Any, fitness: Callable[[], Fitness], **hooks: Any) -> None:
        """Take what a `SwarmEvaluator` takes.

        fitness: called before the first evaluation; it may train a model.
        """
        super().__init__(*parts, **hooks)
        self._make = fitness

    @cached_property
    def fitness(self) -> Fitness:
        """What scores positions."""
        return self._make()

    def _train(
        self,
        number: int,
        history: History,
        candidates: Sequence[Candidate],
        place: tuple[int, int],
        finished: Mapping[int, Outcome],
    ) -> list[Outcome]:
        """Return the outcomes of one chunk, all of whose positions are scored."""
        fitness, start = self.fitness, time.perf_counter()
        settings = [candidate.settings for candidate in candidates]
        knobs = len(self.space.coordinates)
        positions = torch.from_numpy(np.stack([c.position[knobs:] for c in candidates]))
        scores = fitness.score(settings, positions, candidates[0].seeds)
        if self.on_progress is not None:
            steps = self.budget.steps
            self.on_progress(Progress(number, *place, steps, steps, len(candidates)))
        seconds = (time.perf_counter() - start) / len(candidates)
        outcomes = [
            Outcome(
                trial=candidate.trial,
                state=State.FAIL if score.error else State.COMPLETE,
                values=None if score.error else (score.value,),
                curve={},
                metrics={**cost(candidate.settings, self.task.info), **score.metrics},
                seconds=seconds,
                fidelity=0.0 if score.error else 1.0,
                error=score.error,
            )
            for candidate, score in zip(candidates, scores, strict=True)
        ]
        best = record_index(outcomes, history, finished)
        if best is not None and self.on_best is not None:
            weights = fitness.parts(settings[best], positions[best])
            self.on_best(outcomes[best], settings[best], weights)
        return outcomes
