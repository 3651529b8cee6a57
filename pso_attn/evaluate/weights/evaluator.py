"""How good weights are: every particle's model answers the same examples, without gradients."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pso_attn.evaluate.evaluator import Progress, SwarmEvaluator, cost
from pso_attn.evaluate.generations import record_index
from pso_attn.evaluate.weights.descent import descended
from pso_attn.evaluate.weights.fitness import Fitness
from pso_attn.seeding import training_seed
from pso_attn.types import Candidate, History, Moved, Outcome, State


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
    ) -> list[Outcome | Moved]:
        """Return the outcomes of one chunk, all of whose positions are scored.

        A hybrid descends first, and says where that has led.
        """
        fitness, start = self.fitness, time.perf_counter()
        settings, seeds = [candidate.settings for candidate in candidates], candidates[0].seeds
        knobs = len(self.space.coordinates)
        placed = np.stack([candidate.position for candidate in candidates]).astype(np.float32)
        if fitness.searched.table.gradient_steps:
            orders = [training_seed(seeds[0], one.particle) for one in candidates]
            placed[:, knobs:] = descended(fitness, settings, placed[:, knobs:], orders)
        scores = fitness.score(settings, torch.from_numpy(placed[:, knobs:]), seeds)
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
            weights = fitness.parts(settings[best], torch.from_numpy(placed[best, knobs:]))
            self.on_best(outcomes[best], settings[best], weights)
        if not fitness.searched.table.gradient_steps:
            return [*outcomes]
        trials = tuple(candidate.trial for candidate in candidates)
        return [Moved(number, trials, placed.astype(np.float64)), *outcomes]
