"""Scores the positions of a chunk in one batched forward pass, wherever it is sent."""

import time
from pathlib import Path

import numpy as np
import torch

from pso_attn.evaluate.jobs import Hear, Job, Step, Trained, record_index
from pso_attn.evaluate.swarm_trainer import SwarmTrainer
from pso_attn.evaluate.weights.descent import descended
from pso_attn.evaluate.weights.first_model import train_first
from pso_attn.evaluate.weights.fitness import Fitness, OwnFitness
from pso_attn.evaluate.weights.searched import Start
from pso_attn.models import read_model
from pso_attn.models.weights import read_parts
from pso_attn.seeding import training_seed
from pso_attn.space import FIRST
from pso_attn.tasks.task import Task
from pso_attn.types import Budget, Objective, Outcome, State


class WeightTrainer(SwarmTrainer):
    """Lays positions into models and scores them.

    generations: that the search began with: in the last of them the rate of gradient steps falls.
    own: a fitness of somebody's own, or None.
    """

    def __init__(
        self,
        start: Start,
        task: Task,
        objective: Objective,
        budget: Budget,
        device: torch.device,
        generations: int,
        own: OwnFitness | None = None,
    ) -> None:
        """Remember what is searched, and on what."""
        super().__init__(task, objective, budget, device)
        self.start, self.generations, self.own = start, generations, own
        self.is_repeatable = own is None  # a fitness of one's own may write files
        self._fitness: Fitness | None = None  # what it keeps belongs to a machine

    def __getstate__(self) -> dict[str, object]:
        """Leave behind what was made on this machine."""
        return {**super().__getstate__(), "_fitness": None}

    def on(self, device: torch.device) -> "WeightTrainer":
        """Return the same trainer on another device."""
        known = self.start, self.task, self.objective, self.budget
        return WeightTrainer(*known, device, self.generations, self.own)

    def fitness(self, folder: Path | None) -> Fitness:
        """Return what scores positions.

        folder: holds the model that was trained first; where it does not, that is trained again.
        """
        if self._fitness is None:
            searched = self.start.searched(self._trained(folder))
            seed = self.start.seed
            self._fitness = Fitness(
                searched, self.task, self.objective.name, seed, self.device, self.own
            )
        return self._fitness

    def train(self, job: Job, hear: Hear) -> Trained:
        """Return what became of a chunk; a hybrid descends first, and says where that has led."""
        fitness, start = self.fitness(job.folder), time.perf_counter()
        settings = [candidate.settings for candidate in job.candidates]
        seeds, steps = job.candidates[0].seeds, fitness.searched.table.gradient_steps
        placed = np.stack([one.position for one in job.candidates]).astype(np.float32)
        knobs = placed.shape[1] - self.start.count
        if steps:
            orders = [training_seed(seeds[0], one.particle) for one in job.candidates]
            falls = job.generation + 1 >= self.generations
            placed[:, knobs:] = descended(fitness, settings, placed[:, knobs:], orders, falls)
        scores = fitness.score(settings, torch.from_numpy(placed[:, knobs:]), seeds)
        hear(Step(self.budget.steps, len(scores)))
        seconds = (time.perf_counter() - start) / len(scores)
        outcomes = [
            Outcome(
                trial=candidate.trial,
                state=State.FAIL if score.error else State.COMPLETE,
                values=None if score.error else (score.value,),
                curve={},
                metrics={**self.costs(candidate.settings), **score.metrics},
                seconds=seconds,
                fidelity=0.0 if score.error else 1.0,
                error=score.error,
            )
            for candidate, score in zip(job.candidates, scores, strict=True)
        ]
        moved = placed.astype(np.float64) if steps else None
        best = record_index(outcomes, self.objective, job.record)
        if best is None:
            return Trained(outcomes, moved=moved)
        weights = fitness.parts(settings[best], torch.from_numpy(placed[best, knobs:]))
        return Trained(outcomes, best, weights, moved)

    def _trained(self, folder: Path | None) -> dict[str, torch.Tensor] | None:
        if not self.start.needs_training:
            return None
        path = None if folder is None else folder / FIRST
        if path is not None and path.exists():
            model = read_model(self.start.settings, self.task.info)
            return read_parts(path, model, self.task.info)
        steps = self.budget.steps
        return train_first(self.task, self.start.settings, self.start.seed, steps, self.device)
